"""A portable bundle answers with the fastest of its graphs that this machine computes as it was measured."""

import asyncio
import json
import logging
from pathlib import Path

import numpy as np
import pytest

import hybrid
from hybrid.__main__ import main
from hybrid.errors import BundleError, GoldenError
from hybrid.files.hashing import sha256_of_file
from hybrid.runtime.bundle import FALLBACK, MANIFEST, manifest_of, read_bundle
from hybrid.runtime.bundle_writer import write_portable
from serving.service import ClassifierService
from serving.settings import Settings
from tests.serving.bundles import changed, copied
from tests.serving.http_requests import client
from tests.serving.live_service import NullObserver
from tests.serving.threaded import served

GOLDEN = Path(__file__).parent / "golden" / "bundle-format-3"
TEXTS = ["The soup was wonderful.", "Cold, late and salty."]


@pytest.fixture
def portable(tmp_path: Path) -> Path:
    """A bundle that says it is int8, with one in fp32 that has a threshold of its own."""
    int8 = changed(copied(GOLDEN, tmp_path / "int8"), precision="int8_row")
    threshold = json.loads((GOLDEN / MANIFEST).read_text())["threshold"]
    fp32 = changed(copied(GOLDEN, tmp_path / "fp32"), threshold=threshold | {"value": 0.123})
    write_portable(tmp_path / "portable", served=int8, fp32=fp32)
    return tmp_path / "portable"


def on_another_machine(portable: Path, *, of: str = "") -> Path:
    """Let the golden texts of one graph have other probabilities, as if this machine computed it otherwise."""
    folder = portable / of
    golden = json.loads((folder / MANIFEST).read_text())["golden"]
    changed(folder, golden=[example | {"probs": example["probs"][::-1]} for example in golden])
    if of:
        changed(portable, fallback=sha256_of_file(folder / MANIFEST))
    return portable


def test_the_served_graph_answers_where_its_golden_texts_hold(
    portable: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.WARNING):
        classifier = hybrid.load(portable)
    assert classifier.bundle.precision == "int8_row"
    assert caplog.records == []
    assert main(["info", str(portable)]) == 0
    assert "int8_row answers on this machine; fp32 where the golden texts do not hold" in capsys.readouterr().out


