"""What the screen says while a run works: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

OnDone = Callable[[int, int], None]
PLAIN_EVERY_S = 15.0


class Screen:
    """One line a stage, and a bar under it while the stage works."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._shown: OnDone | None = None

    def say(self, line: str) -> None:
        """Print one line."""
        self.console.print(line, markup=False)

    def skipped(self, stage: str) -> None:
        """Say that a stage's stamp still holds."""
        self.say(f"  {stage:<12} unchanged, skipped")

    def advance(self, done: int, total: int) -> None:
        """Show how far the running stage is. Safe to call from threads; does nothing between stages."""
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
        """Print what a stage came to."""
        self.say(f"  {stage:<12} {seconds:6.1f} s  {says}")

    @contextmanager
    def _bar(self, stage: str) -> Iterator[None]:
        columns = (SpinnerColumn(), TextColumn(stage), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, transient=True) as progress:
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
