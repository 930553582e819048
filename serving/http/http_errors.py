"""What can go wrong in HTTP alone, before a protocol reads the request."""

from serving.errors import ServingError


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
