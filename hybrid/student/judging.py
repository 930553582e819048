"""Judges a student on test rows, through the file that answers: labels, probabilities, time, and answers that go on talking."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np

from hybrid.evaluation.metrics import accuracy, ece, macro_f1, nll
from hybrid.label_sets import index_by_label
from hybrid.llm.student.decoder import Answer, Student
from hybrid.types import Example, Report, Row

OnDone = Callable[[int, int], None]
LEAKAGE_ROWS = 100
"""Rows on which it is looked whether a direct answer ends."""


class JudgedRow(Row, frozen=True, kw_only=True):
    """A test row under the student."""

    id: str
    gold: str
    label: str
    probs: tuple[float, ...]
    """In the order of the recipe's labels, uncalibrated."""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """The answers and their scores."""

    rows: list[JudgedRow]
    report: Report


def judge(student: Student, rows: Sequence[Example], labels: Sequence[str], *, on_done: OnDone | None = None) -> Judged:
    """Score the labels of every row, and compare the most probable one with the row's own."""
    if not rows:
        return Judged(rows=[], report={"rows": 0})
    started, processor = time.perf_counter(), time.process_time()
    answers: list[Answer] = []
    with ThreadPoolExecutor(student.slots) as threads:
        for answer in threads.map(lambda row: student.answer(row.text, labels), rows):
            answers.append(answer)
            if on_done:
                on_done(len(answers), len(rows))
    seconds, processor_s = time.perf_counter() - started, time.process_time() - processor
    probs, index = np.array([answer.probs for answer in answers]), index_by_label(labels)
    gold, best = np.array([index[row.label] for row in rows]), probs.argmax(axis=1)
    judged = [
        JudgedRow(id=row.id, gold=row.label, label=labels[i], probs=tuple(round(p, 6) for p in row_probs))
        for row, i, row_probs in zip(rows, best, probs.tolist(), strict=True)
    ]
    report = {
        "rows": len(rows),
        "accuracy": round(accuracy(gold, best), 6),
        "macro_f1": round(macro_f1(gold, best, len(labels)), 6),
        "ece": round(ece(probs, gold), 6),
        "nll": round(nll(probs, gold), 6),
        "ms_a_text": round(1000 * seconds / len(rows), 2),
        "processor_ms_a_text": round(1000 * processor_s / len(rows), 2),
        "goes_on_talking": _leakage(student, judged, rows),
    }
    return Judged(rows=judged, report=report)


def _leakage(student: Student, judged: Sequence[JudgedRow], rows: Sequence[Example]) -> float | None:
    """The share of direct answers that do not end after the label; None under `pre`, which gives no direct answer."""
    if student.card.layout == "pre":
        return None
    pairs = list(zip(rows, judged, strict=True))[:LEAKAGE_ROWS]
    return round(sum(student.goes_on_talking(row.text, answer.label) for row, answer in pairs) / len(pairs), 4)
