"""Compares the header Host with the names of this service, against DNS rebinding.

A page of another site can have its own name resolve to 127.0.0.1, and the browser then takes this service for a part of
that site: the page may send any request and read every answer. The browser still sends the page's name as Host.
"""

from collections.abc import Sequence
from ipaddress import ip_address

import msgspec

from serving.settings import Settings

LOOPBACK_NAME = "localhost"
LONGEST_HOST = 300
"""The most characters of a Host: a DNS name has up to 253, and the port follows."""


class AllowedHosts(msgspec.Struct, frozen=True):
    """The names by which requests may call this service, ports aside."""

    names: frozenset[str] | None = None
    """In lower case; None: any name. The names of the loopback interface are always among them."""

    def allows(self, header: str) -> bool:
        """Whether a request with this Host is for this service."""
        if self.names is None:
            return True
        name = name_of(header)
        return name is not None and (name in self.names or is_loopback(name))


def allowed_hosts(settings: Settings, *, requires_key: bool) -> AllowedHosts:
    """Decide which hosts to allow: any, unless a setting names some or a keyless service listens on this machine alone.

    With keys there is nothing to gain: a page of another site has none.
    """
    if not settings.hosts and (requires_key or not is_loopback(settings.host.lower())):
        return AllowedHosts()
    return AllowedHosts(frozenset(name.lower() for name in (settings.host, *settings.hosts)))


def name_of(header: str) -> str | None:
    """The host of a Host header in lower case, without port, brackets and final dot; None where it is not one."""
    if len(header) > LONGEST_HOST:
        return None
    if header.startswith("["):
        name, bracket, port = header[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            return None
        port = port[1:]
    else:
        name, _, port = header.partition(":")
    if port and not (port.isascii() and port.isdigit()):
        return None
    return name.lower().removesuffix(".")


def is_loopback(name: str) -> bool:
    """Whether a name or an address means this machine, whatever a DNS server says."""
    if name == LOOPBACK_NAME or name.endswith(f".{LOOPBACK_NAME}"):  # RFC 6761, section 6.3
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def hosts_of(headers: Sequence[tuple[bytes, bytes]]) -> list[str]:
    """Every Host of a request; none where an old client sends none, which no browser does."""
    return [value.decode("latin-1") for name, value in headers if name == b"host"]
