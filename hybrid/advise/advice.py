"""`hybrid advise`: measure a data set, go through the tree, and write the recipe to run."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from threadpoolctl import threadpool_limits

from hybrid.advise.learning import LabelledTexts, learn, predict_others
from hybrid.advise.local_decoders import local_decoders
from hybrid.advise.measurements import EncoderSpeed, Facts, Measured, Wishes
from hybrid.advise.speed import decoder_prices, encoder_speed
from hybrid.advise.teacher import TrialPlan, measure_teacher
from hybrid.advise.thresholds import value
from hybrid.advise.tree import Decision, decide
from hybrid.artifacts import fetch
from hybrid.config import LLMConfig, Recipe
from hybrid.data.source_rows import Dataset, labels_of
from hybrid.data.sources import load_data
from hybrid.data.trusted import draw_trusted
from hybrid.errors import ConfigError
from hybrid.files.hashing import sha256_of
from hybrid.files.table import write_json
from hybrid.label_sets import index_by_label
from hybrid.llm import LLM
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.run import Run
from hybrid.progress import Screen
from hybrid.stages.split import Split, split
from hybrid.teacher.inputs import TeacherInputs
from hybrid.types import Example, Gold, Row, Trusted

FILE = "advice.json"
FOLDER = "advise"
"""Below the folder of the recipe's runs: the advice, and the embeddings that it was made from."""


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """How much may be measured, and what things cost."""

    most_rows: int
    pilot_rows: int
    budget_usd: float | None
    core_usd_hour: float


class Advice(Row, frozen=True, kw_only=True):
    """What was measured and what follows from it: `advice.json`."""

    name: str
    wishes: Wishes
    measured: Measured
    decision: Decision
    recipe: str = ""
    """The recipe to run; empty where nothing should be run yet."""
    run: str = ""
    """The command that runs it."""


