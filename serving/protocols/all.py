"""The table of wire protocols, and the choice of the one that a path belongs to."""

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
    """Find the protocol whose error format applies to a path: the service's own where no other protocol claims it."""
    for protocol in PROTOCOLS[1:]:
        if any(path == prefix or (prefix != "/" and path.startswith(f"{prefix}/")) for prefix in protocol.prefixes):
            return protocol
    return NATIVE
