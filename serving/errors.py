"""What a service refuses, each with the HTTP status that every protocol answers it with."""


class ServingError(Exception):
    """A request that gets no answer. `kind` is the stable name of the reason, `status` its HTTP status."""

    kind = "internal"
    status = 500

    def __init__(self, message: str, *, item: int | None = None, retry_after_s: float | None = None) -> None:
        """Keep the sentence for the caller, the item of the request that it is about, and when to come again."""
        super().__init__(message)
        self.item = item
        self.retry_after_s = retry_after_s


class BadRequestError(ServingError):
    """The body is not what the route reads: not JSON, a wrong type, an unknown field."""

    kind = "bad_request"
    status = 400


class UnauthorizedError(ServingError):
    """No API key came, or one that is not known."""

    kind = "unauthorized"
    status = 401


class NotFoundError(ServingError):
    """No such route, model or version."""

    kind = "not_found"
    status = 404


class TooLargeError(ServingError):
    """The body, the number of items or a text is over a limit of this service."""

    kind = "too_large"
    status = 413


class UnanswerableError(ServingError):
    """The request is well formed and this bundle cannot answer it: an empty text, an unknown label, a foreign question."""

    kind = "unanswerable"
    status = 422


class OverloadedError(ServingError):
    """The expected wait is over the limit or the caller's deadline; `retry_after_s` says when to come again."""

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
    """The service drains and takes no new request."""

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
    """The route exists and has no such method."""

    kind = "method_not_allowed"
    status = 405


class SlowBodyError(ServingError):
    """The body did not arrive in time."""

    kind = "slow_body"
    status = 408


class UnsupportedError(ServingError):
    """A media type, charset or content encoding that this service does not read."""

    kind = "unsupported"
    status = 415


class BundleRefusedError(ServingError):
    """The new bundle is not sound; the old one goes on serving."""

    kind = "bundle_refused"
    status = 422


class NotReadyError(ServingError):
    """A probe: no request would be taken now."""

    kind = "not_ready"
    status = 503
