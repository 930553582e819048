"""The lines of a text file, one at a time and in constant memory."""

import shutil
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import BinaryIO

from hybrid.errors import DataError
from hybrid.files.formats.records import Start
from hybrid.files.places import open_bytes
from hybrid.files.table import whole_file

LONGEST_LINE = 64 << 20
"""Bytes. A file without line ends would be read whole otherwise."""
BOM = b"\xef\xbb\xbf"
INVISIBLE = "\ufeff\u200b"
"""Characters that may surround a text or the name of a column without being seen."""
_OTHER_FORMATS = {
    b"PK\x03\x04": "a zip file (a workbook of Excel is one); expected text: name it .xlsx, or save the sheet as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "an old workbook of Excel; expected text: save the sheet as CSV UTF-8",
    b"\xff\xfe": "UTF-16; expected UTF-8: save the file as UTF-8 (in Excel: CSV UTF-8)",
    b"\xfe\xff": "UTF-16; expected UTF-8: save the file as UTF-8 (in Excel: CSV UTF-8)",
    b"\x1f\x8b": "compressed with gzip; expected text: decompress it",
    b"PAR1": "a parquet file; expected text: name it .parquet",
}
"""What a file is by its first bytes, where it is not text in UTF-8, and what to do."""


BEGINNING = Start(1, 0)


def read_lines(path: Path, name: str, start: Start = BEGINNING) -> Generator[tuple[int, int, bytes], None, None]:
    """Yield the number of each line (from 1), the position of its first byte in the file, and the line with its end.

    The first one is the line that begins at `start`.

    Byte order marks at the start of the file are left out. Lines end with a line feed and nothing else: other
    characters that end lines of text, such as U+2028, may stand inside a JSON string.

    Raises:
        DataError: the file cannot be read, is of another format, or a line is longer than any row should be.
    """
    try:
        with open_bytes(path) as file:
            file.seek(start.byte)
            yield from split_file(file, name, start)
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror or error}); name a file that exists") from error


def split_file(file: BinaryIO, name: str, at: Start = BEGINNING) -> Generator[tuple[int, int, bytes], None, None]:
    """Yield the lines of an open file, as `read_lines` does.

    Raises:
        DataError: as `read_lines`.
    """
    number, start = at.number - 1, at.byte
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise DataError(
                f"{name}:{number}: a line of more than {LONGEST_LINE >> 20} MiB; expected one row a line: is "
                "the file of the format that its name says?"
            )
        end = start + len(line)
        if not start:
            _refuse_other_formats(line, name)
            while line.startswith(BOM):
                line = line.removeprefix(BOM)
        yield number, end - len(line), line
        start = end


def _refuse_other_formats(first_line: bytes, name: str) -> None:
    for start, what in _OTHER_FORMATS.items():
        if first_line.startswith(start):
            raise DataError(f"{name}: by its first bytes this is {what}")


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
