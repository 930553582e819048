"""API keys: which are accepted, and whether a request brings one."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from hashlib import sha256

import msgspec

from hybrid.errors import ConfigError
from serving.settings import API_KEYS

PROBES = frozenset({"/livez", "/readyz", "/healthz", "/health", "/v2/health/live", "/v2/health/ready"})
"""Routes that no key guards: they say whether the service lives and takes requests, and nothing else."""


class Keys(msgspec.Struct, frozen=True):
    """The SHA-256 of each key that is accepted; none: nobody is asked for one."""

    digests: tuple[bytes, ...] = ()

    def __bool__(self) -> bool:
        """Return whether a key is asked for."""
        return bool(self.digests)

    def accepts(self, key: bytes) -> bool:
        """Return whether it is one of the keys, in a time that depends on how many there are and nothing else."""
        digest = sha256(key).digest()
        found = False
        for known in self.digests:
            found |= hmac.compare_digest(digest, known)
        return found


def read_keys(environment: Mapping[str, str]) -> Keys:
    """Return the keys of the environment.

    Raises:
        ConfigError: the variable is set and names no key: an open service should be a decision.
    """
    if API_KEYS not in environment:
        return Keys()
    names = [name.strip() for name in environment[API_KEYS].split(",")]
    if not all(names):
        raise ConfigError(
            f"{API_KEYS}: an empty key; want keys separated by commas, or the variable unset where none is asked for"
        )
    return Keys(tuple(sha256(name.encode()).digest() for name in names))


def key_of(headers: Mapping[str, str]) -> bytes:
    """Return the key that a request brings, empty where it brings none.

    `Authorization: Bearer` or `X-API-Key`; a browser sends it as the password of `Authorization: Basic`.
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
