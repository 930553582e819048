"""Why a call of the client has no answers: a type a reason."""

from hybrid.errors import HybridError


class ClientError(HybridError):
    """A call without answers; each reason has a type of its own."""

    may_pass = False
    """Whether the same request may be answered a little later."""

    def __init__(
        self,
        message: str,
        *,
        kind: str = "",
        status: int | None = None,
        item: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """Keep what the service said: its name for the reason, the status, the text that it is about, the wait."""
        super().__init__(message)
        self.kind = kind
        self.status = status
        """Of HTTP; None where no reply came."""
        self.item = item
        """The position of the text in the list that was given."""
        self.retry_after_s = retry_after_s


class BadRequestError(ClientError):
    """An option is not one that the service reads."""


class UnauthorizedError(ClientError):
    """No API key, or one that the service does not know."""


class ForbiddenError(ClientError):
    """The service does not do this for this caller."""


class NotFoundError(ClientError):
    """The service has no such route: another version of it, or another service."""


class TooLargeError(ClientError):
    """One text is over a limit of the service; lists that are too long are split and do not raise this."""


class UnanswerableError(ClientError):
    """A text that the bundle cannot answer, such as an empty one."""


class OverloadedError(ClientError):
    """The service has more to do than it can do in time."""

    may_pass = True


class UnavailableError(ClientError):
    """The service is starting, stopping, or starts its engine again."""

    may_pass = True


class DeadlineError(ClientError):
    """The time that the call was given is over."""


class UnreachableError(ClientError):
    """No connection, or one that broke."""

    may_pass = True


class ServerError(ClientError):
    """The service failed, or what came is no reply of this service."""


BY_STATUS: dict[int, type[ClientError]] = {
    400: BadRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    413: TooLargeError,
    422: UnanswerableError,
    429: OverloadedError,
    503: UnavailableError,
    504: DeadlineError,
}
