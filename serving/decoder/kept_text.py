"""Cuts a text to what the decoder is sent and the review store keeps: an encoder reads a page, and a text may be a book."""

from typing import Literal

MARK = "\n[...]\n"
"""Stands where the middle of a text was cut out."""


def cut_text(text: str, max_bytes: int, loses: Literal["right", "left", "both"]) -> str:
    """Return the text itself, or of one that has over `max_bytes` of UTF-8 as much as that.

    `loses` is where it is cut, as in `TextLimits`: its end, its beginning or (both ends stay) its middle.
    """
    if 4 * len(text) <= max_bytes:
        return text
    content = text.encode("utf-8", "replace")
    if len(content) <= max_bytes:
        return text
    if loses == "right":
        return _text(content[:max_bytes])
    if loses == "left":
        return _text(content[-max_bytes:])
    half = max(0, max_bytes - len(MARK)) // 2
    return f"{_text(content[:half])}{MARK}{_text(content[len(content) - half :])}"


def _text(content: bytes) -> str:
    """Decode, without the characters that are cut in two."""
    return content.decode("utf-8", "ignore")
