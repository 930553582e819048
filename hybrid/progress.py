"""Progress of long work: what a display offers, and the display of a run."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

OnDone = Callable[[int, int], None]
"""Is called with the number of items done and the number of all items."""
PLAIN_EVERY_S = 15.0
"""The seconds between two lines of progress where the output is not a terminal."""


class Progress(Protocol):
    """Shows a user how far the work is."""

    def say(self, line: str) -> None:
        """Show a sentence."""

    def advance(self, done: int, total: int) -> None:
        """Show how many of the items are done."""


class Screen:
    """The display of a run: a line for each stage, and a bar while it works (plain lines if there is no terminal)."""

    def __init__(self, console: "Console | None" = None) -> None:
        # Imported when used: scoring a file needs the protocol above, and no rich.
        from rich.console import Console

        self.console = console or Console(highlight=False, soft_wrap=True)
        self._shown: OnDone | None = None

    def say(self, line: str) -> None:
        """Print one line."""
        self.console.print(line, markup=False)

    def skipped(self, stage: str) -> None:
        """Show that a stage is skipped because its stamp still holds."""
        self.say(f"  {stage:<12} unchanged, skipped")

    def advance(self, done: int, total: int) -> None:
        """Show how far the running stage is. Threads may call it; between stages it does nothing."""
        shown = self._shown
        if shown:
            shown(done, total)

    @contextmanager
    def working(self, stage: str) -> Iterator[None]:
        """Show a stage as running until the block ends."""
        with self._bar(stage) if self.console.is_terminal else self._lines(stage):
            try:
                yield
            finally:
                self._shown = None

    def finished(self, stage: str, seconds: float, says: str) -> None:
        """Print the result of a stage in one line."""
        self.say(f"  {stage:<12} {seconds:6.1f} s  {says}")

    @contextmanager
    def _bar(self, stage: str) -> Iterator[None]:
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = (SpinnerColumn(), TextColumn(stage), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Bars(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(stage, total=None)
            self._shown = lambda done, total: progress.update(task, completed=done, total=total)
            yield

    @contextmanager
    def _lines(self, stage: str) -> Iterator[None]:
        last = time.monotonic()

        def show(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= PLAIN_EVERY_S:
                last = time.monotonic()
                self.say(f"  {stage:<12} {done} of {total}")

        self._shown = show
        yield
