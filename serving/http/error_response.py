"""A request that gets no answer, as the reply that its protocol has for it."""

import math

import msgspec
from starlette.responses import Response

from serving.errors import ServingError
from serving.protocols.all import protocol_of

COME_BACK = (429, 503)
"""Statuses that tell when to come again."""


def error_response(error: ServingError, path: str, request_id: str, headers: dict[str, str] | None = None) -> Response:
    """Return the reply to a request on `path`, with Retry-After in whole seconds where it may come again."""
    protocol = protocol_of(path)
    status = protocol.bad_request_status if error.status == 400 else error.status
    body = msgspec.json.encode(protocol.render_error(error, request_id))
    response = Response(body, status_code=status, media_type="application/json", headers=headers)
    if status in COME_BACK:
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s or 1)))
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
