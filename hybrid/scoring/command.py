"""`hybrid score`: label every row of a file."""

import argparse
import sys
import time
from pathlib import Path

import hybrid
from hybrid.scoring.parts import Tally
from hybrid.scoring.score import Job, score

PLAIN_EVERY_S = 15.0
TERMINAL_EVERY_S = 0.2
STOPPED = 130
"""What a shell calls the status of a program that was interrupted."""


def add_score(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `hybrid`."""
    command = commands.add_parser("score", help="label every row of a jsonl, csv, tsv or parquet file of any size")
    command.add_argument("input", type=Path, metavar="IN", help="the file, with its rows")
    command.add_argument("output", type=Path, metavar="OUT", help="the same rows with label, confidence and escalate")
    command.add_argument("--bundle", type=Path, required=True, help="the folder of a bundle")
    command.add_argument("--text", default="text", metavar="COLUMN", help="the column of the texts (%(default)s)")
    command.add_argument("--threshold", type=float, help="escalate below this confidence, instead of the bundle's own")
    command.add_argument("--prefix", default="hybrid_", help="of the added columns (%(default)s)")
    command.add_argument("--probs", action="store_true", help="add the probability of every label")
    command.add_argument("--skip-bad", action="store_true", help="mark rows that cannot be read, and go on")
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
    try:
        tally = score(hybrid.load(options.bundle), options.bundle, job, Screen())
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        sys.exit(STOPPED)
    print(says(tally, job.target))


def says(tally: Tally, target: Path) -> str:
    """Return in one sentence what became of the rows."""
    answered = max(tally.rows - tally.bad, 1)
    labels = ", ".join(f"{label or 'no label'} {count:,}" for label, count in sorted(tally.labels.items()))
    return (
        f"{target}: {tally.rows:,} rows ({labels or 'no label given'}); "
        f"{tally.escalate:,} to escalate ({tally.escalate / answered:.1%}), {tally.truncated:,} cut, {tally.bad:,} bad"
    )


class Screen:
    """Progress on standard error: a line that moves on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._moves = sys.stderr.isatty()
        self._begun: tuple[float, int] | None = None
        self._said = time.monotonic()

    def say(self, line: str) -> None:
        """Print a sentence."""
        print(line, file=sys.stderr, flush=True)

    def advance(self, done: int, total: int) -> None:
        """Print how far the work is, where it is time to."""
        now = time.monotonic()
        # The speed counts from the first chunk of this process: what was scored before took none of its time.
        self._begun = self._begun or (now, done)
        last = done == total
        if now - self._said < (TERMINAL_EVERY_S if self._moves else PLAIN_EVERY_S) and not (last and self._moves):
            return
        self._said = now
        line = progress_line(done, total, now - self._begun[0], done - self._begun[1])
        print(f"\r\x1b[K{line}" if self._moves else line, end="\n" if last or not self._moves else "", file=sys.stderr)
        sys.stderr.flush()


def progress_line(done: int, total: int, seconds: float, done_now: int) -> str:
    """Return how far the work is, how fast, and what is left of it."""
    line = f"{done:,} of {total:,} rows ({done / max(total, 1):.0%})"
    if done_now <= 0 or seconds <= 0:
        return line
    left = (total - done) * seconds / done_now
    said = f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
    return f"{line}, {done_now / seconds:,.0f} rows/s, {said} left"
