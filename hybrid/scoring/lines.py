"""The lines of a text file, one at a time."""

from collections.abc import Iterator
from pathlib import Path

from hybrid.errors import DataError

LONGEST_LINE = 64 << 20
"""Bytes. A file without line ends would else be read whole."""
BOM = b"\xef\xbb\xbf"


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield each line with its number, from 1; a byte order mark at the start is left out.

    Raises:
        DataError: the file cannot be read, or a line is longer than any row should be.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise DataError(
                        f"{path}:{number}: a line of more than {LONGEST_LINE >> 20} MiB; want a row a line: is it the "
                        "format that its name says?"
                    )
                yield number, line.removeprefix(BOM) if number == 1 else line
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); name a file that exists") from error
