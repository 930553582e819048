"""The teacher on trusted rows: direct answers against chain of thought, and both against the encoder, by paired tests."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from hybrid.advise.measurements import NotMeasured, Teacher, TeacherWay
from hybrid.advise.speed import asking_usd
from hybrid.advise.thresholds import value
from hybrid.evaluation.intervals import worse_p
from hybrid.llm import backend_of
from hybrid.llm.cost.forecast import token_stats
from hybrid.llm.cost.pricing import pricing_of
from hybrid.llm.traces.database import TraceDatabase
from hybrid.progress import Screen
from hybrid.teacher.inputs import TeacherInputs
from hybrid.teacher.pilot.baseline_curve import baseline_of
from hybrid.teacher.pilot.compare import pilot_rows, run_trials
from hybrid.teacher.pilot.measure import Trial
from hybrid.types import Example

PredictOf = Callable[[Sequence[Example]], np.ndarray]
"""The frozen encoder's out-of-sample class indices [n] of some rows."""


class TrialPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How the teacher may be asked."""

    rows: int
    """Trusted rows, at most."""
    budget_usd: float | None
    """What the user lets the calls cost; None: nothing was said."""
    store: Path
    """The trace store, whose answers cost nothing."""
    policy: str
    """The text of the labelling policy; empty: none."""


def measure_teacher(
    inputs: TeacherInputs, plan: TrialPlan, *, predict: PredictOf, screen: Screen
) -> Teacher | NotMeasured:
    """Ask the recipe's teacher on trusted rows, or say why it was not asked.

    A teacher whose price is known is asked within a budget alone.

    Raises:
        LLMError: the teacher cannot be used, or failed on every row.
    """
    config = inputs.recipe.teacher
    backend = backend_of(config, "teacher")
    if len(inputs.trusted) < value("pilot_rows"):
        return NotMeasured(
            why=f"{len(inputs.trusted)} rows outside the test part have a trusted label, and {value('pilot_rows'):.0f} or "
            "more are needed, better 100 to 300",
            remedy="have about 100 rows labelled with care in a column, and name it with --gold",
            usd=_cost(inputs, inputs.rows[: plan.rows], plan),
        )
    rows = pilot_rows(inputs, plan.rows)
    cost = None if backend.is_absent else _cost(inputs, rows, plan)
    if backend.is_absent:
        return NotMeasured(
            why="no teacher was named",
            remedy="name one with --teacher, such as claude-haiku-5-5 (with --budget), or local",
        )
    if cost is not None and cost[1] > 0 and plan.budget_usd is None:
        return NotMeasured(why="asking it costs money", remedy=f"add --budget {cost[1]:.2f}", usd=cost)
    label_of = {row.id: row.label for row in inputs.trusted}
    baseline = baseline_of(inputs.rows, label_of, rows, inputs.labels, seed=inputs.recipe.seed)
    trials = run_trials(inputs, [config], rows, baseline, policy=plan.policy, screen=screen, votes=1)
    return judged(config.model, trials, rows, label_of, predict(rows), inputs.labels)


def judged(
    model: str,
    trials: Sequence[Trial],
    rows: Sequence[Example],
    label_of: Mapping[str, str],
    predicted: np.ndarray,
    labels: Sequence[str],
) -> Teacher:
    """Compare the ways of asking with each other and with the encoder's predictions [n] of the same rows."""
    encoder_right = np.array([labels[i] == label_of[row.id] for i, row in zip(predicted, rows, strict=True)])
    right_of = {trial.measured.answer: trial.right for trial in trials}
    both = "direct" in right_of and "reasoned" in right_of
    return Teacher(
        model=model,
        rows=len(rows),
        encoder_right=float(encoder_right.mean()),
        ways=[
            TeacherWay(
                answer=trial.measured.answer,
                accuracy=trial.measured.accuracy,
                beats_encoder_p=worse_p(encoder_right, trial.right),
                ms=1000 * trial.measured.seconds_a_row or None,
                usd_per_million=_million(trial.measured.cost_usd_a_row) if trial.measured.seconds_a_row else None,
            )
            for trial in trials
        ],
        reasoning_p=worse_p(right_of["direct"], right_of["reasoned"]) if both else None,
    )


def _million(usd: float | None) -> float | None:
    return None if usd is None else usd * 1e6


def _cost(inputs: TeacherInputs, rows: Sequence[Example], plan: TrialPlan) -> tuple[float, float] | None:
    """What asking both ways about these rows would cost, answers that the store has left out; None: not known."""
    config = inputs.recipe.teacher
    backend = backend_of(config, "teacher")
    if backend.is_absent:
        return None
    if not backend.is_paid:
        return 0.0, 0.0
    file = TraceDatabase(plan.store) if plan.store.is_file() else None
    pricing = pricing_of(config, folder=inputs.recipe_dir, role="teacher")
    return asking_usd(
        rows,
        inputs.labels,
        config,
        pricing,
        token_stats(file, config.model),
        answers=("direct", "reasoned"),
        policy=plan.policy,
        file=file,
    )