class _Rows(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of the data outside the test part, as they are measured."""

    labels: tuple[str, ...]
    split: Split
    train: list[Example]
    sample: list[Example]
    """The training rows that models are measured on."""
    trusted: list[Trusted]
    """Trusted labels of training rows; where no training row has one, of calibration rows, which the teacher is asked
    about and nothing trains on."""
    asked: list[Example]
    """The rows that `trusted` is about, among all of their part."""


def advise(recipe: Recipe, recipe_dir: Path, runs: Path, wishes: Wishes, effort: Effort, screen: Screen) -> Advice:
    """Measure a recipe's data and decide what kind of model it calls for. Test rows train nothing and score nothing.

    Raises:
        ConfigError: the recipe gives several labels a text.
        HybridError: the data cannot be read, or the teacher cannot be used.
    """
    if recipe.task == "multi_label":
        raise ConfigError(
            f"{recipe.name}: task = 'multi_label': advise measures data with one label a text; use hybrid run, which "
            "compares with TF-IDF on its test rows"
        )
    budget = {} if effort.budget_usd is None else {"budget_usd": effort.budget_usd}
    recipe = msgspec.structs.replace(recipe, teacher=msgspec.structs.replace(recipe.teacher, **budget))
    folder = runs / recipe.name / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    context = RunContext(recipe, recipe_dir, Run(folder, screen), runs / recipe.name / "traces.sqlite")
    with screen.working("data"):
        dataset = load_data(
            recipe.data, folder=recipe_dir, seed=recipe.seed, fetch=fetch, task=recipe.task, labels=recipe.labels
        )
        rows = _rows(dataset, recipe, effort)
    with screen.working("embeddings"):
        features = _embeddings(context, folder, [row.text for row in rows.sample])
    labelled = _labelled(rows, features, recipe.seed)
    # One thread: these fits are small, and threads that wait for each other on a busy machine take far longer.
    with screen.working("models"), threadpool_limits(1):
        fitted = learn(
            labelled,
            _counted(dataset, rows.split),
            encoder=recipe.encoder.model,
            further=int(value("further_rows")),
            on_done=screen.advance,
        )
    with screen.working("speed"):
        speed = _speed(context, rows, effort)
    policy = context.policy(recipe.teacher)
    teacher = measure_teacher(
        _teacher_inputs(context, rows),
        TrialPlan(rows=effort.pilot_rows, budget_usd=effort.budget_usd, store=context.traces, policy=policy),
        predict=_predictor(context, rows, labelled, fitted.encoder_predictions),
        screen=screen,
    )
    with screen.working("decoders"):
        local = local_decoders(
            rows.sample,
            rows.labels,
            runs=folder.parent,
            teacher=recipe.teacher,
            policy=policy,
            core_usd_hour=effort.core_usd_hour,
        )
    measured = Measured(
        facts=_facts(rows),
        noise=fitted.noise,
        learned=fitted.learned,
        speed=speed,
        decoders=[
            *local.timed,
            *decoder_prices(rows.sample, rows.labels, recipe.teacher, folder=recipe_dir, policy=policy),
        ],
        teacher=teacher,
        untimed=local.untimed,
    )
    advice = Advice(name=recipe.name, wishes=wishes, measured=measured, decision=decide(measured, wishes))
    write_json(folder / FILE, advice)
    return advice


def examples_by_label(recipe: Recipe, recipe_dir: Path, n: int) -> dict[str, list[str]]:
    """Up to `n` texts of each label, drawn from the training rows, for a prompt."""
    dataset = load_data(
        recipe.data, folder=recipe_dir, seed=recipe.seed, fetch=fetch, task=recipe.task, labels=recipe.labels
    )
    labels = sorted(recipe.labels) or labels_of(dataset)
    train = [row for row in split(dataset.rows, labels, recipe.split, seed=recipe.seed).rows if row.part == "train"]
    order = np.random.default_rng(recipe.seed).permutation(len(train))
    return {label: [train[i].text for i in order if train[i].label == label][:n] for label in labels}


def _rows(dataset: Dataset, recipe: Recipe, effort: Effort) -> _Rows:
    labels = tuple(sorted(recipe.labels) or labels_of(dataset))
    dealt = split(dataset.rows, labels, recipe.split, seed=recipe.seed)
    train = [row for row in dealt.rows if row.part == "train"]
    order = np.random.default_rng(recipe.seed).permutation(len(train))[: effort.most_rows]
    trusted, asked = _trusted(dealt, train, recipe)
    return _Rows(
        labels=labels,
        split=dealt,
        train=train,
        sample=[train[i] for i in sorted(order)],
        trusted=trusted,
        asked=asked,
    )


def _trusted(dealt: Split, train: list[Example], recipe: Recipe) -> tuple[list[Trusted], list[Example]]:
    train_ids, label_of = {row.id for row in train}, {row.id: row.label for row in dealt.gold}
    known: list[Gold] = [row for row in dealt.gold if row.id in train_ids]
    if len(known) >= value("pilot_rows"):
        return draw_trusted(dealt.rows, known, len(known), recipe.seed), train
    calibration = [row for row in dealt.rows if row.part == "calibration" and row.id in label_of]
    trusted = [Trusted(id=row.id, label=label_of[row.id], source="gold") for row in calibration]
    return trusted, calibration


def _embeddings(context: RunContext, folder: Path, texts: Sequence[str]) -> np.ndarray:
    """Frozen embeddings [n, d], kept beside the advice under a hash of what they were made from."""
    key = sha256_of([context.encoder_identity(), context.recipe.encoder.max_length, list(texts)])
    path = folder / f"embeddings-{key[:16]}.npy"
    if path.is_file():
        return np.asarray(np.load(path))
    vectors = context.embed(texts)
    for stale in folder.glob("embeddings-*.npy"):
        stale.unlink()
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.save(file, vectors)
    part.replace(path)
    return vectors


def _labelled(rows: _Rows, features: np.ndarray, seed: int) -> LabelledTexts:
    index = index_by_label(rows.labels)
    trusted = {row.id: index[row.label] for row in rows.trusted}
    return LabelledTexts(
        texts=[row.text for row in rows.sample],
        given=np.array([index[row.label] for row in rows.sample]),
        trusted={i: trusted[row.id] for i, row in enumerate(rows.sample) if row.id in trusted},
        n_labels=len(rows.labels),
        features=features,
        seed=seed,
    )


def _counted(dataset: Dataset, dealt: Split) -> tuple[int, int]:
    """Of the rows outside the test part with a given and a trusted label, how many have two different ones; and all."""
    test = {row.id for row in dealt.rows if row.part == "test"}
    both = [row for row in dataset.rows if row.label is not None and row.gold is not None and row.id not in test]
    return sum(row.label != row.gold for row in both), len(both)


def _speed(context: RunContext, rows: _Rows, effort: Effort) -> EncoderSpeed:
    return encoder_speed(
        context.encoder_folder(), rows.sample, rows.labels, context.limits, core_usd_hour=effort.core_usd_hour
    )


def _teacher_inputs(context: RunContext, rows: _Rows) -> TeacherInputs:
    def open_teacher(config: LLMConfig) -> LLM | None:
        assert config == context.recipe.teacher, "the advice asks one teacher"
        return context.llm("teacher")

    return TeacherInputs(
        recipe=context.recipe,
        recipe_dir=context.recipe_dir,
        run_dir=context.run.folder,
        shared_dir=context.traces.parent,
        labels=rows.labels,
        rows=rows.asked,
        trusted=rows.trusted,
        open_teacher=open_teacher,
    )


def _predictor(
    context: RunContext, rows: _Rows, labelled: LabelledTexts, out_of_fold: np.ndarray
) -> Callable[[Sequence[Example]], np.ndarray]:
    """The frozen encoder's predictions of rows that it has not learned from: out of fold, or of a model of all others."""
    place = {row.id: i for i, row in enumerate(rows.sample)}

    def predict(asked: Sequence[Example]) -> np.ndarray:
        others = [row for row in asked if row.id not in place]
        unseen = predict_others(labelled, context.embed([row.text for row in others])) if others else np.zeros(0, int)
        of_others = {row.id: unseen[i] for i, row in enumerate(others)}
        return np.array([of_others[row.id] if row.id in of_others else out_of_fold[place[row.id]] for row in asked])

    return predict


def _facts(rows: _Rows) -> Facts:
    report = rows.split.report
    return Facts(
        rows=report["rows"],
        parts=report["parts"],
        labels=report["classes"]["train"],
        near_duplicates=report["near_duplicates"],
        leaks=len(report["twins"]),
        trusted=len(rows.trusted),
    )
