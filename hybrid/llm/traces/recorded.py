"""A model that replays answers recorded in a file, by the row's text: it costs nothing and needs no network."""

import hashlib
from pathlib import Path

import msgspec

from hybrid.errors import ConfigError, DataError
from hybrid.files.table import read_rows
from hybrid.llm.request import FailureKind, Reply, Request


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded answer."""

    id: str
    text_sha256: str
    """`text_digest` of the row's text."""
    rationale: str
    label: str
    confidence: float | None = None


def text_digest(text: str) -> str:
    """Hash a text, stripped and with its white space collapsed: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(" ".join(text.split()).encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Recorded:
    """A model that answers from a JSONL file of `Trace` rows. One answer was recorded for each text: sample 0."""

    name = "recorded"

    def __init__(self, path: Path) -> None:
        """Read the traces.

        Raises:
            ConfigError: there is no such file.
            DataError: a line is not a trace, or a text was recorded with two labels.
        """
        if not path.is_file():
            raise ConfigError(f"{path}: no such file of recorded answers; correct `traces` in the recipe")
        self._answers: dict[str, Trace] = {}
        for number, trace in enumerate(read_rows(path, Trace), start=1):
            first = self._answers.setdefault(trace.text_sha256, trace)
            if first.label != trace.label:
                raise DataError(
                    f"{path}:{number}: the text of {trace.id} is recorded as {trace.label!r} here and as "
                    f"{first.label!r} for {first.id}; expected one answer for each text: remove one line"
                )

    def ask(self, request: Request) -> Reply:
        """Reply with the recorded answer about `request.text`; a failed reply if there is none."""
        trace = self._answers.get(text_digest(request.text)) if request.text else None
        if trace is None or request.sample > 0:
            kind = FailureKind.NOT_RECORDED
            return Reply(status="failed", failure=kind, reason="not recorded", model=self.name, cost_usd=0.0)
        answer = {"rationale": trace.rationale, "label": trace.label, "confidence": trace.confidence}
        return Reply(status="ok", text=msgspec.json.encode(answer).decode(), model=self.name, cost_usd=0.0)
