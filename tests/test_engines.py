"""Every engine answers as the bundle was measured, or says in one sentence why it cannot."""

import json
import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import hybrid
from hybrid.__main__ import main
from hybrid.errors import BundleError, ConfigError, GoldenError
from hybrid.runtime import engines
from hybrid.runtime.bundle import MANIFEST, read_bundle
from hybrid.runtime.bundle_writer import write_portable
from hybrid.runtime.engines import ENGINES, engine_of, onnxruntime_engine, openvino_engine
from hybrid.runtime.session import Session
from hybrid.runtime.session_pool import SessionPool
from hybrid.toml_settings import to_struct
from serving.service import ClassifierService
from serving.settings import EngineSettings, Settings
from serving.telemetry.observer import Telemetry
from tests.serving.bundles import changed, copied
from tests.serving.http_requests import client
from tests.serving.threaded import served
from tests.test_runtime_lanes import ROWS, check
from tests.test_runtime_session import write_graph

pytest.importorskip("openvino")

FOLDER = Path(__file__).parent / "golden"
GOLDEN = FOLDER / "bundle-format-3"
TEXTS = ["The soup was wonderful.", "Cold, late and salty.", "bread", "We waited an hour, and then the fish was raw."]
NEAR = 2e-2
"""How far a probability in bf16 may be from that in fp32."""


@pytest.fixture
def in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without instructions for bf16."""
    monkeypatch.setattr(openvino_engine, "has_bf16", lambda core: False)


@pytest.fixture
def in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that is taken to have them: where it has none, OpenVINO computes in fp32 all the same."""
    monkeypatch.setattr(openvino_engine, "has_bf16", lambda core: True)


@pytest.fixture
def int8(tmp_path: Path) -> Path:
    """A bundle that says it is int8."""
    return changed(copied(GOLDEN, tmp_path / "int8"), precision="int8_row")


@pytest.fixture
def portable(tmp_path: Path, int8: Path) -> Path:
    """A bundle that says it is int8, with one in fp32 that has a threshold of its own."""
    threshold = json.loads((GOLDEN / MANIFEST).read_text())["threshold"]
    fp32 = changed(copied(GOLDEN, tmp_path / "fp32"), threshold=threshold | {"value": 0.123})
    write_portable(tmp_path / "portable", served=int8, fp32=fp32)
    return tmp_path / "portable"


def test_openvino_in_fp32_answers_as_onnxruntime_does(in_fp32: None) -> None:
    here, there = hybrid.load(GOLDEN), hybrid.load(GOLDEN, engine="openvino")
    assert (there.engine, there.precision, there.bundle) == ("openvino", "fp32", here.bundle)
    np.testing.assert_allclose(there.probs(TEXTS), here.probs(TEXTS), atol=1e-5)
    assert [word.text for word in there.explain(TEXTS[0]).words] == ["The", "soup", "was", "wonderful", "."]
    assert there.classify([TEXTS[0]])[0].label == here.classify([TEXTS[0]])[0].label


def test_openvino_in_bf16_is_near_and_says_what_it_computes_in(in_bf16: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        classifier = hybrid.load(GOLDEN, engine="openvino")
    assert classifier.precision in ("bf16", "fp32")
    assert f"the engine openvino computes it in {classifier.precision}" in caplog.text
    np.testing.assert_allclose(classifier.probs(TEXTS), hybrid.load(GOLDEN).probs(TEXTS), atol=NEAR)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_neighbours_in_a_batch_move_nothing(threads: int, finished: Path) -> None:
    classifier = hybrid.load(finished / "bundle", engine="openvino", threads=threads)
    texts = TEXTS * 20
    alone = np.concatenate([classifier.probs([text]) for text in TEXTS])
    np.testing.assert_allclose(classifier.probs(texts)[: len(TEXTS)], alone, atol=1e-3)
    np.testing.assert_allclose(alone, hybrid.load(finished / "bundle").probs(TEXTS), atol=NEAR)


def test_callers_in_many_threads_get_their_own_rows(in_fp32: None, tmp_path: Path) -> None:
    write_graph(tmp_path / "model.onnx", scale=1.0)
    pool = SessionPool(Session(tmp_path / "model.onnx", threads=2, engine="openvino"), pad_id=0)
    parts = [ROWS[start : start + 20] for start in range(0, len(ROWS), 20)]
    with ThreadPoolExecutor(8) as callers:
        for part, outputs in zip(parts, callers.map(pool.run, parts), strict=True):
            check(part, outputs)


@pytest.mark.parametrize(("threads", "calls"), [(1, 1), (2, 1), (1, 2)])
def test_openvino_keeps_to_the_threads_that_it_is_given(threads: int, calls: int, tmp_path: Path) -> None:
    write_graph(tmp_path / "model.onnx", scale=1.0)
    session = Session(tmp_path / "model.onnx", threads=threads, calls=calls, engine="openvino")
    graph = session._graph
    assert isinstance(graph, openvino_engine.OpenvinoGraph)
    # OpenVINO itself starts no more threads than there are processors.
    assert graph._model.get_property("INFERENCE_NUM_THREADS") == min(threads * calls, os.cpu_count() or 1)
    assert int(graph._model.get_property("NUM_STREAMS")) == calls


def test_an_engine_that_takes_fp32_runs_that_graph_of_a_portable_bundle(portable: Path) -> None:
    classifier = hybrid.load(portable, engine="openvino")
    assert (classifier.bundle.precision, classifier.bundle.threshold.value) == ("fp32", 0.123)
    assert hybrid.load(portable).bundle.precision == "int8_row"


def test_a_bundle_without_an_fp32_graph_is_refused_with_the_remedy(
    int8: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BundleError, match="takes a graph in fp32, and this bundle carries int8_row alone"):
        hybrid.load(int8, engine="openvino")
    assert main(["predict", str(int8), "soup", "--engine-backend", "openvino"]) == 2
    error = capsys.readouterr().err
    assert "hybrid bundle RUN FOLDER --portable" in error
    assert len(error.splitlines()) == 1


def test_golden_texts_hold_for_the_engine_too(tmp_path: Path) -> None:
    bundle = copied(GOLDEN, tmp_path / "bundle")
    golden = [{"text": example.text, "probs": example.probs[::-1]} for example in read_bundle(bundle).golden]
    with pytest.raises(GoldenError, match=r"this processor or openvino computes .*; take the engine onnxruntime"):
        hybrid.load(changed(bundle, golden=golden), engine="openvino")


def test_a_file_that_is_no_graph_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    for engine in ("onnxruntime", "openvino"):
        with pytest.raises(BundleError, match=r"model\.onnx: cannot be loaded"):
            Session(tmp_path / "model.onnx", engine=engine)


def test_an_engine_that_is_unknown_or_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"engine 'tensorrt': expected one of onnxruntime, openvino, cuda"):
        hybrid.load(GOLDEN, engine="tensorrt")
    with pytest.raises(ConfigError, match=r"backend = 'tensorrt': expected one of onnxruntime, openvino, cuda"):
        to_struct({"engine": {"backend": "tensorrt"}}, Settings, "settings.toml", "settings")
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"openvino is not installed; pip install 'hybrid-cascade\[openvino\]'"):
        hybrid.load(GOLDEN, engine="openvino")


