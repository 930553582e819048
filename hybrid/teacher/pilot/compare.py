"""`hybrid pilot`: compare prompt strategies on a few trusted rows, before one of them is used on every row."""

from collections import Counter
from collections.abc import Collection, Sequence

import msgspec
import numpy as np

from hybrid.config import LLMConfig
from hybrid.data.row_ids import is_line_id
from hybrid.errors import ConfigError, DataError, LLMError
from hybrid.evaluation.intervals import Estimate
from hybrid.files.table import write_json
from hybrid.llm import backend_of
from hybrid.progress import Screen
from hybrid.prompts import prompt_text, text_hash
from hybrid.teacher.inputs import TeacherInputs
from hybrid.teacher.pilot.baseline_curve import Baseline, Point, baseline_of
from hybrid.teacher.pilot.choose import Choice, choose
from hybrid.teacher.pilot.measure import Measured, Trial, measure
from hybrid.teacher.pilot.strategies import Answers, OnDone, PromptStrategy, ask_strategies, strategies_of
from hybrid.teacher.policy import RECEIPT, read_receipt
from hybrid.types import Example, Report, Row

FILE = "pilot.json"
FEWEST = 30
"""With fewer rows the 95 % interval of an accuracy is wider than 18 points on either side."""


class Piloted(Row, frozen=True, kw_only=True):
    """The results of a pilot: `pilot.json`."""

    recipe: str
    rows: int
    trusted: dict[str, int]
    """The number of pilot rows by the source of their trusted label: gold, audit, review."""
    train_rows: int
    policy: str
    """The hash of the labelling policy; empty if there is none."""
    prompts: dict[str, str]
    given: Estimate
    """The share of rows whose given label is the trusted one."""
    tfidf: Estimate
    tfidf_rows: int
    """The number of rows that TF-IDF was trained on."""
    curve: list[Point]
    ways: list[Measured]
    choice: Choice
    not_asked: list[str]
    """Strategies that could not be compared, with the reason."""


def pilot(
    inputs: TeacherInputs, *, policy: str, n_rows: int, screen: Screen, models: Sequence[str] = (), votes: int = 3
) -> Piloted:
    """Compare the prompt strategies on at most `n_rows` trusted rows, and write the figures to the run's pilot.json.

    `policy` is the text of the teacher's labelling policy. `models` are compared in place of the recipe's teacher.

    Raises:
        ConfigError: there is no teacher, or `votes` is even.
        DataError: there are too few trusted rows.
        LLMError: a teacher cannot be used, or failed on every row.
    """
    if votes < 1 or votes % 2 == 0:
        raise ConfigError(f"pilot: --votes {votes}: expected an odd number, 1 or more")
    rows = pilot_rows(inputs, n_rows)
    label_of = {row.id: row.label for row in inputs.trusted}
    baseline = baseline_of(inputs.rows, label_of, rows, inputs.labels, seed=inputs.recipe.seed)
    teacher = inputs.recipe.teacher
    configs = [msgspec.structs.replace(teacher, model=model) for model in models or (teacher.model,)]
    trials = run_trials(inputs, configs, rows, baseline, policy=policy, screen=screen, votes=votes)
    recorded = any(backend_of(config).is_recorded for config in configs)
    ids = {row.id for row in rows}
    prompts: Report = {"reasoned": text_hash(prompt_text("verify")), "direct": text_hash(prompt_text("direct"))}
    piloted = Piloted(
        recipe=inputs.recipe.name,
        rows=len(rows),
        trusted=dict(Counter(row.source for row in inputs.trusted if row.id in ids)),
        train_rows=len(inputs.rows),
        policy=text_hash(policy),
        prompts=prompts,
        given=baseline.given,
        tfidf=baseline.tfidf,
        tfidf_rows=baseline.rows,
        curve=baseline.curve,
        ways=[trial.measured for trial in trials],
        choice=choose(trials),
        not_asked=["recorded: direct answers and further votes were not recorded"] if recorded else [],
    )
    write_json(inputs.run_dir / FILE, piloted)
    return piloted


def run_trials(
    inputs: TeacherInputs,
    configs: Sequence[LLMConfig],
    rows: Sequence[Example],
    baseline: Baseline,
    *,
    policy: str,
    screen: Screen,
    votes: int,
) -> list[Trial]:
    """Ask each model in every way about the rows, whose labels `inputs.trusted` has, and measure each way.

    Raises:
        ConfigError: there is no teacher.
        LLMError: a teacher cannot be used, or failed on every row.
    """
    label_of = {row.id: row.label for row in inputs.trusted}
    trials = []
    for config in configs:
        with screen.working(f"pilot {config.model}"):
            answered = _ask(inputs, config, strategies_of(config, votes), rows, policy, screen.advance)
        n_job, workers = len(inputs.rows), config.workers
        trials += [measure(answers, rows, label_of, baseline, n_job=n_job, workers=workers) for answers in answered]
    return trials


def pilot_rows(inputs: TeacherInputs, n_rows: int) -> list[Example]:
    """Draw the trusted rows to compare on, with the recipe's seed, excluding rows shown to the teacher for its policy.

    Raises:
        DataError: fewer than `FEWEST` are left.
    """
    receipt = read_receipt(inputs.shared_dir)
    in_policy = set(receipt.rows) if receipt else set()
    _check_receipt(in_policy, inputs)
    ids = {row.id for row in inputs.trusted} - in_policy
    rows = [row for row in inputs.rows if row.id in ids]
    if min(len(rows), n_rows) < FEWEST:
        excluded = f" ({len(in_policy)} more were shown to the teacher for the policy)" if in_policy else ""
        raise DataError(
            f"pilot: {min(len(rows), n_rows)} trusted rows{excluded}; expected {FEWEST} or more, better 100 to 300: set "
            "data.trusted where rows have gold, name a file of audited labels in data.audit, or read reviewed rows"
        )
    drawn = np.random.default_rng(inputs.recipe.seed).permutation(len(rows))[:n_rows]
    return [rows[i] for i in sorted(drawn)]


def _check_receipt(in_policy: Collection[str], inputs: TeacherInputs) -> None:
    """Raise `DataError` where the policy's receipt names rows by their line, as an earlier version did."""
    known = {row.id for row in inputs.rows}
    if not inputs.recipe.data.id and any(is_line_id(row_id) and row_id not in known for row_id in in_policy):
        raise DataError(
            f"{inputs.shared_dir / RECEIPT}: it names the rows that the teacher was shown by their line, as an earlier "
            "version did, and lines move; write the policy anew with: policy --force, or delete this file to pilot on "
            "those rows too"
        )


def _ask(
    inputs: TeacherInputs,
    config: LLMConfig,
    strategies: Sequence[PromptStrategy],
    rows: Sequence[Example],
    policy: str,
    on_done: OnDone,
) -> list[Answers]:
    teacher = inputs.open_teacher(config)
    if teacher is None:
        raise ConfigError("pilot: the recipe has no teacher; name one with --teacher or --models")
    answered = ask_strategies(
        rows, inputs.labels, strategies, teacher=teacher, llm=config, policy=policy, on_done=on_done
    )
    replies = [reply for answers in answered for of_row in answers.replies for reply in of_row]
    if all(reply.status == "failed" for reply in replies):
        raise LLMError(
            f"pilot: all {len(replies)} requests to {teacher.name} failed, the first with: {replies[0].reason}; correct "
            "the [teacher] section of the recipe, then run again"
        )
    return answered
