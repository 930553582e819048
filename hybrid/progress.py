"""Progress of long work: what a display offers, and the one display that every command has."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

OnDone = Callable[[int, int], None]
"""Is called with the number of items done and the number of all items."""
PLAIN_EVERY_S = 15.0
"""The seconds between two lines of progress where the output is not a terminal."""
TERMINAL_EVERY_S = 0.2
"""The seconds between two updates of the line on a terminal."""
CLEAR_LINE = "\r\x1b[K"


class Progress(Protocol):
    """Shows a user how far the work is."""

    def say(self, line: str) -> None:
        """Show a sentence."""

    def advance(self, done: int, total: int) -> None:
        """Show how many of the items are done."""


class Screen:
    """The display of a command: a line for each step, and while it works how far it is.

    On a terminal that is one line, updated in place and gone when the step ends; elsewhere it is a line now and then.
    The work may report from several threads.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        """Write to `stream`, or where `quiet` nothing; None: to standard output, whatever that is at the time."""
        self._stream = stream
        self._quiet = quiet
        self._lock = threading.Lock()
        self._step = ""
        """The step at work; empty between steps."""
        self._start: tuple[float, int] | None = None
        """The time of the step's first report, and the items that were done then: they took none of this time."""
        self._last_report = (0, 0)
        """The items done and all items of the last report."""
        self._last_shown = 0.0

    @property
    def is_terminal(self) -> bool:
        """Whether lines can be updated in place."""
        return self._out.isatty()

    def say(self, line: str) -> None:
        """Print one line."""
        with self._lock:
            self._write(f"{CLEAR_LINE if self._step and self.is_terminal else ''}{line}\n")

    def skipped(self, stage: str) -> None:
        """Show that a stage is skipped because its stamp still holds."""
        self.say(f"  {stage:<12} unchanged, skipped")

    def finished(self, stage: str, seconds: float, says: str) -> None:
        """Print the result of a stage in one line."""
        self.say(f"  {stage:<12} {seconds:6.1f} s  {says}")

    @contextmanager
    def working(self, step: str) -> Iterator[None]:
        """Show a step as running until the block ends."""
        with self._lock:
            self._step, self._start, self._last_shown = step, None, time.monotonic()
            if self.is_terminal:
                self._write(f"  {step:<12} ...")
        try:
            yield
        finally:
            with self._lock:
                if self.is_terminal:
                    self._write(CLEAR_LINE)
                self._step = ""

    def advance(self, done: int, total: int) -> None:
        """Show how far the running step is, unless that was shown a moment ago; between steps it does nothing."""
        with self._lock:
            now = time.monotonic()
            # A step may count several times, such as for each of its trainings: the speed is that of the last count.
            if self._start is None or done < self._last_report[0] or total != self._last_report[1]:
                self._start = (now, done)
            self._last_report = (done, total)
            is_early = now - self._last_shown < (TERMINAL_EVERY_S if self.is_terminal else PLAIN_EVERY_S)
            if not self._step or is_early:
                return
            self._last_shown = now
            line = f"  {self._step:<12} {progress_line(done, total, now - self._start[0], done - self._start[1])}"
            self._write(f"{CLEAR_LINE}{line}" if self.is_terminal else f"{line}\n")

    @property
    def _out(self) -> TextIO:
        return self._stream or sys.stdout

    def _write(self, text: str) -> None:
        if self._quiet:
            return
        self._out.write(text)
        self._out.flush()


def progress_line(done: int, total: int, seconds: float, done_now: int) -> str:
    """Say how far the work is, its speed, and the time that is left; `done_now` items took `seconds`."""
    line = f"{done:,} of {total:,} ({done / max(total, 1):.0%})"
    if done_now <= 0 or seconds <= 0:
        return line
    left_s = (total - done) * seconds / done_now
    left = f"{left_s / 60:.0f} min" if left_s >= 90 else f"{left_s:.0f} s"
    return f"{line}, {done_now / seconds:,.3g} a second, {left} left"
