"""hybrid doctor: every verdict is forced on any machine, and the command says it."""

import json
import os
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest
import torch
from packaging.requirements import Requirement

import hybrid
import hybrid.artifacts
from hybrid.__main__ import main
from hybrid.doctor import environment, int8, machine, network, packages, training
from hybrid.doctor.bundle import Timing, Way, bundle_checks, choice_check, loaded_check
from hybrid.doctor.check import Check, render
from hybrid.encoders.device import PrecisionChoice, training_device
from hybrid.encoders.memory import memory_need
from hybrid.errors import BundleError
from hybrid.machine.memory import Memory
from hybrid.machine.processor import Processor
from hybrid.machine.threads import Threads
from hybrid.recipe_files.find import find_recipe
from hybrid.recipe_files.read import read_recipe
from hybrid.runtime.bundle import read_bundle

XEON = Processor(name="Xeon", architecture="x86_64", features=("AVX2", "AVX512", "VNNI", "AMX-INT8"))
HASWELL = Processor(name="Haswell", architecture="x86_64", features=("AVX2",))
UNLISTED = Processor(name="a processor", architecture="AMD64", features=None)


@pytest.fixture
def index() -> Iterator[str]:
    """A package index on this machine that wants a password."""

    class Index(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://name:secret@127.0.0.1:{server.server_port}/simple/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


def test_a_line_says_the_verdict_first_and_what_to_do_below() -> None:
    checks = [
        Check(name="cache", fact="empty"),
        Check(name="hub", fact="no answer", verdict="fails", because="no models", remedy="use a folder"),
    ]
    assert render(checks) == [
        "ok       cache  empty",
        "fails    hub    no answer",
        "                no models; use a folder",
    ]


def test_a_processor_without_vnni_is_slow_and_one_that_is_not_known_is_no_fault() -> None:
    assert machine.processor_check(XEON).verdict == "ok"
    assert machine.processor_check(HASWELL).verdict == "slow"
    assert "does not list" in machine.processor_check(UNLISTED).fact


def test_a_quota_below_the_machine_is_named() -> None:
    check = machine.threads_check(Threads(usable=1, processors=4, quota=1.5))
    assert "a quota of 1.5" in check.fact


def test_too_little_memory_fails_and_memory_that_nobody_tells_is_unknown() -> None:
    assert machine.memory_check(Memory(total=16 * 10**9, available=8 * 10**9)).verdict == "ok"
    assert machine.memory_check(Memory(total=16 * 10**9, available=10**9)).verdict == "fails"
    assert machine.memory_check(Memory(total=None, available=None)).verdict == "unknown"


def test_a_gpu_is_named_and_training_would_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.accelerator_check().fact.startswith("none: ") or training_device() != "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert machine.accelerator_check().fact.startswith("Apple GPU (mps)")
    assert training_device() == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (120 * 10**9, 141 * 10**9))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "NVIDIA H200")
    assert machine.accelerator_check().fact == "NVIDIA H200, 141 GB, 120 GB of it free"
    assert training_device() == "cuda"


def test_the_least_memory_is_what_the_trial_encoder_takes_with_its_libraries() -> None:
    recipe = read_recipe(find_recipe("sentiment"), profile="", overrides={})
    model, _ = training.trial_inputs(recipe)
    need = memory_need(model, recipe.train, tokens=recipe.encoder.max_length, bf16=False)
    libraries = 0.7e9
    assert 0.5 * machine.SMALL_MEMORY < need.total + 4 * need.parameters + libraries < machine.SMALL_MEMORY


def test_a_full_disk_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert machine.disk_check(tmp_path, "disk").name == "disk"
    monkeypatch.setattr(machine, "SMALL_DISK", 10**18)
    assert machine.disk_check(tmp_path, "disk").verdict == "fails"


def test_a_version_that_does_not_fit_is_named_with_the_command_that_mends_it() -> None:
    check = packages.versions_check([Requirement("numpy>=1"), Requirement("msgspec>=999")])
    assert check.verdict == "fails"
    assert check.because == "expected msgspec >=999"
    assert check.remedy == "pip install 'msgspec>=999'"


