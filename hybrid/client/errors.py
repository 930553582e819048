"""The errors of the client: one type for each reason why a call has no answers."""

from hybrid.errors import HybridError


class ClientError(HybridError):
    """A call has no answers; each reason has a type of its own."""

    may_pass = False
    """Whether the same request may succeed a little later."""

    def __init__(
        self,
        message: str,
        *,
        kind: str = "",
        status: int | None = None,
        item: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """Keep the facts of the error reply: kind, HTTP status, position of the text, and seconds to wait."""
        super().__init__(message)
        self.kind = kind
        self.status = status
        """The HTTP status; None if there was no reply."""
        self.item = item
        """The position in the caller's list of the text that the error is about."""
        self.retry_after_s = retry_after_s


class BadRequestError(ClientError):
    """The service does not accept an option."""


class UnauthorizedError(ClientError):
    """The API key is missing or unknown."""


class ForbiddenError(ClientError):
    """The caller is not allowed to do this."""


class NotFoundError(ClientError):
    """The service has no such route: it is another version, or another service."""


class TooLargeError(ClientError):
    """A single text exceeds a limit of the service; lists that are too long are split and do not raise this."""


class UnanswerableError(ClientError):
    """A text cannot be classified, such as an empty one."""


class OverloadedError(ClientError):
    """The service has more requests than it can answer in time."""

    may_pass = True


class UnavailableError(ClientError):
    """The service is starting, stopping or restarting its engine."""

    may_pass = True


class DeadlineError(ClientError):
    """The timeout of the call has passed."""


class UnreachableError(ClientError):
    """The connection failed or broke."""

    may_pass = True


class ServerError(ClientError):
    """The service failed, or the reply is not one of this service."""


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
