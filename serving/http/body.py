"""The body of a request as bytes: bounded in size and time, unpacked, of a type that is read here."""

import asyncio
import zlib
from email.message import Message

from starlette.requests import Request

from serving.errors import BadRequestError, TooLargeError
from serving.http.http_errors import SlowBodyError, UnsupportedError
from serving.settings import Limits

CHARSETS = ("utf-8", "utf8", "us-ascii")
GZIP = 16 + zlib.MAX_WBITS


async def read_body(request: Request, limits: Limits, within_s: float) -> bytes:
    """Return the body, unpacked.

    Raises:
        TooLargeError: it is over the limit, as it came or unpacked; nothing beyond the limit is read or unpacked.
        UnsupportedError: its media type, charset or encoding is not read here.
        SlowBodyError: it did not arrive within `within_s` or `limits.body_timeout_ms`.
        BadRequestError: it is not what its Content-Encoding says.
        ClientDisconnect: the client left before all of it came.
    """
    _check_type(request.headers.get("content-type"))
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limits.body_bytes:
        raise _too_large(limits)
    parts = _parts(request.headers.get("content-encoding"), limits)
    patience_s = min(limits.body_timeout_ms / 1000, max(within_s, 0.0))
    try:
        async with asyncio.timeout(patience_s):
            async for chunk in request.stream():
                parts.add(chunk)
    except TimeoutError as error:
        raise SlowBodyError(f"the body did not arrive within {patience_s:.3g} s; send it faster") from error
    return parts.end()


class _Plain:
    """Bytes as they came."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._chunks: list[bytes] = []
        self._came = 0

    def add(self, chunk: bytes) -> None:
        """Take the next bytes from the wire."""
        self._came += len(chunk)
        if self._came > self._limits.body_bytes:
            raise _too_large(self._limits)
        self._chunks.append(chunk)

    def end(self) -> bytes:
        """Return the whole."""
        return b"".join(self._chunks)


class _Gzip:
    """Bytes that are unpacked as they come, and never further than one byte over the limit."""

    def __init__(self, limits: Limits) -> None:
        self._packed = _Plain(limits)
        self._plain = _Plain(limits)
        self._room = limits.body_bytes
        self._inflate = zlib.decompressobj(GZIP)

    def add(self, chunk: bytes) -> None:
        """Take the next packed bytes from the wire."""
        if not chunk:
            return
        self._packed.add(chunk)
        if self._inflate.eof:
            raise BadRequestError("the body goes on after the end of its gzip member; send one member")
        try:
            unpacked = self._inflate.decompress(chunk, self._room + 1)
        except zlib.error as error:
            raise BadRequestError(f"the body is not gzip ({error}), and its Content-Encoding says so") from error
        self._plain.add(unpacked)
        self._room -= len(unpacked)
        if self._inflate.unused_data:
            raise BadRequestError("the body goes on after the end of its gzip member; send one member")

    def end(self) -> bytes:
        """Return the whole, unpacked."""
        if not self._inflate.eof:
            raise BadRequestError("the gzip body is cut off; send all of it")
        return self._plain.end()


def _parts(encoding: str | None, limits: Limits) -> _Plain | _Gzip:
    name = (encoding or "identity").strip().lower()
    if name == "identity":
        return _Plain(limits)
    if name in ("gzip", "x-gzip"):
        return _Gzip(limits)
    raise UnsupportedError(f"Content-Encoding {name[:40]!r}; want gzip, or none")


def _check_type(header: str | None) -> None:
    """Refuse what is not JSON in UTF-8. A request that names no type is taken at its word by the parser."""
    if header is None or header == "application/json":
        return
    message = Message()
    message["Content-Type"] = header
    media, charset = message.get_content_type(), str(message.get_param("charset", "utf-8"))
    if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
        raise UnsupportedError(f"Content-Type {header[:80]!r}; want application/json")
    if charset.strip().lower() not in CHARSETS:
        raise UnsupportedError(f"charset {charset[:40]!r}; want utf-8")


def _too_large(limits: Limits) -> TooLargeError:
    return TooLargeError(
        f"the body is over {limits.body_bytes} bytes, as it came or unpacked; send the texts in several requests"
    )
