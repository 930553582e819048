"""A portable bundle answers with the fastest of its graphs that this machine computes as it was measured."""

import asyncio
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hybrid
from hybrid.__main__ import main
from hybrid.errors import BundleError, GoldenError
from hybrid.files.hashing import sha256_of_file
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.requantize import write_run_manifest
from hybrid.pipeline.run import Run
from hybrid.pipeline.stages import run_stage
from hybrid.progress import Screen
from hybrid.recipe_files.read import read_recipe
from hybrid.runtime.bundle import FALLBACK, MANIFEST, manifest_of, read_bundle
from hybrid.runtime.bundle_writer import write_portable
from hybrid.stages.calibrate import CALIBRATE
from hybrid.stages.quantize import QUANTIZE
from serving.service import ClassifierService
from serving.settings import Settings
from tests.conftest import hybrid_recipe
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
    with pytest.raises(GoldenError, match="with `hybrid bundle RUN FOLDER --portable`"):
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


PORTABLE: dict[str, Any] = {
    "bundle": {"portable": True},
    "quantize": {"precision": "int8_row", "margin": 1.0, "agreement": 0.0, "neighbours": 1.0},
}
"""A recipe that asks for a portable bundle, with gates that any int8 passes."""


@pytest.fixture(scope="module")
def project(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project of the finished run, and of the run."""
    folder = tmp_path_factory.mktemp("portable") / "project"
    shutil.copytree(finished.parents[2], folder)
    return folder


def calibrated_with(project: Path, settings: dict[str, Any]) -> Run:
    """Bring the run up to date under other settings, as far as its bundle."""
    recipe = read_recipe(project / "dishes" / "recipe.toml", overrides=settings)
    run = Run(project / "runs" / "dishes" / "default", Screen())
    context = RunContext(recipe, project / "dishes", run, project / "runs" / "dishes" / "traces.sqlite")
    for stage in (QUANTIZE, CALIBRATE):
        run_stage(stage, context)
    return run


@pytest.mark.slow
def test_a_recipe_that_asks_for_it_gets_a_portable_bundle_and_the_report_says_so(project: Path) -> None:
    settings = [
        f"{section}.{name}={str(value).lower()}"
        for section, values in PORTABLE.items()
        for name, value in values.items()
    ]
    words = [word for setting in settings for word in ("--set", setting)]
    recipe = project / "dishes" / "recipe.toml"
    done = hybrid_recipe(str(recipe), "--runs", str(project / "runs"), *words, cwd=project)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "(int8_row, and fp32 for other machines)" in done.stdout
    run = project / "runs" / "dishes" / "default"
    summary = json.loads((run / "summary.json").read_text())
    fallback = summary["precision"]["fallback"]
    served, fp32 = read_bundle(run / "bundle"), read_bundle(run / "bundle" / FALLBACK)
    assert (served.precision, fp32.precision, fallback["precision"]) == ("int8_row", "fp32", "fp32")
    assert fp32.threshold.value == fallback["threshold"]["value"]
    assert served.calibration != fp32.calibration
    assert "The bundle is portable. It carries the fp32 graph too" in (run / "report.html").read_text()
    assert "also carries the fp32 graph" in (run / "bundle" / "README.md").read_text()
    copy = project / "copy"
    shutil.copytree(run / "bundle", copy)
    assert hybrid.load(on_another_machine(copy)).bundle.precision == "fp32"


@pytest.mark.slow
def test_its_second_graph_is_that_of_the_bundle_in_fp32(project: Path, tmp_path: Path) -> None:
    run = calibrated_with(project, PORTABLE)
    assert main(["bundle", str(run.folder), str(tmp_path / "fp32"), "--precision", "fp32"]) == 0
    alone, second = read_bundle(tmp_path / "fp32"), read_bundle(run.path("bundle", FALLBACK))
    for name in ("calibration", "threshold", "reference", "golden", "files"):
        assert getattr(alone, name) == getattr(second, name), name
    assert not list(run.path("calibrate").glob(".portable-*"))


@pytest.mark.slow
def test_a_lost_second_graph_is_written_again_and_one_that_is_no_longer_asked_for_goes(project: Path) -> None:
    run = calibrated_with(project, PORTABLE)
    run.path("bundle", FALLBACK, "model.onnx").unlink()
    assert calibrated_with(project, PORTABLE).worked == ["calibrate"]
    assert hybrid.load(run.path("bundle")).bundle.fallback
    assert calibrated_with(project, PORTABLE).worked == []
    calibrated_with(project, PORTABLE | {"bundle": {"portable": False}})
    assert not run.path("bundle", FALLBACK).exists()
    assert not read_bundle(run.path("bundle")).fallback


@pytest.mark.slow
def test_a_bundle_that_is_in_fp32_anyway_carries_one_graph(project: Path) -> None:
    run = calibrated_with(project, {"bundle": {"portable": True}, "quantize": {"precision": "fp32"}})
    assert (read_bundle(run.path("bundle")).precision, run.path("bundle", FALLBACK).exists()) == ("fp32", False)
    assert "fallback" not in run.report("calibrate")


@pytest.mark.slow
def test_the_command_makes_one_of_a_finished_run(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = project / "runs" / "dishes" / "default"
    gates = PORTABLE["quantize"]
    for precision, graph in (("int8_row", "int8_row"), ("auto", "int7_mixed")):
        # What the run itself ships does not matter, as long as it is not fp32.
        calibrated_with(project, {"quantize": gates | {"precision": "int8_row"}})
        settings = {"quantize": gates | {"precision": precision}}
        recipe = read_recipe(project / "dishes" / "recipe.toml", overrides=settings)
        write_run_manifest(Run(run, Screen()), recipe, project / "dishes")
        assert main(["bundle", str(run), str(tmp_path / precision), "--portable"]) == 0
        assert f"{graph} answers on this machine" in capsys.readouterr().out
        assert hybrid.load(on_another_machine(tmp_path / precision)).bundle.precision == "fp32"
    assert not read_bundle(run / "bundle").fallback
    assert not list(run.glob(".precision-*"))
    calibrated_with(project, {"quantize": {"precision": "fp32"}})
    assert main(["bundle", str(run), str(tmp_path / "fp32"), "--portable"]) == 2
    assert "serves the fp32 graph, which every machine computes alike" in capsys.readouterr().err
