"""Liveness and readiness probes, for orchestrators and load balancers."""

import msgspec

from serving.errors import NotReadyError
from serving.protocols.native import ErrorReply, render_error
from serving.protocols.operation import Call, Operation, WireProtocol


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """Reports that the event loop responds."""

    live: bool


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Reports that a request would be accepted now."""

    ready: bool


async def answer_live(_call: Call) -> Live:
    """Report that the event loop responds."""
    return Live(live=True)


async def answer_ready(call: Call) -> Ready:
    """Report that a request would be accepted, whatever the state of the decoder.

    Raises:
        NotReadyError: a request would not be accepted.
    """
    if not call.service.ready:
        raise NotReadyError("the service is starting, stopping or replacing its engine; try again")
    return Ready(ready=True)


def probe(path: str, title: str, *, ready: bool) -> Operation:
    """Declare a liveness or (`ready`) a readiness probe at `path`."""
    if ready:
        return Operation(method="GET", path=path, title=title, reply=Ready, answer=answer_ready, public=True)
    return Operation(method="GET", path=path, title=title, reply=Live, answer=answer_live, public=True)


PROBE = WireProtocol(
    name="probes",
    prefixes=("/livez", "/readyz", "/healthz"),
    operations=(
        probe("/livez", "Check whether the process answers", ready=False),
        probe("/readyz", "Check whether a request would be accepted", ready=True),
        probe("/healthz", "The same as /readyz", ready=True),
    ),
    error_type=ErrorReply,
    render_error=render_error,
)
