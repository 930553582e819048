"""`hybrid pilot`: ask a few trusted rows every way, before every row is asked one way."""

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from hybrid.errors import ConfigError, DataError, LLMError
from hybrid.evaluation.intervals import Estimate
from hybrid.files.table import write_json
from hybrid.llm import LLM, backend_of
from hybrid.pipeline.context import RunContext
from hybrid.prompts import prompt_text, text_hash
from hybrid.teacher.pilot.baseline_curve import Baseline, Point, baseline_of
from hybrid.teacher.pilot.choose import Choice, choose
from hybrid.teacher.pilot.measure import Measured, Trial, measure
from hybrid.teacher.pilot.strategies import Answers, PromptStrategy, ask_strategies, strategies_of
from hybrid.teacher.policy import read_receipt
from hybrid.types import Example, Report, Row, Trusted

FILE = "pilot.json"
FEWEST = 30
"""Below so many rows an accuracy is known to no better than 18 points either way."""


class Piloted(Row, frozen=True, kw_only=True):
    """What a pilot found: `pilot.json`."""

    recipe: str
    rows: int
    trusted: dict[str, int]
    """How many of the rows are trusted by gold, audit and review."""
    train_rows: int
    policy: str
    """The hash of the labelling policy; empty without one."""
    prompts: dict[str, str]
    given: Estimate
    """How often the given label is the trusted one."""
    tfidf: Estimate
    tfidf_rows: int
    """The rows that TF-IDF learnt from."""
    curve: list[Point]
    ways: list[Measured]
    choice: Choice
    not_asked: list[str]
    """Ways that could not be compared, with the reason."""


def pilot(story: RunContext, *, n_rows: int, models: Sequence[str] = (), votes: int = 3) -> Piloted:
    """Return what the ways of asking came to on at most `n_rows` trusted rows, and write it to the run's pilot.json.

    Raises:
        ConfigError: there is no teacher, or `votes` is even.
        DataError: there are too few trusted rows.
        LLMError: a teacher cannot be used, or failed on every row.
    """
    if votes < 1 or votes % 2 == 0:
        raise ConfigError(f"pilot: --votes {votes}: want an odd number, 1 or more")
    trusted = story.trusted()
    rows = pilot_rows(story, trusted, n_rows)
    label_of = {row.id: row.label for row in trusted}
    found = baseline_of(story.rows("train"), label_of, rows, story.labels, seed=story.recipe.seed)
    trials = [
        trial
        for asking in [_with_model(story, model) for model in models or (story.recipe.teacher.model,)]
        for trial in _try(asking, strategies_of(asking.recipe.teacher, votes), rows, label_of, found)
    ]
    piloted = _piloted(story, [row for row in trusted if row.id in {r.id for r in rows}], found, trials)
    write_json(story.run.path(FILE), piloted)
    return piloted


def pilot_rows(story: RunContext, trusted: Sequence[Trusted], n_rows: int) -> list[Example]:
    """Return the training rows to compare on, drawn with the seed; none from which the teacher's policy was written.

    Raises:
        DataError: fewer than `FEWEST` are left.
    """
    receipt = read_receipt(story)
    spent = set(receipt.rows) if receipt else set()
    ids = {row.id for row in trusted} - spent
    rows = [row for row in story.rows("train") if row.id in ids]
    if min(len(rows), n_rows) < FEWEST:
        shown = f" ({len(spent)} more taught the policy)" if spent else ""
        raise DataError(
            f"pilot: {min(len(rows), n_rows)} trusted rows{shown}; want {FEWEST} or more, better 100 to 300: set "
            "data.trusted where rows have gold, name a file of audited labels in data.audit, or read reviewed rows"
        )
    drawn = np.random.default_rng(story.recipe.seed).permutation(len(rows))[:n_rows]
    return [rows[i] for i in sorted(drawn)]


def _with_model(story: RunContext, model: str) -> RunContext:
    if model == story.recipe.teacher.model:
        return story
    teacher = msgspec.structs.replace(story.recipe.teacher, model=model)
    recipe = msgspec.structs.replace(story.recipe, teacher=teacher)
    return RunContext(recipe, story.recipe_dir, story.run, story.traces)


def _try(
    story: RunContext, ways: Sequence[PromptStrategy], rows: Sequence[Example], trusted: dict[str, str], found: Baseline
) -> list[Trial]:
    config, screen = story.recipe.teacher, story.run.screen
    teacher: LLM | None = story.llm("teacher")
    if teacher is None:
        raise ConfigError("pilot: the recipe has no teacher; name one with --teacher or --models")
    with screen.working(f"pilot {config.model}"):
        answered = ask_strategies(
            rows,
            story.labels,
            ways,
            teacher=teacher,
            llm=config,
            policy=story.policy(config),
            on_done=screen.advance,
        )
    _check(answered, teacher.name)
    n_job = len(story.rows("train"))
    return [measure(answers, rows, trusted, found, n_job=n_job, workers=config.workers) for answers in answered]


def _check(answered: Sequence[Answers], teacher: str) -> None:
    replies = [reply for answers in answered for of_row in answers.replies for reply in of_row]
    if all(reply.status == "failed" for reply in replies):
        raise LLMError(
            f"pilot: all {len(replies)} requests to {teacher} failed, the first with: {replies[0].reason}; correct the "
            "[teacher] section of the recipe, then run again"
        )


def _piloted(story: RunContext, trusted: Sequence[Trusted], found: Baseline, trials: Sequence[Trial]) -> Piloted:
    prompts: Report = {"reasoned": text_hash(prompt_text("verify")), "direct": text_hash(prompt_text("direct"))}
    once = any(backend_of(_with_model(story, trial.measured.model).recipe.teacher).is_recorded for trial in trials)
    return Piloted(
        recipe=story.recipe.name,
        rows=len(trusted),
        trusted=dict(Counter(row.source for row in trusted)),
        train_rows=len(story.rows("train")),
        policy=text_hash(story.policy(story.recipe.teacher)),
        prompts=prompts,
        given=found.given,
        tfidf=found.tfidf,
        tfidf_rows=found.rows,
        curve=found.curve,
        ways=[trial.measured for trial in trials],
        choice=choose(trials),
        not_asked=["recorded: direct answers and further votes were not recorded"] if once else [],
    )
