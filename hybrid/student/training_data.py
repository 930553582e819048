"""What a student learns from: each training row with the label that cleaning decided, and the reasons for that label.

A teacher's reason for another label than the decided one teaches the student to argue for it, so only reasons whose
answer is the decided label train (rejection sampling; Zelikman et al. 2022, Yuan et al. 2023). Every row and every trace has a
status, and the counts add up to what was given.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal, get_args

import msgspec
import numpy as np

from hybrid.config import StudentConfig
from hybrid.data.duplicates import jaccard, shingles
from hybrid.errors import DataError
from hybrid.llm.student.layouts import one_line
from hybrid.types import Decision, Example, Report, Row, Vote

RowStatus = Literal["with_reason", "label_only", "never_right", "no_usable_reason", "dropped"]
"""with_reason: it trains with one reason or more. label_only: nobody gave a reason for any label, and it trains its label
alone. never_right: there are answers, and none is the decided label. no_usable_reason: an answer is the decided label, and
its reason was refused. dropped: cleaning dropped it. The last three train nothing."""
TraceStatus = Literal[
    "trains", "rejected", "no_label", "empty", "verbose", "near_copy", "over_limit", "over_share", "of_dropped_row"
]
"""rejected: its answer is not the decided label. no_label: it has no label of the set. verbose: it is longer than
`most_words`. near_copy: the row has a reason like it already. over_limit: the row has `per_row` reasons already.
over_share: its source has more than its share."""


class Trace(Row, frozen=True, kw_only=True):
    """A teacher's answer about a training row with its reason, and what became of it."""

    id: str
    source: str
    """Teacher and sample, as `Vote.source`."""
    label: str | None
    reason: str
    status: TraceStatus


class TrainedRow(Row, frozen=True, kw_only=True):
    """A training row as the student reads it, and whether it trains."""

    id: str
    text: str
    label: str
    weight: float
    status: RowStatus
    reasons: tuple[str, ...] = ()
    """The reasons that train, each on a line. Without rejection they may argue for another label: see `labels`."""
    labels: tuple[str, ...] = ()
    """The label that each reason argues for."""


class TrainingData(msgspec.Struct, frozen=True, kw_only=True):
    """The rows and traces with their status, and the figures for the report."""

    rows: list[TrainedRow]
    traces: list[Trace]
    report: Report


def training_data(
    rows: Sequence[Example],
    decisions: Sequence[Decision],
    votes: Sequence[Vote],
    labels: Sequence[str],
    config: StudentConfig,
    *,
    seed: int,
) -> TrainingData:
    """Choose the reasons that train, row by row, in the order of the votes.

    Raises:
        DataError: no row is left that a student could learn from, or only one label is.
    """
    by_id = {decision.id: decision for decision in decisions}
    of_row: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        of_row[vote.id].append(vote)
    over_share = _over_share(votes, config, seed)
    traces, trained = [], []
    for row in rows:
        decision = by_id[row.id]
        judged = _judged(of_row[row.id], decision, labels, config, over_share)
        traces += judged
        trained.append(_trained_row(row, decision, judged))
    data = TrainingData(rows=trained, traces=traces, report=_report(trained, traces, labels))
    _check(data, config)
    return data


def _judged(
    votes: Sequence[Vote],
    decision: Decision,
    labels: Sequence[str],
    config: StudentConfig,
    over_share: set[tuple[str, str]],
) -> list[Trace]:
    """Give each trace of a row its status."""
    chosen: list[frozenset[str]] = []
    traces = []
    for vote in votes:
        reason = one_line(vote.rationale)
        status = _status(vote, reason, decision, labels, config)
        if status == "trains" and (vote.id, vote.source) in over_share:
            status = "over_share"
        if status == "trains":
            of_reason = shingles(reason)
            if any(jaccard(of_reason, other) >= config.near_duplicate for other in chosen):
                status = "near_copy"
            elif len(chosen) >= config.per_row:
                status = "over_limit"
            else:
                chosen.append(of_reason)
        traces.append(Trace(id=vote.id, source=vote.source, label=vote.label, reason=reason, status=status))
    return traces


