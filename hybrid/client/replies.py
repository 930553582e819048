"""Read replies: answers in the order of the texts, or the error that the status stands for."""

from collections.abc import Sequence

import msgspec

from hybrid.client.errors import BY_STATUS, ClientError, DeadlineError, ServerError, UnreachableError
from hybrid.client.messages import Answer, ErrorReply, Failed, Reply
from hybrid.retry_after import retry_after_s

SHOWN = 200
"""Characters of a body that an error message shows."""


class Received(msgspec.Struct, frozen=True):
    """A reply of the service, not yet decoded."""

    status: int
    body: bytes
    retry_after: str = ""
    """The value of the Retry-After header; empty without one."""


class NoReply(msgspec.Struct, frozen=True):
    """A request that got no reply, and why."""

    reason: str
    timed_out: bool = False


def read_reply(received: Received, texts: Sequence[str], first: int) -> list[Answer | Failed]:
    """Decode the answers to `texts`, one each; `first` is the position of the first text in the caller's list.

    Raises:
        ServerError: the body is not a reply of this service, or does not have one answer for each text.
    """
    try:
        reply = msgspec.json.decode(received.body, type=Reply)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ServerError(f"the reply is not one of this service ({error}): {_shown(received)}", status=200) from error
    failed = {
        failure.item: msgspec.structs.replace(failure, item=first + (failure.item or 0)) for failure in reply.failed
    }
    by_position = [failed.get(at) if answer is None else answer for at, answer in enumerate(reply.answers)]
    answers = [answer for answer in by_position if answer is not None]
    if len(answers) != len(texts):
        raise ServerError(
            f"{len(texts)} texts were sent and {len(answers)} answers came back; the service is faulty", status=200
        )
    return answers


def error_of(outcome: Received | NoReply, first: int) -> ClientError:
    """Return the error for a request without answers; `first` as in `read_reply`."""
    if isinstance(outcome, NoReply):
        return DeadlineError(outcome.reason) if outcome.timed_out else UnreachableError(outcome.reason)
    if 300 <= outcome.status < 400:
        return ServerError(
            f"status {outcome.status}: the service redirects elsewhere, and redirects are not followed, since key and texts "
            "would go there; correct the URL",
            status=outcome.status,
        )
    error_type = BY_STATUS.get(outcome.status, ServerError)
    wait_s = retry_after_s(outcome.retry_after)
    try:
        failure = msgspec.json.decode(outcome.body, type=ErrorReply).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return error_type(f"status {outcome.status}: {_shown(outcome)}", status=outcome.status, retry_after_s=wait_s)
    item = None if failure.item is None else first + failure.item
    return error_type(failure.message, kind=failure.kind, status=outcome.status, item=item, retry_after_s=wait_s)


def _shown(received: Received) -> str:
    return received.body[:SHOWN].decode(errors="replace")
