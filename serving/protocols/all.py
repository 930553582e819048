"""The table of protocols, and which of them a path belongs to."""

from serving.protocols.decisions import DECISIONS
from serving.protocols.native import NATIVE
from serving.protocols.oip import OIP
from serving.protocols.operation import WireProtocol
from serving.protocols.probes import PROBE
from serving.protocols.systemone import SYSTEMONE
from serving.protocols.tei import TEI

PROTOCOLS = (NATIVE, DECISIONS, SYSTEMONE, OIP, TEI, PROBE)
PUBLIC_PATHS = frozenset(
    operation.path for protocol in PROTOCOLS for operation in protocol.operations if operation.public
)
"""Paths that are answered without an API key."""


def protocol_of(path: str) -> WireProtocol:
    """The protocol whose error format a path has: the service's own where no other claims it."""
    for protocol in PROTOCOLS[1:]:
        if any(path == prefix or path.startswith(f"{prefix}/") for prefix in protocol.prefixes):
            return protocol
    return NATIVE
