"""Judges a student on test rows, through the file that answers: labels, probabilities, time, and answers that go on talking.

`python -m hybrid.student.judging QUESTION ANSWER` is the process in which `judge_apart` does it.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np

from hybrid.errors import LLMError
from hybrid.evaluation.metrics import accuracy, ece, macro_f1, nll
from hybrid.label_sets import index_by_label
from hybrid.llm.student.decoder import Answer, Student
from hybrid.types import Example, Report, Row

OnDone = Callable[[int, int], None]
LEAKAGE_ROWS = 100
"""Rows on which it is looked whether a direct answer ends."""


_DONE = "done "
"""What a line of the judging process begins with that says how many rows are answered."""


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


class _Question(msgspec.Struct, frozen=True, kw_only=True):
    """What the process that judges is given."""

    path: str
    rows: list[Example]
    labels: list[str]


def judge_apart(path: Path, rows: Sequence[Example], labels: Sequence[str], *, on_done: OnDone | None = None) -> Judged:
    """`judge` in a process of its own.

    In the process that trained, torch's threads keep the processors that llama.cpp's wait for, and an answer takes many
    times as long.

    Raises:
        LLMError: the process ended without a result; the message has its last line.
    """
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder, "question.json"), Path(folder, "answer.json")
        question.write_bytes(msgspec.json.encode(_Question(path=str(path), rows=list(rows), labels=list(labels))))
        command = [sys.executable, "-m", "hybrid.student.judging", str(question), str(answer)]
        with (
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8") as process,
        ):
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    if on_done and line.startswith(_DONE):
                        on_done(int(line.removeprefix(_DONE)), len(rows))
            except BaseException:
                process.kill()
                raise
            process.wait()
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
        if process.returncode or not answer.is_file():
            last = lines[-1] if lines else f"exit status {process.returncode}"
            raise LLMError(f"{path}: the student could not be judged: {last}")
        return msgspec.json.decode(answer.read_bytes(), type=Judged)


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


def main(question_path: str, answer_path: str) -> None:
    """Judge as the question says, print how far it is, and write the answer."""
    question = msgspec.json.decode(Path(question_path).read_bytes(), type=_Question)
    judged = judge(Student(Path(question.path)), question.rows, question.labels, on_done=_print_done)
    Path(answer_path).write_bytes(msgspec.json.encode(judged))


def _print_done(done: int, _total: int) -> None:
    sys.stdout.write(f"{_DONE}{done}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