def test_the_fp32_graph_answers_elsewhere_with_its_own_threshold_and_says_so_once(
    portable: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    on_another_machine(portable)
    with caplog.at_level(logging.WARNING):
        classifier = hybrid.load(portable)
    assert (classifier.bundle.precision, classifier.bundle.threshold.value) == ("fp32", 0.123)
    np.testing.assert_allclose(classifier.probs(TEXTS), hybrid.load(GOLDEN).probs(TEXTS), atol=1e-6)
    [line] = [record.getMessage() for record in caplog.records]
    assert "computes the int8_row graph otherwise than where it was made" in line
    assert line.endswith("its fp32 graph answers instead")
    assert main(["info", str(portable)]) == 0
    assert "fp32 answers on this machine" in capsys.readouterr().out


def test_where_neither_holds_the_bundle_is_refused(portable: Path) -> None:
    on_another_machine(on_another_machine(portable), of=FALLBACK)
    with pytest.raises(GoldenError, match="computes the fp32 graph otherwise"):
        hybrid.load(portable)


def test_a_bundle_that_is_not_portable_is_refused_with_the_remedy(portable: Path) -> None:
    folder = on_another_machine(changed(portable, fallback=""))
    with pytest.raises(GoldenError, match="with `python -m hybrid bundle RUN FOLDER --portable`"):
        hybrid.load(folder)


def test_a_scoring_that_goes_on_with_the_other_graph_is_another_scoring(portable: Path) -> None:
    assert manifest_of(portable, hybrid.load(portable).bundle) == portable / MANIFEST
    assert manifest_of(on_another_machine(portable), hybrid.load(portable).bundle) == portable / FALLBACK / MANIFEST
    assert manifest_of(GOLDEN, hybrid.load(GOLDEN).bundle) == GOLDEN / MANIFEST


def answered(folder: Path) -> tuple[dict[str, object], dict[str, object], str]:
    settings = Settings()
    with served(ClassifierService(folder, settings, NullObserver()), settings) as url:
        described = client().get(f"{url}/v1/bundle").json()
        answer = client().post(f"{url}/v1/classify", json={"inputs": TEXTS[0]}).json()["answers"][0]
    return described, answer, str(folder)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8_row", "fp32"])
def test_the_service_says_which_graph_answers_in_every_answer(
    precision: str, portable: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if precision == "fp32":
        on_another_machine(portable)
    with caplog.at_level(logging.WARNING):
        described, answer, _ = answered(portable)
    assert described["precision"] == answer["precision"] == precision
    assert answer["bundle_id"] == described["bundle_id"]
    lines = [record.getMessage() for record in caplog.records if "answers instead" in record.getMessage()]
    assert len(lines) == (precision == "fp32")


@pytest.mark.slow
def test_a_swap_takes_the_graph_that_holds_and_the_folder_stays_the_one_that_was_named(portable: Path) -> None:
    on_another_machine(portable)

    async def story() -> None:
        service = ClassifierService(GOLDEN, Settings(), NullObserver())
        await service.start()
        await service.swap(str(portable))
        assert (service.bundle.precision, service.bundle.threshold.value, service.folder) == ("fp32", 0.123, portable)
        await service.swap(str(service.folder))
        assert service.folder == portable
        await service.stop()

    asyncio.run(story())


def other_manifest(folder: Path) -> None:
    changed(folder / FALLBACK, policy="another")


def other_graph(folder: Path) -> None:
    with (folder / FALLBACK / "model.onnx").open("ab") as file:
        file.write(b"x")


def no_fallback(folder: Path) -> None:
    (folder / FALLBACK / MANIFEST).unlink()


def one_more_floor(folder: Path) -> None:
    changed(folder / FALLBACK, fallback="0" * 64)
    changed(folder, fallback=sha256_of_file(folder / FALLBACK / MANIFEST))


@pytest.mark.parametrize("harm", [other_manifest, other_graph, no_fallback, one_more_floor])
def test_the_second_graph_is_checked_before_it_is_needed(harm: object, portable: Path) -> None:
    for path in (portable / FALLBACK).iterdir():  # the fixture's files are links
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    harm(portable)  # type: ignore[operator]
    with pytest.raises(BundleError, match=r"fp32"):
        hybrid.load(portable)


def test_bundles_of_two_models_make_no_portable_one(tmp_path: Path) -> None:
    int8 = changed(copied(GOLDEN, tmp_path / "int8"), precision="int8_row")
    other = changed(copied(GOLDEN, tmp_path / "other"), encoder="another")
    for fp32 in (other, int8):
        with pytest.raises(BundleError, match="expected the fp32 bundle of the run"):
            write_portable(tmp_path / "portable", served=int8, fp32=fp32)
    assert not (tmp_path / "portable").exists()


@pytest.mark.slow
def test_the_command_makes_one_of_a_finished_run(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run of the fixture serves fp32, so that another precision stands in its manifest for the moment."""
    if read_bundle(finished / "bundle").precision == "fp32":
        assert main(["bundle", str(finished), str(tmp_path / "portable"), "--portable"]) == 2
        assert "serves the fp32 graph, which every machine computes alike" in capsys.readouterr().err
    manifest = (finished / "bundle" / MANIFEST).read_bytes()
    try:
        changed(finished / "bundle", precision="int8_row")
        assert main(["bundle", str(finished), str(tmp_path / "portable"), "--portable"]) == 0
    finally:
        (finished / "bundle" / MANIFEST).write_bytes(manifest)
    assert "int8_row answers on this machine" in capsys.readouterr().out
    assert hybrid.load(on_another_machine(tmp_path / "portable")).bundle.precision == "fp32"
    assert not list(finished.glob(".portable-*"))
