"""The line that says how far a step is, at times that are given."""

import io

import pytest

from hybrid import progress
from hybrid.progress import Screen, progress_line


def shown(reports: list[tuple[float, int, int]], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the screen shows of reports, each with its time in seconds, the items done and all items."""
    times = iter([0.0, *(at for at, _, _ in reports)])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    stream = io.StringIO()
    screen = Screen(stream)
    with screen.working("train"):
        for _, done, total in reports:
            screen.advance(done, total)
    return stream.getvalue().splitlines()


def test_the_speed_is_that_since_the_first_report(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown([(10, 5, 100), (30, 25, 100)], monkeypatch)
    assert lines == ["  train        25 of 100 (25%), 1 a second, 75 s left"]


@pytest.mark.parametrize(("second", "line"), [(80, "40 of 80 (50%)"), (100, "40 of 100 (40%)")])
def test_a_step_that_counts_anew_has_the_speed_of_its_last_count(
    second: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = shown([(0, 1, 100), (1000, 100, 100), (1010, 1, second), (1030, 40, second)], monkeypatch)
    left = (second - 40) * 20 / 39
    assert lines[-1] == f"  train        {line}, 1.95 a second, {left:.0f} s left"


def test_a_line_between_two_shown_ones_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(shown([(16, 1, 9), (17, 2, 9), (40, 3, 9)], monkeypatch)) == 2


def test_without_a_second_report_there_is_no_speed() -> None:
    assert progress_line(3, 9, 0, 0) == "3 of 9 (33%)"
    assert progress_line(0, 0, 1, 0) == "0 of 0 (0%)"
