"""The last lines of every benchmark: one line for each target, and exit status 1 if the figure misses any."""

import sys

_short: list[str] = []


def bar(name: str, figure: object, wanted: str, ok: bool) -> None:
    """Print one target and remember whether `figure` reached it.

    The form of the line is fixed, because scripts read it: `bar NAME: FIGURE (wanted WANTED) ok|short`.
    """
    print(f"bar {name}: {figure} (wanted {wanted}) {'ok' if ok else 'short'}")
    if not ok:
        _short.append(name)


def finish() -> None:
    """End with exit status 1 if any target was missed."""
    sys.exit(1 if _short else 0)
