"""One text or several in the words of each protocol, and bytes on a socket as no HTTP library would send them."""

import json
import socket
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

CHOICES = ("bad", "good", "plain")


class Dialect(msgspec.Struct, frozen=True):
    """How one protocol asks about texts."""

    path: str
    body: Callable[[list[Any]], dict[str, Any]]
    batches: bool = True
    malformed: int = 400
    """The status for a body that is not what the route reads."""


def _tensor(texts: list[Any]) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}]}


def _decision(texts: list[Any]) -> dict[str, Any]:
    choices = [{"value": value} for value in CHOICES]
    question = {"type": "choice", "instructions": "How was it?", "choices": choices}
    return {"model": "dishes", "input": texts[0], "questions": [question]}


def _state(texts: list[Any]) -> dict[str, Any]:
    question = {"type": "choice", "instructions": "How was it?", "criteria": dict.fromkeys(CHOICES)}
    return {"state": texts[0], "questions": {"q": question}}


DIALECTS = {
    "native": Dialect("/v1/classify", lambda texts: {"inputs": texts}),
    "oip": Dialect("/v2/models/dishes/infer", _tensor),
    "tei": Dialect("/predict", lambda texts: {"inputs": [[text] for text in texts]}),
    "decisions": Dialect("/v1/decisions", _decision, batches=False),
    "systemone": Dialect("/v1/systemone", _state, batches=False, malformed=422),
}


@cache
def client() -> httpx.Client:
    """Return the one client of a test process: to set one up costs more than to ask."""
    return httpx.Client(timeout=60)


def send(url: str, content: bytes, *, half_close: bool = False, quiet_s: float = 1.0) -> bytes:
    """Return all that the server says to these bytes until it closes the connection or is silent."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=30) as wire:
        try:
            wire.sendall(content)
            if half_close:
                wire.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server has closed already; what it said may still be there
        return receive(wire, quiet_s)


def receive(wire: socket.socket, quiet_s: float = 1.0) -> bytes:
    """Return what comes, until the other side closes or, after its first bytes, is silent for `quiet_s`."""
    reply = b""
    try:
        while chunk := wire.recv(1 << 16):
            reply += chunk
            wire.settimeout(quiet_s)
    except OSError:
        pass
    return reply


def post(path: str, body: Any, *headers: str, version: str = "1.1") -> bytes:
    """Return a request as bytes, its length declared truly."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"POST {path} HTTP/{version}", "Host: localhost", "Content-Type: application/json", *headers]
    return "\r\n".join([*head, f"Content-Length: {len(content)}", "", ""]).encode() + content


def statuses(reply: bytes) -> list[int]:
    """Return the status of each reply in the bytes."""
    results = []
    for line in reply.split(b"\r\n"):
        _, is_status, rest = line.rpartition(b"HTTP/1.1 ")
        if is_status and rest[:3].isdigit():
            results.append(int(rest[:3]))
    return results
