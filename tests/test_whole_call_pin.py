"""`hybrid/whole_call.py` sets parts of httpx and httpx2 that are not public: the reason for their pins."""

import tomllib
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import httpx2
import pytest
from packaging.requirements import Requirement

from hybrid.errors import VersionError
from hybrid.whole_call import LimitedBackend, limit_whole_calls

CHECKOUT = Path(__file__).parents[1]
PINS = {"httpx": "0.29", "httpx2": "3"}
"""The release below which each is pinned: the next in which its makers may move what is not public."""


@pytest.mark.parametrize("package", PINS)
def test_each_client_is_pinned_below_its_next_breaking_release(package: str) -> None:
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = [Requirement(line) for lines in extras.values() for line in lines]
    (pinned,) = (requirement for requirement in named if requirement.name == package)
    assert version(package) in pinned.specifier
    assert PINS[package] not in pinned.specifier


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_the_backend_is_set_where_the_installed_release_keeps_it(library: Any) -> None:
    with library.Client(mounts={"http://other": library.HTTPTransport()}) as client:
        limit_whole_calls(client)
        for transport in (client._transport, *client._mounts.values()):
            assert isinstance(transport._pool._network_backend, LimitedBackend)


def test_a_release_that_keeps_it_elsewhere_is_refused_in_one_sentence() -> None:
    client = type("Client", (SimpleNamespace,), {"__module__": "httpx._client"})(_transport=object(), _mounts={})
    with pytest.raises(VersionError, match=r"httpx 0\.\S+ cannot be kept to a time limit .*constraints"):
        limit_whole_calls(client)