def _status(vote: Vote, reason: str, decision: Decision, labels: Sequence[str], config: StudentConfig) -> TraceStatus:
    if decision.weight <= 0:
        return "of_dropped_row"
    if vote.status != "ok" or vote.label not in labels:
        return "no_label"
    if config.rejection and vote.label != decision.label:
        return "rejected"
    if not reason:
        return "empty"
    return "verbose" if len(reason.split()) > config.most_words else "trains"


def _over_share(votes: Sequence[Vote], config: StudentConfig, seed: int) -> set[tuple[str, str]]:
    """Draw which traces of a source are beyond its share."""
    rng = np.random.default_rng(seed)
    drawn = set()
    for source, share in sorted(config.source_shares.items()):
        of_source = [vote for vote in votes if source in (vote.teacher, vote.source)]
        order = rng.permutation(len(of_source))[round(share * len(of_source)) :]
        drawn |= {(of_source[i].id, of_source[i].source) for i in order}
    return drawn


def _trained_row(row: Example, decision: Decision, traces: Sequence[Trace]) -> TrainedRow:
    chosen = [trace for trace in traces if trace.status == "trains"]
    answered = [trace for trace in traces if trace.label is not None]
    status: RowStatus
    if decision.weight <= 0:
        status = "dropped"
    elif chosen:
        status = "with_reason"
    elif not any(trace.reason for trace in answered):
        # Labels without any reason say nothing about whether the teacher could have argued for the decided one.
        status = "label_only"
    else:
        right = any(trace.label == decision.label for trace in answered)
        status = "no_usable_reason" if right else "never_right"
    return TrainedRow(
        id=row.id,
        text=row.text,
        label=decision.label,
        weight=decision.weight,
        status=status,
        reasons=tuple(trace.reason for trace in chosen),
        labels=tuple(trace.label or "" for trace in chosen),
    )


def _report(rows: Sequence[TrainedRow], traces: Sequence[Trace], labels: Sequence[str]) -> Report:
    """Count rows and traces by status; the rejected share by decided label is the teacher's ceiling made visible."""
    label_of = {row.id: row.label for row in rows if row.status != "dropped"}
    answered = Counter(label_of[trace.id] for trace in traces if trace.label is not None and trace.id in label_of)
    rejected = Counter(label_of[trace.id] for trace in traces if trace.status == "rejected")
    never_right = Counter(row.label for row in rows if row.status == "never_right")
    lengths = [len(reason.split()) for row in rows for reason in row.reasons]
    return {
        "rows": _counts(get_args(RowStatus), [row.status for row in rows]),
        "traces": _counts(get_args(TraceStatus), [trace.status for trace in traces]),
        "rejected_share": {
            label: round(rejected[label] / answered[label], 6) if answered[label] else None for label in labels
        },
        "never_right": {label: never_right[label] for label in labels},
        "reason_words": round(float(np.mean(lengths)), 2) if lengths else None,
    }


def _counts(statuses: Sequence[str], values: Sequence[str]) -> dict[str, int]:
    counts = Counter(values)
    return {status: counts[status] for status in statuses} | {"all": len(values)}


def _check(data: TrainingData, config: StudentConfig) -> None:
    trains = [row for row in data.rows if row.status in ("with_reason", "label_only")]
    if len({row.label for row in trains}) < 2:
        raise DataError(
            f"student: rows of {len({row.label for row in trains})} labels are left to learn from ({_spelled(data)}); expected "
            "two labels or more: see the report of clean, or name traces in student.traces"
        )
    if config.layout != "direct" and not any(row.reasons for row in trains):
        raise DataError(
            f"student: no trace is left that gives a reason ({_spelled(data)}), but layout {config.layout!r} trains reasons; "
            "name a file with the columns id or text, label and rationale in student.traces, or set student.layout = 'direct'"
        )


def _spelled(data: TrainingData) -> str:
    counts = {name: n for name, n in data.report["traces"].items() if n and name != "all"}
    return ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.items()) or "no traces"
