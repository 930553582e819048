"""Drafts that a teacher wrote earlier, from a JSONL file beside the recipe."""

from pathlib import Path

import msgspec

from hybrid.errors import ConfigError, DataError
from hybrid.types import Draft


class _Recorded(msgspec.Struct, frozen=True):
    label: str
    text: str
    plan: str = ""
    parents: tuple[str, ...] = ()


def read_drafts(path: Path) -> list[Draft]:
    """Read the drafts in a JSONL file with `label`, `text` and optionally `plan` and `parents`, without judging them.

    Raises:
        ConfigError: the file cannot be read.
        DataError: a line is not a draft; the message names file and line.
    """
    decode = msgspec.json.Decoder(_Recorded).decode
    drafts = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(
            f"synthesize.drafts: {path} cannot be read ({error.strerror}); name a JSONL file that exists"
        ) from error
    for number, line in enumerate(lines, start=1):
        try:
            recorded = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DataError(
                f"{path}:{number}: not a draft ({error}); expected label and text, and optionally plan and parents"
            ) from error
        drafts.append(
            Draft(
                id=f"draft/{number}",
                text=recorded.text,
                label=recorded.label,
                plan=recorded.plan,
                parents=recorded.parents,
            )
        )
    return drafts
