"""Stages are given what they declare and nothing else, and what they declare decides when they work again."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import hybrid
from hybrid.config import DataConfig, Recipe
from hybrid.files.hashing import sha256_of_file
from hybrid.files.table import read_rows, write_rows
from hybrid.overrides import merge
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.run import Run
from hybrid.pipeline.stage_lock import Locked, code_of, locked, problems, syntax_of, undeclared
from hybrid.pipeline.stages import STAGE_NAMES, STAGES, run_stage
from hybrid.pipeline.stamps import stamp_key
from hybrid.progress import Screen
from hybrid.recipe_files.read import read_recipe
from hybrid.stages.split import SPLIT
from hybrid.stages.stage import GOLD, ROWS, Reads, Stage, StageIO, Table, UndeclaredError
from hybrid.types import Example, Report, Row
from tests.conftest import hybrid_recipe, write_project

EVERYTHING: dict[str, Any] = {
    "data": {"trusted": 5},
    "teacher": {"model": "recorded", "traces": "traces.jsonl"},
    "second": {"model": "recorded", "traces": "traces.jsonl"},
    "decoder": {"model": "recorded", "traces": "traces.jsonl"},
    "verify": {"max_calls": 10, "more_calls": 10, "more": "second"},
    "synthesize": {"use": "auto"},
}
"""Settings under which every optional part of the story is there, so that no stage leaves a declaration out."""

ASKED = "verify synthesize"
ENCODED = "verify clean synthesize train export quantize calibrate evaluate"
RERUN: dict[str, tuple[Any, str]] = {
    # field: another value, and the stages that read the field themselves
    "name": ("other", "student calibrate"),
    "description": ("other", ""),
    "labels": (("bad", "plain", "good"), "split"),
    "task": ("multi_label", "split verify clean synthesize train quantize student calibrate evaluate"),
    "seed": (1, "split verify clean synthesize train quantize student calibrate evaluate"),
    "profile": ("other", ""),
    **{
        f"data.{name}": (value, "split")
        for name, value in {
            "prepare": "prepare.py",
            "train": "other.csv",
            "calibration": "other.csv",
            "test": "other.csv",
            "text": "other",
            "label": "other",
            "gold": "other",
            "id": "other",
            "separator": ";",
            "alike_labels": "join",
            "annotators": ("a", "b"),
            "no_vote": ("skipped",),
            "split": "other",
        }.items()
    },
    "data.trusted": (6, "split verify clean"),
    "data.audit": ("audit.csv", "split verify clean"),
    "split.calibration": (91, "split"),
    "split.test": (91, "split"),
    "split.train": (50, "split"),
    "split.near_duplicate": (0.9, "split"),
    "encoder.model": ("other", ENCODED),
    "encoder.max_length": (16, ENCODED),
    "encoder.truncate": ("left", ENCODED),
    "encoder.windows": ("mean", ENCODED),
    "encoder.overlap": (8, ENCODED),
    **{
        f"{role}.{name}": (value, stages)
        for role, stages in (("teacher", ASKED), ("second", "verify"), ("decoder", "calibrate evaluate"))
        for name, value in {
            "model": "none",
            "traces": "other.jsonl",
            "base_url": "http://127.0.0.1:1",
            "use_environment": True,
            "policy": "policy.md",
            "max_tokens": 10,
            "temperature": 0.5,
            "thinking": 2000,
            "workers": 1,
            "timeout_s": 1.0,
            "max_failed": 0.5,
            "batch": True,
            "cache": True,
            "prices": "prices.toml",
            "budget_usd": 1.0,
        }.items()
    },
    "decoder.model": ("none", "calibrate evaluate"),
    "verify.votes": (3, ASKED),
    "verify.answer": ("direct", ASKED),
    "verify.imports": (("votes.csv",), "verify calibrate"),
    "verify.max_calls": (11, "verify"),
    "verify.more_calls": (11, "verify"),
    "verify.more": ("votes", "verify"),
    "clean.method": ("consensus", "verify clean"),
    "clean.folds": (3, "verify clean"),
    "clean.relabel": (0.6, "verify clean"),
    "clean.drop": (0.1, "verify clean"),
    "clean.review_weight": (0.5, "verify clean"),
    "synthesize.use": (True, "synthesize"),
    **{
        f"synthesize.{name}": (value, "synthesize")
        for name, value in {
            "drafts": "drafts.jsonl",
            "per_class": 7,
            "minority": 0.5,
            "enough": 50,
            "wave": 20,
            "near_duplicate": 0.6,
            "near_meaning": 0.8,
            "classifier_floor": 0.4,
            "classifier_veto": 0.9,
            "temperatures": (0.1,),
        }.items()
    },
    **{
        # Drafts that must earn their place are tried with the whole training.
        f"train.{name}": (value, "synthesize train")
        for name, value in {
            "labels": "given",
            "epochs": 3,
            "batch_size": 4,
            "learning_rate": 1e-3,
            "warmup": 0.2,
            "weight_decay": 0.1,
            "validation": 0.2,
            "patience": 2,
            "loss": "focal",
            "focal_gamma": 1.0,
            "label_smoothing": 0.1,
            "class_weights": "sqrt",
            "soft_labels": 0.5,
            "row_weights": False,
            "precision": "fp32",
            "checkpoint_steps": 5,
            "accumulation_steps": 2,
            "gradient_checkpointing": True,
            "evidence": 0.5,
        }.items()
    },
    **{
        f"export.{name}": (value, "export")
        for name, value in {"backend": "torch", "opset": 18, "parity_rows": 8, "tolerance": 1e-3}.items()
    },
    **{
        f"quantize.{name}": (value, "quantize")
        for name, value in {
            "precision": "fp32",
            "margin": 0.1,
            "level": 0.9,
            "agreement": 0.9,
            "neighbours": 0.1,
            "rows": 50,
            "range_rows": 8,
        }.items()
    },
    **{
        f"calibrate.{name}": (value, "calibrate")
        for name, value in {
            "methods": ("vector",),
            "target": 0.8,
            "delta": 0.2,
            "decoder_rows": 5,
        }.items()
    },
    "calibrate.folds": (3, "split calibrate"),
    **{
        f"student.{name}": (value, "student")
        for name, value in {
            "base": "other.gguf",
            "layout": "pre",
            "altered": "shuffled",
            "traces": ("reasons.csv",),
            "rejection": False,
            "per_row": 1,
            "near_duplicate": 0.5,
            "most_words": 10,
            "source_shares": {"recorded": 0.5},
            "reason_weight": 1.0,
            "reason_share": 0.5,
            "epochs": 1.0,
            "tokens": 1000,
            "batch_size": 4,
            "learning_rate": 1e-3,
            "warmup": 0.1,
            "weight_decay": 0.1,
            "validation": 0.2,
            "evaluations": 1,
            "patience": 1,
            "lora_rank": 4,
            "precision": "fp32",
            "max_tokens": 32,
            "chains": 1,
            "encoding": "f16",
        }.items()
    },
    "bundle.portable": (True, "quantize calibrate"),
    **{f"evaluate.{name}": (value, "evaluate") for name, value in {"bootstrap": 100, "interval": 0.9}.items()},
}


def fields_of(recipe: Recipe) -> Iterator[str]:
    """Every field of the recipe, those of its sections as `section.field`."""
    for field in msgspec.structs.fields(recipe):
        value = getattr(recipe, field.name)
        if isinstance(value, msgspec.Struct):
            yield from (f"{field.name}.{inner.name}" for inner in msgspec.structs.fields(value))
        else:
            yield field.name


def changed(recipe: Recipe, field: str, value: Any) -> Recipe:
    section, _, name = field.rpartition(".")
    if not section:
        return msgspec.structs.replace(recipe, **{name: value})
    inner = msgspec.structs.replace(getattr(recipe, section), **{name: value})
    return msgspec.structs.replace(recipe, **{section: inner})


def test_every_field_of_the_recipe_is_in_the_table_of_what_reruns() -> None:
    assert set(fields_of(Recipe(name="x", data=DataConfig()))) == set(RERUN)


@pytest.fixture(scope="module")
def everything(finished: Path) -> RunContext:
    """The finished run, under a recipe that has every optional part."""
    project = finished.parents[2] / "dishes"
    recipe = read_recipe(project / "recipe.toml", overrides=EVERYTHING)
    return RunContext(recipe, project, Run(finished, Screen()), finished.parent / "traces.sqlite")


def keys_of(context: RunContext, recipe: Recipe) -> dict[str, str]:
    of_recipe = RunContext(recipe, context.recipe_dir, context.run, context.traces)
    return {stage.name: stamp_key(stage, of_recipe, stage.reads(recipe)) for stage in STAGES}


@pytest.mark.slow
def test_a_changed_field_reruns_the_stages_that_read_it_and_no_other(everything: RunContext) -> None:
    before = keys_of(everything, everything.recipe)
    wrong = {}
    for field, (value, stages) in RERUN.items():
        after = keys_of(everything, changed(everything.recipe, field, value))
        again = " ".join(name for name in STAGE_NAMES if after[name] != before[name])
        if again != stages:
            wrong[field] = f"{again!r}, expected {stages!r}"
    assert not wrong


@pytest.mark.slow
@pytest.mark.parametrize("file", ["traces.jsonl", "policy.md", "audit.csv", "votes.csv", "drafts.jsonl"])
def test_the_content_of_a_named_file_counts_and_not_only_its_name(
    file: str, everything: RunContext, tmp_path: Path
) -> None:
    settings = {
        "traces.jsonl": ("teacher.traces", "verify synthesize"),
        "policy.md": ("decoder.policy", "calibrate evaluate"),
        "audit.csv": ("data.audit", "split verify clean"),
        "votes.csv": ("verify.imports", "verify"),
        "drafts.jsonl": ("synthesize.drafts", "synthesize"),
    }
    setting, stages = settings[file]
    recipe = changed(everything.recipe, setting, (file,) if setting == "verify.imports" else file)
    context = RunContext(recipe, tmp_path, everything.run, everything.traces)
    (tmp_path / file).write_text("one")
    before = {stage.name: stamp_key(stage, context, stage.reads(recipe)) for stage in STAGES}
    (tmp_path / file).write_text("two")
    after = {stage.name: stamp_key(stage, context, stage.reads(recipe)) for stage in STAGES}
    again = [name for name in STAGE_NAMES if before[name] != after[name]]
    expected = [name for name in stages.split() if name != "split"]  # split reads no trusted rows
    # One file of traces may serve several roles here; those named must be among them.
    assert set(expected) <= set(again)
    assert "train" not in again


class Note(Row, frozen=True):
    """A row of a table that only this test knows."""

    text: str


def stage_that(work: Any, **reads: Any) -> Stage:
    declared = Reads(**reads)
    return Stage(
        name="extra",
        purpose="a stage that a test adds",
        version=1,
        reads=lambda _: declared,
        writes=("extra/notes.jsonl",),
        code=(),
        work=work,
        summary_line=lambda report: f"{report['n']} notes",
    )


@pytest.mark.slow
def test_a_stage_is_added_by_declaring_it(everything: RunContext, finished: Path, tmp_path: Path) -> None:
    def work(io: StageIO) -> Report:
        notes = [Note(text=row.text) for row in io.rows("test")]
        io.write(Table("extra/notes.jsonl", Note), notes)
        return {"n": len(notes)}

    shutil.copytree(finished / "split", tmp_path / "split")
    context = RunContext(everything.recipe, everything.recipe_dir, Run(tmp_path, Screen()), tmp_path / "traces.sqlite")
    stage = stage_that(work, tables=(ROWS,))
    run_stage(stage, context)
    run_stage(stage, context)
    assert context.run.worked == ["extra"]
    assert len(read_rows(tmp_path / "extra/notes.jsonl", Note)) == 90
    write_rows(tmp_path / ROWS.path, [Example(id="1", text="another text", label="good", part="test")])
    run_stage(stage, context)
    assert len(read_rows(tmp_path / "extra/notes.jsonl", Note)) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reach", "what"),
    [
        (lambda io: io.read(GOLD), "the table split/gold.jsonl"),
        (lambda io: io.recipe.train.epochs, "recipe.train"),
        (lambda io: io.recipe.synthesize.per_class, "recipe.synthesize.per_class"),
        (lambda io: io.labels, "the report field split.labels"),
        (lambda io: io.input("export/model.onnx"), "the file export/model.onnx"),
        (lambda io: io.output("train/checkpoint"), "the output train/checkpoint"),
        (lambda io: io.llm("teacher"), "the teacher"),
        (lambda io: io.embed(["text"]), "the encoder"),
        (lambda io: io.recipe_files("data.audit"), "the files of data.audit"),
        (lambda io: io.shared_file("reviewed"), "the shared file reviewed"),
        (lambda io: io.fetch("vader-tweets"), "a pinned artefact"),
        (lambda io: io.prompt("verify"), "the prompt verify"),
    ],
)
def test_reaching_for_what_is_not_declared_is_an_error(reach: Any, what: str, everything: RunContext) -> None:
    stage = stage_that(reach, tables=(ROWS,), settings=("seed", "synthesize.use"))
    with pytest.raises(UndeclaredError, match=what):
        reach(everything.io(stage))


def test_a_declared_key_of_a_section_can_be_read_alone() -> None:
    recipe = Recipe(name="x", data=DataConfig())
    reads = Reads(settings=("synthesize.use",))
    io = StageIO("extra", reads, (), recipe, None, "")  # type: ignore[arg-type]
    assert io.recipe.synthesize.use == "auto"


def test_every_stage_declares_the_modules_that_its_result_depends_on() -> None:
    assert {stage.name: undeclared(stage) for stage in STAGES} == {name: [] for name in STAGE_NAMES}


def test_code_changes_with_a_version_or_not_at_all() -> None:
    assert problems() == []


def test_a_stage_whose_code_changed_under_its_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = locked() | {"clean": Locked(locked()["clean"].version, "another hash")}
    monkeypatch.setattr("hybrid.pipeline.stage_lock.locked", lambda: lock)
    assert len(problems()) == 1
    assert problems()[0].startswith("clean: its code changed and its version is")


def test_comments_and_docstrings_are_no_code(tmp_path: Path) -> None:
    def syntax(text: str) -> str:
        path = tmp_path / "module.py"
        path.write_text(text)
        return syntax_of(path)

    plain = syntax("def f(x):\n    return x + 1\n")
    assert syntax('"""Module."""\n# why\ndef f(x):\n    """Docstring."""\n    return x + 1\n') == plain
    assert syntax("def f(x):\n    return x + 2\n") != plain


def test_the_code_of_a_stage_is_followed_through_imports() -> None:
    modules = code_of(SPLIT)
    assert {"hybrid.stages.split", "hybrid.data.sources", "hybrid.data.duplicates"} <= set(modules)
    assert "hybrid.encoders.training" not in modules


@pytest.mark.slow
def test_a_finished_run_with_labels_in_another_order_keeps_its_bundle_and_shows_the_order(
    finished: Path, tmp_path: Path
) -> None:
    project = Path(shutil.copytree(finished.parents[2], tmp_path / "project"))
    run = project / "runs/dishes/default"
    words = ("dishes/recipe.toml", "--runs", "runs", "--set", 'calibrate.methods=["temperature"]')
    assert hybrid_recipe(*words, cwd=project).returncode == 0
    before = sha256_of_file(run / "bundle" / "bundle.json")
    done = hybrid_recipe(*words, "--set", 'labels=["plain","good","bad"]', cwd=project)
    assert done.returncode == 0, done.stderr
    first_words = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ") and " s  " in line]
    assert [word for word in first_words if word in STAGE_NAMES] == ["split"]
    assert sha256_of_file(run / "bundle" / "bundle.json") == before
    accuracy = json.loads((run / "summary.json").read_text())["test"]["cleaned"]["accuracy"]
    assert accuracy == json.loads((finished / "summary.json").read_text())["test"]["cleaned"]["accuracy"]
    page = (run / "report.html").read_text()
    header = page[page.index("Columns: the encoder") :]
    assert header.index(">plain<") < header.index(">good<") < header.index(">bad<")


@pytest.mark.slow
def test_a_run_from_nothing_with_labels_in_another_order_is_the_same_run(bert: Path, tmp_path: Path) -> None:
    bundles = []
    for name, order in (("sorted", '["bad", "good", "plain"]'), ("reversed", '["plain", "good", "bad"]')):
        recipe = write_project(tmp_path / name, bert)
        recipe.write_text(recipe.read_text().replace('["bad", "good", "plain"]', order))
        done = hybrid_recipe(
            str(recipe), "--runs", str(tmp_path / f"runs-{name}"), "--set", "train.epochs=1", cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        bundles.append(hybrid.load(tmp_path / f"runs-{name}" / "dishes" / "default" / "bundle"))
    one, other = (bundle.classify(["The soup was awful and burnt.", "Fresh bread."]) for bundle in bundles)
    assert [answer.probs for answer in one] == [answer.probs for answer in other]


def test_overrides_of_the_table_are_recipes_that_can_be(tmp_path: Path, bert: Path) -> None:
    recipe = read_recipe(write_project(tmp_path, bert), overrides=merge(EVERYTHING, {}))
    assert recipe.verify.more == "second"
