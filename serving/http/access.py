"""Who may call this service: callers with one of its API keys, and by one of its own names as Host.

The names guard against DNS rebinding. A page of another site can have its own name resolve to 127.0.0.1, and the browser
then takes this service for a part of that site: the page may send any request and read every answer. The browser still
sends the page's name as Host.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from hashlib import sha256
from ipaddress import ip_address

import msgspec

from hybrid.errors import ConfigError
from serving.settings import API_KEYS, Settings

LOOPBACK_NAME = "localhost"
LONGEST_HOST = 300
"""The most characters of a Host: a DNS name has up to 253, and the port follows."""


class Keys(msgspec.Struct, frozen=True):
    """The SHA-256 of each API key that is accepted; with none, every request is."""

    digests: tuple[bytes, ...] = ()

    def __bool__(self) -> bool:
        """Whether requests need a key."""
        return bool(self.digests)

    def accepts(self, key: bytes) -> bool:
        """Whether this is one of the keys, in a time that depends only on how many there are."""
        digest = sha256(key).digest()
        accepted = False
        for valid_digest in self.digests:
            accepted |= hmac.compare_digest(digest, valid_digest)
        return accepted


def read_keys(environment: Mapping[str, str]) -> Keys:
    """Read the accepted keys from the environment.

    Raises:
        ConfigError: the variable is set and has no key: to serve without keys should be a decision.
    """
    if API_KEYS not in environment:
        return Keys()
    names = [name.strip() for name in environment[API_KEYS].split(",")]
    if not all(names):
        raise ConfigError(
            f"{API_KEYS}: an empty key; expected keys separated by commas, or the variable unset to serve without keys"
        )
    return Keys(tuple(sha256(name.encode()).digest() for name in names))


def key_of(headers: Mapping[str, str]) -> bytes:
    """The key of a request, empty where it has none.

    It comes as `Authorization: Bearer` or `X-API-Key`; a browser sends it as the password of `Authorization: Basic`.
    """
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("latin-1", "replace")
    if scheme.lower() == "basic":
        return _password(value)
    return headers.get("x-api-key", "").strip().encode("latin-1", "replace")


def _password(value: str) -> bytes:
    try:
        return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""


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
