"""The lines of a text file, one at a time and in constant memory."""

import shutil
from collections.abc import Generator, Sequence
from pathlib import Path

from hybrid.errors import DataError
from hybrid.files.table import whole_file

LONGEST_LINE = 64 << 20
"""Bytes. A file without line ends would be read whole otherwise."""
BOM = b"\xef\xbb\xbf"


def read_lines(path: Path, name: str) -> Generator[tuple[int, int, bytes], None, None]:
    """Yield the number of each line (from 1), the position of its first byte in the file, and the line with its end.

    A byte order mark at the start of the file is left out. Lines end with a line feed and nothing else: other
    characters that end lines of text, such as U+2028, may stand inside a JSON string.

    Raises:
        DataError: the file cannot be read, or a line is longer than any row should be.
    """
    try:
        with path.open("rb") as file:
            number, start = 0, 0
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise DataError(
                        f"{name}:{number}: a line of more than {LONGEST_LINE >> 20} MiB; expected one row a line: is "
                        "the file of the format that its name says?"
                    )
                end = start + len(line)
                if number == 1:
                    line = line.removeprefix(BOM)
                yield number, end - len(line), line
                start = end
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror}); name a file that exists") from error


def not_utf8(name: str, number: int, start: int, error: UnicodeDecodeError) -> str:
    """Return the message for a line that starts at byte `start` of the file and is not UTF-8."""
    byte = error.object[error.start]
    return (
        f"{name}:{number}: byte {start + error.start} of the file (0x{byte:02x}) is not UTF-8; save the file as UTF-8"
    )


def join_bytes(parts: Sequence[Path], target: Path) -> None:
    """Write files one after the other as one file, whole or not at all."""
    with whole_file(target) as file:
        for part in parts:
            with part.open("rb") as content:
                shutil.copyfileobj(content, file)