def test_an_extra_lacks_what_is_not_installed_and_includes_other_extras() -> None:
    requirements = [
        Requirement("numpy; extra == 'a'"),
        Requirement("no-such-package; extra == 'a'"),
        Requirement("hybrid-cascade[a]; extra == 'b'"),
    ]
    assert packages.missing(requirements, "a") == ["no-such-package"]
    assert packages.missing(requirements, "b") == ["no-such-package"]
    assert packages.missing(requirements, "c") == []


def test_a_server_that_wants_a_password_answers_and_no_password_is_shown(index: str) -> None:
    check = network.index_check(index, network.ask(index))
    assert check.verdict == "ok"
    assert "secret" not in check.fact


def test_a_server_that_is_silent_is_given_up(silent: str) -> None:
    assert network.ask(silent, limit_s=0.2) == "no answer within 0.2 s"
    check = network.hub_check(silent, "no answer within 0.2 s")
    assert check.verdict == "fails"
    assert "--profile embedded" in check.remedy


def test_an_index_that_is_no_url_fails() -> None:
    check = network.index_check("http://[::1", network.ask("http://[::1"))
    assert (check.verdict, check.fact[:11]) == ("fails", "http://[::1")


def test_every_extra_for_users_is_looked_at() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert set(project["optional-dependencies"]) - {"all", "cloud", "dev", "docs", "recipe"} == set(packages.USED)


def test_a_port_where_nobody_listens_is_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert network.ask(f"http://127.0.0.1:{port}/").startswith("no connection (")


def test_offline_by_choice_is_no_fault(monkeypatch: pytest.MonkeyPatch, index: str) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PIP_INDEX_URL", index)
    assert [check.verdict for check in network.network_checks()] == ["ok", "ok"]


def test_keys_are_named_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in environment.KEYS:
        monkeypatch.delenv(name, raising=False)
    assert environment.keys_check().fact.startswith("none set")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    fact = environment.keys_check().fact
    assert "ANTHROPIC_API_KEY" in fact
    assert "sk-secret" not in fact


def test_without_pip_what_the_cache_lacks_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HYBRID_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: None)
    check = environment.pip_check()
    assert check.verdict == "fails"
    assert "all-MiniLM-L6-v2" in check.because
    monkeypatch.setattr(environment, "cached", lambda name: True)
    assert environment.pip_check().verdict == "ok"


def test_a_cache_below_a_file_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HYBRID_CACHE", str(tmp_path / "file" / "cache"))
    check = environment.cache_check()
    assert check.verdict == "fails"
    assert "HYBRID_CACHE" in check.remedy


def test_an_artefact_counts_only_where_it_is_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HYBRID_CACHE", str(tmp_path))
    assert not hybrid.artifacts.cached("vader-tweets")


