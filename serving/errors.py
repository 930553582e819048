"""The errors of requests, each with the HTTP status that every protocol uses for it."""


class ServingError(Exception):
    """A request that gets no answer. `kind` is the stable name of the reason, `status` its HTTP status."""

    kind = "internal"
    status = 500

    def __init__(self, message: str, *, item: int | None = None, retry_after_s: float | None = None) -> None:
        """Keep the sentence for the caller, the item of the request in question, and when to try again."""
        super().__init__(message)
        self.item = item
        self.retry_after_s = retry_after_s


class BadRequestError(ServingError):
    """The body is not what the route reads: not JSON, a wrong type, an unknown field."""

    kind = "bad_request"
    status = 400


class UnauthorizedError(ServingError):
    """The request has no API key, or one that is not valid."""

    kind = "unauthorized"
    status = 401


class NotFoundError(ServingError):
    """There is no such route, model or version."""

    kind = "not_found"
    status = 404


class TooLargeError(ServingError):
    """The body, the number of items or a text exceeds a limit of this service."""

    kind = "too_large"
    status = 413


class UnanswerableError(ServingError):
    """The request is well formed, but cannot be answered: an empty text, an unknown label, a question that needs a decoder."""

    kind = "unanswerable"
    status = 422


class OverloadedError(ServingError):
    """The expected wait exceeds the limit or the caller's deadline; `retry_after_s` is when to try again."""

    kind = "overloaded"
    status = 429


class ItemError(ServingError):
    """The engine fails on this text alone; its neighbours were answered."""

    kind = "item_failed"
    status = 500


class EngineDownError(ServingError):
    """The engine died or hung with this request in hand, or is being started again."""

    kind = "engine_down"
    status = 503


class StoppingError(ServingError):
    """The service is shutting down and accepts no new request."""

    kind = "stopping"
    status = 503


class DeadlineError(ServingError):
    """The caller's deadline passed. `stage` names where: tokenise, queue, inference or escalation."""

    kind = "deadline_passed"
    status = 504

    def __init__(self, stage: str, timeout_s: float) -> None:
        """Name the stage that the request was in."""
        super().__init__(f"the deadline of {timeout_s * 1000:.0f} ms passed in the stage {stage}")
        self.stage = stage


class ForbiddenError(ServingError):
    """The caller may not do this here, whatever the key."""

    kind = "forbidden"
    status = 403


class MethodError(ServingError):
    """The route exists, but not with this method."""

    kind = "method_not_allowed"
    status = 405


class SlowBodyError(ServingError):
    """The body did not arrive in time."""

    kind = "slow_body"
    status = 408


class UrlTooLongError(ServingError):
    """The URL of the request is over the limit."""

    kind = "url_too_long"
    status = 414


class HeadTooLargeError(ServingError):
    """A header is longer than one of its name may be, or there are too many."""

    kind = "head_too_large"
    status = 431


class UnsupportedError(ServingError):
    """The media type, charset or content encoding is not supported."""

    kind = "unsupported"
    status = 415


class MisdirectedError(ServingError):
    """The request is for a host that is not this service."""

    kind = "misdirected"
    status = 421


class BundleRefusedError(ServingError):
    """The new bundle is not valid; the old one continues to serve."""

    kind = "bundle_refused"
    status = 422


class NotReadyError(ServingError):
    """The answer of a readiness probe: no request would be accepted now."""

    kind = "not_ready"
    status = 503