def test_cuda_without_its_provider_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_engine.onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ConfigError, match="has no CUDA provider; on a machine with an NVIDIA GPU"):
        hybrid.load(GOLDEN, engine="cuda")


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this onnxruntime has the provider"
)
def test_cuda_whose_provider_does_not_start_never_computes_on_the_processor_in_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """onnxruntime-gpu on a machine without a GPU opens the session on the processor; this onnxruntime does the same."""
    monkeypatch.setattr(onnxruntime_engine.onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"), pytest.raises(ConfigError, match="cannot start"):
        hybrid.load(GOLDEN, engine="cuda")


FORKS = """
import os, sys
import hybrid
from hybrid.errors import ConfigError

classifier = hybrid.load(sys.argv[1], engine="openvino", threads=2)
texts = ["The soup was awful and stale.", "superb bread"] * 20
classifier.probs(texts)
child = os.fork()
if child == 0:
    status = 1
    for attempt in (lambda: classifier.probs(texts), lambda: hybrid.load(sys.argv[1], engine="openvino")):
        try:
            attempt()
        except ConfigError as error:
            status = 7 if "forked from one that had loaded OpenVINO" in str(error) else 1
    assert hybrid.load(sys.argv[1]).probs(texts).shape[0] == len(texts)
    os._exit(status)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), classifier.probs(texts).shape[0])
"""


@pytest.mark.slow
def test_a_forked_child_is_told_and_neither_hangs_nor_stops_its_parent() -> None:
    command = [sys.executable, "-c", FORKS, str(GOLDEN)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["7", "40"], done.stderr


@pytest.mark.slow
def test_a_file_is_scored_by_the_engine_and_another_engine_starts_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    words = ["score", str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "--bundle", str(GOLDEN)]
    assert main([*words, "--engine-backend", "openvino"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["hybrid_label"] for row in rows] == [p.label for p in hybrid.load(GOLDEN).classify(TEXTS)]
    assert main([*words, "--engine-backend", "openvino"]) == 0
    assert "unchanged, nothing to score" in capsys.readouterr().err
    assert main(words) == 0
    assert "starting over: the output was made from something else" in capsys.readouterr().err


@pytest.mark.slow
def test_the_service_runs_on_the_engine_and_says_so_everywhere(portable: Path) -> None:
    settings = Settings(engine=EngineSettings(backend="openvino", threads=1))
    watch = Telemetry(settings)
    service = ClassifierService(portable, settings, watch, on_bundle=watch.set_bundle)
    with served(service, settings, extra_routes=watch.routes()) as url:
        described = client().get(f"{url}/v1/bundle").json()
        answer = client().post(f"{url}/v1/classify", json={"inputs": TEXTS[0]}).json()["answers"][0]
        metrics = client().get(f"{url}/metrics").text
    precision = hybrid.load(portable, engine="openvino").precision
    assert (described["engine"], described["precision"]) == ("openvino", precision)
    assert (answer["precision"], answer["threshold"]) == (precision, 0.123)
    assert 'engine="openvino"' in metrics
    assert f'precision="{precision}"' in metrics
    probs = dict(zip(service.bundle.labels, hybrid.load(GOLDEN).probs(TEXTS[:1])[0], strict=True))
    assert answer["probs"] == pytest.approx(probs, abs=NEAR)


def test_a_service_without_a_graph_for_its_engine_does_not_start(int8: Path) -> None:
    settings = Settings(engine=EngineSettings(backend="openvino"))
    with pytest.raises(BundleError, match="takes a graph in fp32"):
        ClassifierService(int8, settings, Telemetry(settings))


@pytest.mark.slow
def test_a_service_whose_engine_cannot_start_ends_in_one_sentence() -> None:
    command = [sys.executable, "-m", "serving", str(GOLDEN), "--port", "0", "--set", "engine.backend=cuda"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: engine cuda: ")
    assert "Traceback" not in done.stderr


def test_every_engine_names_a_package_and_the_default_is_there() -> None:
    assert next(iter(ENGINES)) == engines.DEFAULT_ENGINE
    assert not engine_of(engines.DEFAULT_ENGINE).takes_fp32_alone
    assert all(engine.takes_fp32_alone for name, engine in ENGINES.items() if name != engines.DEFAULT_ENGINE)
