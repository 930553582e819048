"""`hybrid score`: label every row of a file."""

import argparse
import sys
import time
from pathlib import Path

import hybrid
from hybrid.files.formats import FORMATS
from hybrid.progress import PLAIN_EVERY_S
from hybrid.runtime.promises import advice, effect_line
from hybrid.scoring.parts import Tally
from hybrid.scoring.score import Job, score

TERMINAL_EVERY_S = 0.2
"""The seconds between two updates of the line on a terminal."""
INTERRUPTED = 130
"""The exit status of an interrupted program, as shells define it."""


def add_score(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `hybrid`."""
    formats = ", ".join(name for name, file_format in FORMATS.items() if file_format.can_write)
    command = commands.add_parser("score", help=f"label every row of a file of any size ({formats})")
    command.add_argument("input", type=Path, metavar="IN", help="the file to score")
    command.add_argument(
        "output", type=Path, metavar="OUT", help="the file to write: the same rows with label, confidence and escalate"
    )
    command.add_argument("--bundle", type=Path, required=True, help="the folder of the bundle")
    command.add_argument(
        "--text", default="text", metavar="COLUMN", help="the column that holds the texts (%(default)s)"
    )
    command.add_argument(
        "--threshold", type=float, help="escalate below this confidence (default: the bundle's threshold)"
    )
    command.add_argument("--prefix", default="hybrid_", help="how the names of the added columns begin (%(default)s)")
    command.add_argument("--probs", action="store_true", help="add the probability of every label")
    command.add_argument("--skip-bad", action="store_true", help="mark rows that cannot be read, instead of stopping")
    command.set_defaults(act=_score)


def _score(options: argparse.Namespace) -> None:
    job = Job(
        source=options.input,
        target=options.output,
        text=options.text,
        threshold=options.threshold,
        prefix=options.prefix,
        probs=options.probs,
        skip_bad=options.skip_bad,
    )
    classifier, progress = hybrid.load(options.bundle), StderrProgress()
    bundle = classifier.bundle
    if hint := (
        advice(bundle.threshold, bundle.reference)
        if job.threshold is None
        else effect_line(bundle.reference, job.threshold)
    ):
        progress.say(hint)
    try:
        tally = score(classifier, options.bundle, job, progress)
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to continue", file=sys.stderr)
        sys.exit(INTERRUPTED)
    print(summary_line(tally, job.target))


def summary_line(tally: Tally, target: Path) -> str:
    """Return the result in one sentence: rows by label, and how many escalate, were truncated or could not be read."""
    answered = max(tally.rows - tally.bad, 1)
    labels = ", ".join(f"{label or 'no label'} {count:,}" for label, count in sorted(tally.labels.items()))
    return (
        f"{target}: {tally.rows:,} rows ({labels or 'no label given'}); "
        f"{tally.escalate:,} to escalate ({tally.escalate / answered:.1%}), {tally.truncated:,} truncated, "
        f"{tally.bad:,} unreadable"
    )


class StderrProgress:
    """Progress on standard error: one line that is updated on a terminal, and plain lines elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._start: tuple[float, int] | None = None
        """The time of the first call in this process, and the rows that were done then."""
        self._last_shown = time.monotonic()

    def say(self, line: str) -> None:
        """Print a sentence."""
        print(line, file=sys.stderr, flush=True)

    def advance(self, done: int, total: int) -> None:
        """Print how far the work is, unless it was printed a moment ago."""
        now = time.monotonic()
        # The speed is measured from the first chunk of this process: earlier chunks took none of its time.
        self._start = self._start or (now, done)
        last = done == total
        if now - self._last_shown < (TERMINAL_EVERY_S if self._is_terminal else PLAIN_EVERY_S) and not (
            last and self._is_terminal
        ):
            return
        self._last_shown = now
        line = progress_line(done, total, now - self._start[0], done - self._start[1])
        print(
            f"\r\x1b[K{line}" if self._is_terminal else line,
            end="\n" if last or not self._is_terminal else "",
            file=sys.stderr,
        )
        sys.stderr.flush()


def progress_line(done: int, total: int, seconds: float, done_now: int) -> str:
    """Return how far the work is, its speed, and the time that is left."""
    line = f"{done:,} of {total:,} rows ({done / max(total, 1):.0%})"
    if done_now <= 0 or seconds <= 0:
        return line
    left_s = (total - done) * seconds / done_now
    left = f"{left_s / 60:.0f} min" if left_s >= 90 else f"{left_s:.0f} s"
    return f"{line}, {done_now / seconds:,.0f} rows/s, {left} left"