def test_int8_that_saturates_is_seen_and_exact_int8_is_ok() -> None:
    exact = int8.LENGTH * int8.ACTIVATION * int8.WEIGHT
    assert int8.judged(exact, XEON).verdict == "ok"
    saturated = int8.judged(int8.LENGTH // 2 * (2**15 - 1), HASWELL)
    assert saturated.verdict == "slow"
    assert "saturates" in saturated.fact


def test_int8_is_tried_with_a_real_product() -> None:
    exact = int8.LENGTH * int8.ACTIVATION * int8.WEIGHT
    assert 0 < int8.largest_product() <= exact


def test_without_onnx_the_features_decide() -> None:
    assert int8.by_features(XEON, lacking="onnx").verdict == "ok"
    assert int8.by_features(HASWELL, lacking="onnx").verdict == "unknown"


def test_the_training_precision_says_what_decided_it() -> None:
    bf16 = PrecisionChoice(precision="bf16", reason="bf16_faster", seconds={"fp32": 0.48, "bf16": 0.23})
    assert training.precision_check(bf16).fact == "bf16; a trial step: fp32 0.48 s, bf16 0.23 s"
    failed = PrecisionChoice(precision="fp32", reason="bf16_failed", error="no kernel")
    assert training.precision_check(failed).fact == "fp32; bf16 failed: no kernel"


def test_a_slow_machine_and_a_busy_one_are_told_apart() -> None:
    recipe = read_recipe(find_recipe("sentiment"), profile="", overrides={})
    fast, slow, busy = (
        training.recipe_check(recipe, training.Step(clock_s=clock, alone_s=alone))
        for clock, alone in ((0.5, 0.4), (60.0, 50.0), (4.0, 0.4))
    )
    assert fast.verdict == "ok"
    assert slow.verdict == busy.verdict == "slow"
    assert "a training step takes 50.0 s" in slow.because
    assert "10 times as slow" in busy.because


def test_every_way_to_run_a_bundle_is_timed_on_its_golden_texts_and_one_is_named(finished: Path) -> None:
    pytest.importorskip("openvino")
    checks = bundle_checks(finished / "bundle")
    names = [check.name for check in checks]
    assert (names[0], names[1], names[-1]) == ("bundle", "onnxruntime, fp32", "take")
    assert names[2] in ("openvino, fp32", "openvino, bf16")
    assert "golden texts hold" in checks[0].fact
    assert all("ms a text where 32 come together" in check.fact for check in checks[1:3])
    if names[3] == "cuda":
        assert checks[3].verdict == "unknown"
        assert "has no CUDA provider" in checks[3].because
    assert any(name in checks[-1].fact for name in names[1:3])


def test_another_way_is_named_only_where_it_is_clearly_faster(finished: Path) -> None:
    classifier = hybrid.load(finished / "bundle")
    ways = [
        Way(name="onnxruntime, int8_static", classifier=classifier, setting=""),
        Way(name="openvino, bf16", classifier=classifier, setting="the engine openvino"),
    ]

    def choice(*timings: tuple[float, float]) -> str:
        return choice_check(ways, [Timing(alone_ms=alone, many_ms=many) for alone, many in timings]).fact

    assert choice((5.0, 2.0), (4.8, 1.9)) == "onnxruntime, int8_static (nothing need be set)"
    assert choice((5.0, 2.0), (2.0, 1.0)) == "openvino, bf16 (the engine openvino)"
    assert choice((5.0, 2.0), (6.0, 1.0)) == (
        "onnxruntime, int8_static (nothing need be set) for texts that come alone; openvino, bf16 (the engine openvino) "
        "where many come together"
    )


def test_a_portable_bundle_whose_fp32_graph_answers_is_slow(finished: Path) -> None:
    made = msgspec.structs.replace(read_bundle(finished / "bundle"), precision="int8")
    check = loaded_check(msgspec.structs.replace(made, precision="fp32"), made)
    assert (check.verdict, "fp32: its" in check.fact) == ("slow", True)
    assert "the int8 graph computes something else here" in check.because


def test_a_bundle_that_this_processor_computes_otherwise_fails(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise BundleError("the golden text 'soup' has a probability that is 0.1 off")

    monkeypatch.setattr("hybrid.load", refuse)
    (check,) = bundle_checks(finished / "bundle")
    assert check.verdict == "fails"
    assert "0.1 off" in check.because


def test_the_command_prints_a_screen_and_one_json_object(capsys: pytest.CaptureFixture[str], finished: Path) -> None:
    assert main(["doctor", str(finished / "bundle")]) == 0
    assert "golden texts hold" in capsys.readouterr().out
    assert main(["doctor", str(finished / "bundle"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["machine"]["threads"]["usable"] >= 1
    assert {check["verdict"] for check in answer["checks"]} <= {"ok", "slow", "fails", "unknown"}


def test_a_bundle_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["doctor", str(tmp_path)]) == 2
    assert "not a bundle" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_machine_is_examined_offline(tmp_path: Path) -> None:
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "HF_HUB_OFFLINE": "1", "HYBRID_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "hybrid", "doctor", "--json"],
        capture_output=True, text=True, check=False, env=os.environ | offline, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["package index"]["verdict"] == "fails"
    assert checks["int8"]["verdict"] in ("ok", "slow")
    assert "about" in checks["sentiment recipe"]["fact"]


@pytest.mark.slow
def test_the_runtime_alone_examines_what_it_can(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'onnx', 'psutil'): sys.modules[name] = None\n"
        "from hybrid.__main__ import main\n"
        "sys.exit(main(['doctor']))"
    )
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "HF_HUB_OFFLINE": "1", "HYBRID_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ | offline
    )
    assert done.returncode == 0, done.stderr
    assert "bundles can be used here, and not made" in done.stdout
