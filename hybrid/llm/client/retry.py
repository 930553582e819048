"""What went wrong with a call, whether it can pass, and whether it may have been billed."""

import random
from typing import Any

import msgspec

from hybrid.llm.request import FailureKind
from hybrid.retry_after import retry_after_s

_CAN_PASS = {408, 409, 429}
_TOO_MANY = {429, 529}
_TIMED_OUT = {"APITimeoutError", "TimeoutException"}
"""What the SDK, and the transport under it, raise where a call took too long."""
_NEVER_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout")
"""What httpx calls a connection that never came about."""


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how long a request that can still pass is tried again."""

    tries: int = 4
    first_wait_s: float = 1.0
    """Doubled with each try; up to half of it is added at random."""
    longest_wait_s: float = 60.0
    """A server that asks for a longer wait than this is not waited for."""

    def wait_s(self, number: int, asked_s: float = 0.0) -> float:
        """Return the seconds to wait after try `number`, at least those that the server asks for."""
        backoff = self.first_wait_s * float(2 ** (number - 1)) * (1 + random.random() / 2)
        return max(min(backoff, self.longest_wait_s), asked_s)


class CallFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a call brought no answer."""

    kind: FailureKind
    reason: str
    status: int = 0
    """Of HTTP; 0 where there was no answer, or one of another protocol."""
    can_pass: bool = False
    """Whether another try may bring one."""
    fatal: bool = False
    """Whether no request of this kind will ever pass."""
    billed: bool = False
    """Whether the provider may charge for it: it had the whole request, and its answer was lost."""
    foreign: bool = False
    """Whether what came is not of the Messages protocol."""
    overloaded: bool = False
    asked_s: float = 0.0
    """How long the server asks to be left alone."""

    @property
    def unreached(self) -> bool:
        """Whether no connection came about."""
        return not self.status and not self.billed


def failure_of(error: Exception, where: str) -> CallFailure:
    """Return what an error of the SDK, or of the connection under it, means.

    Errors that the server states are not billed. What is lost after the request was sent may be.
    """
    status: int | None = getattr(error, "status_code", None)
    if status is None or status < 400:
        sent = not any(type(cause).__name__ in _NEVER_SENT for cause in (error, error.__cause__))
        reason = f"{where}: {_cause(error)}"
        kind = _kind_without_status(error) if status is None else FailureKind.UNREADABLE
        return CallFailure(kind=kind, reason=reason, can_pass=True, billed=sent, foreign=status is not None)
    can_pass = status in _CAN_PASS or status >= 500
    return CallFailure(
        kind=_kind_of_status(status),
        reason=f"{where}: status {status}: {_said(error)}",
        status=status,
        can_pass=can_pass,
        fatal=not can_pass and status != 413,
        overloaded=status in _TOO_MANY,
        asked_s=retry_after_s(error.response.headers.get("retry-after", "")) or 0.0,  # type: ignore[attr-defined]
    )


def _kind_without_status(error: Exception) -> FailureKind:
    """Tell a call that took too long from a connection that failed, by the classes of the SDK and of its transport."""
    names = {base.__name__ for cause in (error, error.__cause__) for base in type(cause).__mro__}
    return FailureKind.TIMED_OUT if names & _TIMED_OUT else FailureKind.NETWORK


def _kind_of_status(status: int) -> FailureKind:
    if status in _TOO_MANY:
        return FailureKind.RATE_LIMITED
    return FailureKind.SERVER_ERROR if status >= 500 else FailureKind.REJECTED


def _cause(error: Exception) -> str:
    return f"{error} ({error.__cause__})" if error.__cause__ and str(error.__cause__) else str(error)


def _said(error: Any) -> str:
    body = getattr(error, "body", None)
    detail = body.get("error") if isinstance(body, dict) else None
    said = detail.get("message") if isinstance(detail, dict) else None
    return str(said or error)[:200]
