"""The results of a batch, read line by line: an odd line is the failure of its own request."""

import re
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from hybrid.llm.messages_format import decode_body, is_error, is_message
from hybrid.llm.request import FailureKind, Reply, Request

_RETRYABLE = {
    "api_error": FailureKind.SERVER_ERROR,
    "overloaded_error": FailureKind.RATE_LIMITED,
    "rate_limit_error": FailureKind.RATE_LIMITED,
    "timeout_error": FailureKind.SERVER_ERROR,
}
"""Temporary errors of one request in a batch; every other type means that the request is invalid."""
_CUSTOM_ID = re.compile(rb'"custom_id"\s*:\s*"([^"\\]+)"')


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How one request of a batch ended."""

    key: str
    """`hybrid.llm.request.key` of model and request."""
    reply: Reply | None = None
    """None where there is no message: errored, canceled, expired, or not of the protocol."""
    reason: str = ""
    """Why there is no reply, in words for people."""
    kind: FailureKind = FailureKind.EXPIRED
    """Why there is no reply."""
    retryable: bool = False
    """Whether the same request may be answered in another batch."""
    billed: bool = False
    """Whether the request may have been billed although there is no reply."""


class ReadMessage(Protocol):
    """Converts a message of a batch to a reply."""

    def __call__(self, message: dict[str, Any], request: Request, *, batch: bool) -> Reply:
        """Convert the message that answers `request`."""


def read_results(content: bytes, requests: Mapping[str, Request], read: ReadMessage) -> dict[str, Result]:
    """Read the lines of a batch's results by key; a line that does not even name its request is left out."""
    lines = [_result(line, requests, read) for line in content.split(b"\n") if line.strip()]
    return {result.key: result for result in reversed(lines) if result is not None}


def n_readable(results: Mapping[str, Result]) -> int:
    """Count the results that could be read."""
    return sum(result.kind is not FailureKind.UNREADABLE for result in results.values())


def _result(line: bytes, requests: Mapping[str, Request], read: ReadMessage) -> Result | None:
    try:
        entry = decode_body(line)
    except ValueError:
        named = _CUSTOM_ID.search(line)
        return (
            _lost(named[1].decode(errors="replace"), "its result in the batch is cut off or not JSON")
            if named
            else None
        )
    digest = entry.get("custom_id") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(digest, str):
        return None
    result = entry.get("result")
    ended = result.get("type") if isinstance(result, dict) else None
    if not isinstance(result, dict) or not isinstance(ended, str):
        return _lost(digest, f"its result in the batch is not of the protocol: {str(result)[:80]!r}")
    message, error = result.get("message"), result.get("error")
    if ended == "succeeded" and is_message(message):
        request = requests.get(digest)
        return Result(key=digest, reply=read(message, request, batch=True) if request else None, billed=True)
    if ended == "errored" and is_error(error):
        detail = error["error"]
        return Result(
            key=digest,
            reason=f"errored in the batch: {detail['type']}: {detail.get('message')}",
            kind=_RETRYABLE.get(detail["type"], FailureKind.REJECTED),
            retryable=detail["type"] in _RETRYABLE,
        )
    if ended in ("canceled", "expired"):
        # Only a person cancels a batch, so its requests are not submitted again.
        return Result(key=digest, reason=f"{ended} in the batch", retryable=ended == "expired")
    return _lost(digest, f"its result in the batch is not of the protocol: {str(result)[:80]!r}")


def _lost(digest: str, reason: str) -> Result:
    return Result(key=digest, reason=reason, kind=FailureKind.UNREADABLE, billed=True)
