"""Reads the body of a request: its type, its bytes within the limits, decompressed, and those of all bodies together."""

import asyncio
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message

from starlette.datastructures import Headers
from starlette.requests import Request

from serving.errors import BadRequestError, OverloadedError, SlowBodyError, TooLargeError, UnsupportedError
from serving.protocols.operation import Operation
from serving.settings import Limits

OCTETS = "application/octet-stream"
LONGEST_LENGTH = 12
"""The most digits of a length in a header."""
BROWSER_HEADERS = ("origin", "sec-fetch-site")
"""Headers that browsers send with every POST, and programs do not."""
CHARSETS = ("utf-8", "utf8", "us-ascii")
GZIP = 16 + zlib.MAX_WBITS
RETRY_AFTER_S = 0.5
"""When a request is to come again for whose body there is no room."""


def check_type(headers: Headers, operation: Operation) -> None:
    """Refuse what is not JSON in UTF-8, and what names no type where the operation requires one.

    A page of another site can make a browser send a body of no type, or of one that forms have, without asking first.
    """
    header = headers.get("content-type")
    if header in (None, OCTETS) and operation.json_length_header and operation.json_length_header in headers:
        return  # no browser sends this header to another site without asking first
    if header is None and operation.untyped_body and not any(name in headers for name in BROWSER_HEADERS):
        return
    if header is None:
        raise UnsupportedError("Content-Type is missing; expected application/json")
    if header == "application/json":
        return
    message = Message()
    message["Content-Type"] = header
    media, charset = message.get_content_type(), str(message.get_param("charset", "utf-8"))
    if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
        raise UnsupportedError(f"Content-Type {header[:80]!r}; expected application/json")
    if charset.strip().lower() not in CHARSETS:
        raise UnsupportedError(f"charset {charset[:40]!r}; expected utf-8")


class HeldBodies:
    """The bytes of bodies that all requests hold together. Lives on the event loop."""

    def __init__(self, max_bytes: int) -> None:
        self.n_bytes = 0
        self._max_bytes = max_bytes

    @contextmanager
    def of_request(self) -> Iterator["HeldBody"]:
        """Hold one body for as long as the block runs."""
        body = HeldBody(self)
        try:
            yield body
        finally:
            self.n_bytes -= body.n_bytes

    def take(self, n_bytes: int, own: int) -> None:
        """Count more bytes of a body that has `own` already.

        Raises:
            OverloadedError: with them the service would hold more than it may; a body alone is not refused.
        """
        if self.n_bytes > own and self.n_bytes + n_bytes > self._max_bytes:
            raise OverloadedError(
                f"overloaded: bodies of {self.n_bytes} bytes are in the service, of at most {self._max_bytes}; "
                f"try again in {RETRY_AFTER_S:g} s",
                retry_after_s=RETRY_AFTER_S,
            )
        self.n_bytes += n_bytes


class HeldBody:
    """The bytes of one request's body."""

    def __init__(self, held: HeldBodies) -> None:
        self.n_bytes = 0
        self._held = held

    def add(self, n_bytes: int) -> None:
        """Count more bytes.

        Raises:
            OverloadedError: the service holds too many.
        """
        self._held.take(n_bytes, self.n_bytes)
        self.n_bytes += n_bytes


async def read_body(request: Request, limits: Limits, within_s: float, held: HeldBody) -> bytes:
    """Read the body and decompress it.

    Raises:
        TooLargeError: it is over the limit, compressed or not; nothing beyond the limit is read or decompressed.
        UnsupportedError: its encoding is not supported.
        SlowBodyError: it did not arrive within `within_s` or `limits.body_timeout_ms`.
        BadRequestError: it is not what its Content-Encoding says.
        OverloadedError: the service holds too many bytes of bodies.
        ClientDisconnect: the client left before all of it arrived.
    """
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limits.body_bytes:
        raise _too_large(limits)
    reader = _body_reader(request.headers.get("content-encoding"), limits)
    timeout_s = min(limits.body_timeout_ms / 1000, max(within_s, 0.0))
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                held.add(len(chunk))
                reader.add(chunk)
    except TimeoutError as error:
        raise SlowBodyError(f"the body did not arrive within {timeout_s:.3g} s; send it faster") from error
    body = reader.end()
    held.add(len(body) - held.n_bytes)  # what it was unpacked to
    return body


class _PlainBody:
    """Collects a body that is not compressed."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._chunks: list[bytes] = []
        self._n_bytes = 0

    def add(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._n_bytes += len(chunk)
        if self._n_bytes > self._limits.body_bytes:
            raise _too_large(self._limits)
        self._chunks.append(chunk)

    def end(self) -> bytes:
        """Return the whole body."""
        return b"".join(self._chunks)


class _GzipBody:
    """A body that is decompressed as it arrives, never further than one byte over the limit."""

    def __init__(self, limits: Limits) -> None:
        self._compressed = _PlainBody(limits)
        self._plain = _PlainBody(limits)
        self._bytes_left = limits.body_bytes
        self._decompressor = zlib.decompressobj(GZIP)

    def add(self, chunk: bytes) -> None:
        """Take the next compressed bytes."""
        if not chunk:
            return
        self._compressed.add(chunk)
        if self._decompressor.eof:
            raise BadRequestError("the body continues after the end of its gzip member; send one member")
        try:
            plain = self._decompressor.decompress(chunk, self._bytes_left + 1)
        except zlib.error as error:
            raise BadRequestError(f"the body is not gzip ({error}), and its Content-Encoding says so") from error
        self._plain.add(plain)
        self._bytes_left -= len(plain)
        if self._decompressor.unused_data:
            raise BadRequestError("the body continues after the end of its gzip member; send one member")

    def end(self) -> bytes:
        """Return the whole body, decompressed."""
        if not self._decompressor.eof:
            raise BadRequestError("the gzip body is cut off; send all of it")
        return self._plain.end()


def _body_reader(encoding: str | None, limits: Limits) -> _PlainBody | _GzipBody:
    name = (encoding or "identity").strip().lower()
    if name == "identity":
        return _PlainBody(limits)
    if name in ("gzip", "x-gzip"):
        return _GzipBody(limits)
    raise UnsupportedError(f"Content-Encoding {name[:40]!r}; expected gzip, or none")


def split_body(content: bytes, headers: Headers, json_length_header: str) -> tuple[bytes, bytes]:
    """Split a body into its JSON and what follows it."""
    length = headers.get(json_length_header) if json_length_header else None
    if length is None:
        return content, b""
    if not (length.isascii() and length.isdigit() and len(length) <= LONGEST_LENGTH) or int(length) > len(content):
        raise BadRequestError(
            f"{json_length_header}: {length[:40]!r}; expected how many of the {len(content)} bytes of the body are JSON"
        )
    return content[: int(length)], content[int(length) :]


def _too_large(limits: Limits) -> TooLargeError:
    return TooLargeError(
        f"the body is over {limits.body_bytes} bytes, compressed or not; send the texts in several requests"
    )
