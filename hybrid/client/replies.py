"""Reads replies: answers in the order of the texts, or the error that the status names."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

from hybrid.client.errors import BY_STATUS, ClientError, DeadlineError, ServerError, UnreachableError
from hybrid.client.messages import Answer, ErrorReply, Failed, Reply

SHOWN = 200
"""Characters of a body that an error message shows."""


class Received(msgspec.Struct, frozen=True):
    """A reply as it came."""

    status: int
    body: bytes
    retry_after: str = ""


class NoReply(msgspec.Struct, frozen=True):
    """A request without a reply."""

    reason: str
    timed_out: bool = False


def read_reply(received: Received, texts: Sequence[str], first: int) -> list[Answer | Failed]:
    """Return an answer a text; `first` is the position of the first text in the caller's list.

    Raises:
        ServerError: the body is no reply to so many texts.
    """
    try:
        reply = msgspec.json.decode(received.body, type=Reply)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ServerError(f"the reply is not one of this service ({error}): {_shown(received)}", status=200) from error
    failed = {one.item: msgspec.structs.replace(one, item=first + (one.item or 0)) for one in reply.failed}
    found = [failed.get(at) if answer is None else answer for at, answer in enumerate(reply.answers)]
    known = [one for one in found if one is not None]
    if len(known) != len(texts):
        raise ServerError(
            f"{len(texts)} texts were sent and {len(known)} answers came; the service is faulty", status=200
        )
    return known


def error_of(got: Received | NoReply, first: int) -> ClientError:
    """Return the error of a request that got no answers."""
    if isinstance(got, NoReply):
        return DeadlineError(got.reason) if got.timed_out else UnreachableError(got.reason)
    error_type = BY_STATUS.get(got.status, ServerError)
    wait = seconds_of(got.retry_after)
    try:
        said = msgspec.json.decode(got.body, type=ErrorReply).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return error_type(f"status {got.status}: {_shown(got)}", status=got.status, retry_after_s=wait)
    item = None if said.item is None else first + said.item
    return error_type(said.message, kind=said.kind, status=got.status, item=item, retry_after_s=wait)


def seconds_of(retry_after: str) -> float | None:
    """Return the wait that a Retry-After header asks for, as seconds or as a date; None where it says neither."""
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(retry_after).astimezone(UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _shown(received: Received) -> str:
    return received.body[:SHOWN].decode(errors="replace")
