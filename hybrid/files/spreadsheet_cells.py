"""Cells of a csv for people: a spreadsheet must show a text such as `=1+1` and never run it as a formula."""

import re

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"'+[=+\-@\t\r]")


def guard(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would run; `unguard` takes it away again."""
    return f"'{text}" if _FORMULA.match(text) else text


def unguard(cell: str) -> str:
    """Return the text of a cell that `guard` wrote."""
    return cell[1:] if _GUARDED.match(cell) else cell
