"""The environment's settings of connections (proxies, certificates), which every HTTP library reads when a client opens."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hybrid.errors import HybridError
from hybrid.urls import hide_user_info

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@contextmanager
def explained(error_type: type[HybridError]) -> Iterator[None]:
    """Raise an error that names the variables at fault where a client of an HTTP library cannot be opened in this block.

    Raises:
        HybridError: of `error_type`; a proxy or the certificates of the environment cannot be used.
    """
    try:
        yield
    except ImportError as error:
        # The libraries import the protocol of SOCKS when they first need it.
        names = [name for name in _set(PROXIES) if os.environ[name].lower().startswith("socks")]
        if not names:
            raise
        advice = "run: pip install socksio, name an HTTP proxy, or unset it"
        raise error_type(
            f"{_listed(names)} of the environment: a SOCKS proxy needs the package socksio; {advice}"
        ) from error
    except OSError as error:
        names = _set(CERTIFICATES)
        if not names:
            raise
        values = ", ".join(f"{name}={os.environ[name]}" for name in names)
        raise error_type(
            f"{values} of the environment: no certificates can be read there ({error}); expected a PEM file or a folder of "
            "them: correct or unset it"
        ) from error
    except Exception as error:
        names = _set(PROXIES)
        # The libraries' error about a URL is none of Python's own.
        if not names or not (isinstance(error, ValueError) or type(error).__name__ == "InvalidURL"):
            raise
        raise error_type(
            f"{_listed(names)} of the environment: not a proxy ({hide_user_info(str(error))}); expected URLs such as "
            "http://proxy.example.com:3128, and hosts in NO_PROXY: correct or unset it"
        ) from error


def _set(names: Sequence[str]) -> list[str]:
    """The variables that are set, in the spelling in which they are; proxies are read in both cases."""
    return [spelled for name in names for spelled in (name, name.lower()) if os.environ.get(spelled)]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
