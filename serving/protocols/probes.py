"""Liveness and readiness, for what restarts the service or sends it traffic."""

import msgspec

from serving.errors import NotReadyError
from serving.protocols.native import ErrorReply, render_error
from serving.protocols.operation import Call, Operation, WireProtocol


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """The event loop answers."""

    live: bool


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """A request would be accepted now."""

    ready: bool


async def answer_live(_call: Call) -> Live:
    """Report that the event loop answers."""
    return Live(live=True)


async def answer_ready(call: Call) -> Ready:
    """Report that a request would be accepted; the decoder does not count.

    Raises:
        NotReadyError: it would not.
    """
    if not call.service.ready:
        raise NotReadyError("the service is starting, stopping or replacing its engine; ask again")
    return Ready(ready=True)


def probe(path: str, title: str, *, ready: bool) -> Operation:
    """Declare a probe at `path`."""
    if ready:
        return Operation(method="GET", path=path, title=title, reply=Ready, answer=answer_ready, public=True)
    return Operation(method="GET", path=path, title=title, reply=Live, answer=answer_live, public=True)


PROBE = WireProtocol(
    name="probes",
    prefixes=("/livez", "/readyz", "/healthz"),
    operations=(
        probe("/livez", "Whether the process answers", ready=False),
        probe("/readyz", "Whether a request would be taken", ready=True),
        probe("/healthz", "The same as /readyz", ready=True),
    ),
    error_type=ErrorReply,
    render_error=render_error,
)
