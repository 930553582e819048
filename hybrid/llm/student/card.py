"""What a student's GGUF file tells about it: labels, layout, limits. It lies in the file's own metadata."""

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from hybrid.errors import LLMError
from hybrid.llm.student.layouts import Layout

_PREFIX = "hybrid.student."
_FORMAT = 1
_MARK = f"{_PREFIX}format".encode()
_WHERE_METADATA_ENDS = 64 << 20
"""A GGUF file begins with its metadata; the largest vocabularies take some 20 MB."""


class StudentCard(msgspec.Struct, frozen=True, kw_only=True):
    """How a student is to be asked."""

    labels: tuple[str, ...]
    layout: Layout
    max_tokens: int
    """Tokens of a text that it reads."""
    chains: int
    """layout = "pre": the reasons that are sampled for an answer."""
    recipe: str
    """The name of the recipe that it was trained by."""

    def to_metadata(self) -> dict[str, Any]:
        """The values by their key in a GGUF file."""
        fields = msgspec.structs.asdict(self) | {"labels": list(self.labels)}
        return {f"{_PREFIX}format": _FORMAT} | {f"{_PREFIX}{name}": value for name, value in fields.items()}


def is_student(path: Path) -> bool:
    """Whether a file is a student's; nothing is parsed."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(_MARK, 0, _WHERE_METADATA_ENDS) >= 0
    except (OSError, ValueError):  # an empty file cannot be mapped; whoever loads it says what is wrong
        return False


def read_card(metadata: Mapping[str, Any], where: str) -> StudentCard:
    """Read the card in a file's metadata; `where` names the file, for messages.

    Raises:
        LLMError: the file is no student's, or one of a later version.
    """
    if (version := metadata.get(f"{_PREFIX}format")) != _FORMAT:
        raise LLMError(
            f"{where}: student format {version!r}, expected {_FORMAT}; train it anew with `hybrid student`, or update the package"
        )
    fields = {name: metadata.get(_PREFIX + name) for name in StudentCard.__struct_fields__}
    try:
        return msgspec.convert(fields, StudentCard)
    except msgspec.ValidationError as error:
        raise LLMError(
            f"{where}: its student metadata cannot be read ({error}); train it anew with `hybrid student`"
        ) from error
