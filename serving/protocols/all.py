"""Every protocol that is served, and which of them a path belongs to."""

from serving.protocols.decisions import DECISIONS
from serving.protocols.native import NATIVE
from serving.protocols.oip import OIP
from serving.protocols.operation import WireProtocol
from serving.protocols.probes import PROBE
from serving.protocols.systemone import SYSTEMONE
from serving.protocols.tei import TEI

PROTOCOLS = (NATIVE, DECISIONS, SYSTEMONE, OIP, TEI, PROBE)


def protocol_of(path: str) -> WireProtocol:
    """Return the protocol in whose words errors on this path are told: the service's own where none claims it."""
    for protocol in PROTOCOLS[1:]:
        if any(path == prefix or path.startswith(f"{prefix}/") for prefix in protocol.prefixes):
            return protocol
    return NATIVE
