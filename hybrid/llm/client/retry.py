"""Classifies failed calls: what went wrong, whether a retry can help, and whether the call may have been billed."""

import random
from typing import Any

import msgspec

from hybrid.llm.messages_format import is_error
from hybrid.llm.request import FailureKind
from hybrid.retry_after import retry_after_s
from hybrid.urls import hide_user_info

_RETRYABLE = {408, 409, 425, 429, 499}
"""HTTP statuses below 500 that may be temporary; all from 500 on may be."""
_FATAL = {401, 402, 404, 405}
"""HTTP statuses that say that no request will be answered: a wrong key, no such model or path. Every other may be about
one text: a filter of the provider, a firewall, a prompt that is too long."""
_RATE_LIMITED = {429, 529}
_TIMED_OUT = {"APITimeoutError", "TimeoutException"}
"""Exceptions of the SDK and its transport for calls that took too long."""
_NEVER_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout"}
"""Exceptions of the transport for connections that were never established."""
_MAX_MESSAGE_CHARS = 200
"""The most characters of a server's message that ours quotes."""


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """The policy for retries: how often a failed request is sent again, and after what wait."""

    tries: int = 4
    first_wait_s: float = 1.0
    """The wait after the first try. It doubles with each try, and up to half of it is added at random."""
    longest_wait_s: float = 60.0
    """The longest wait. A server that asks for more gets no further try."""

    def wait_s(self, number: int, retry_after_s: float = 0.0) -> float:
        """Compute the seconds to wait after try `number` (from 1), no less than the server asks for."""
        backoff = self.first_wait_s * float(2 ** (number - 1)) * (1 + random.random() / 2)
        return max(min(backoff, self.longest_wait_s), retry_after_s)


class CallFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Explains why a call got no answer."""

    kind: FailureKind
    reason: str
    """The explanation for people."""
    status: int = 0
    """The HTTP status of an error; 0 where there was no answer, or one that is no error."""
    retryable: bool = False
    """Whether a retry may get an answer."""
    fatal: bool = False
    """Whether no request will ever be answered, unless the server has answered some before."""
    billed: bool = False
    """Whether the provider may charge for it: it may have had the whole request, and did not say in the protocol that it
    failed. The error page of a gateway says nothing about what happened behind it."""
    retry_after_s: float = 0.0
    """How long the server asks clients to wait."""

    @property
    def never_connected(self) -> bool:
        """Whether no connection was established."""
        return not self.status and not self.billed


def failure_of(error: Exception, where: str) -> CallFailure:
    """Explain an error of the SDK, or of the transport under it, about a call to the server `where`.

    Only an error that the server reports in the protocol is surely not billed. One that a gateway reports, and an answer
    that is lost after the request was sent, may be.
    """
    status: int | None = getattr(error, "status_code", None)
    if status is None or status < 300:
        never_sent = any(type(cause).__name__ in _NEVER_SENT for cause in (error, error.__cause__))
        kind = _kind_without_status(error) if status is None else FailureKind.UNREADABLE
        return CallFailure(kind=kind, reason=f"{where}: {_with_cause(error)}", retryable=True, billed=not never_sent)
    headers = error.response.headers  # type: ignore[attr-defined] # an error with a status has the response
    if status < 400:
        target = hide_user_info(str(headers.get("location", "elsewhere")))[:_MAX_MESSAGE_CHARS]
        reason = f"{where}: status {status} redirects to {target}; redirects are not followed, since key and texts would go there"
        return CallFailure(kind=FailureKind.REJECTED, reason=reason, status=status, fatal=True, billed=True)
    retryable = status in _RETRYABLE or status >= 500
    return CallFailure(
        kind=_kind_of_status(status),
        reason=f"{where}: status {status}: {_message_of(error)}",
        status=status,
        retryable=retryable,
        fatal=status in _FATAL,
        billed=not is_error(getattr(error, "body", None)),
        retry_after_s=retry_after_s(headers.get("retry-after", "")) or 0.0,
    )


def _kind_without_status(error: Exception) -> FailureKind:
    """Distinguish a call that took too long from a connection that failed, by the SDK's and its transport's exceptions."""
    names = {base.__name__ for cause in (error, error.__cause__) for base in type(cause).__mro__}
    return FailureKind.TIMED_OUT if names & _TIMED_OUT else FailureKind.NETWORK


def _kind_of_status(status: int) -> FailureKind:
    if status in _RATE_LIMITED:
        return FailureKind.RATE_LIMITED
    return FailureKind.SERVER_ERROR if status >= 500 else FailureKind.REJECTED


def _with_cause(error: Exception) -> str:
    return hide_user_info(f"{error} ({error.__cause__})" if error.__cause__ and str(error.__cause__) else str(error))


def _message_of(error: Any) -> str:
    """Extract the message from the body of a server's error, or else the error's own, on one line."""
    body = getattr(error, "body", None)
    detail = body.get("error") if isinstance(body, dict) else None
    message = detail.get("message") if isinstance(detail, dict) else None
    return hide_user_info(" ".join(str(message or error).split()))[:_MAX_MESSAGE_CHARS]
