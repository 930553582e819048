"""The head of a request before it is parsed: limits on its parts, and no offers of another protocol.

Parsers take far longer for a long value, so the limits are checked before any of them parses one.
"""

import re

from serving.errors import HeadTooLargeError, ServingError, UrlTooLongError

MAX_URL_BYTES = 8 << 10
MAX_HEADERS = 200
MAX_HEADER_BYTES = 8 << 10
"""The most bytes of a header that is not in `MAX_BYTES_OF`."""
MAX_BYTES_OF = {
    b"content-type": 256,
    b"content-encoding": 64,
    b"content-length": 20,
    b"host": 512,
    b"inference-header-content-length": 20,
    b"traceparent": 256,
    b"tracestate": 1024,
    b"x-request-timeout-ms": 32,
}
"""By name in lower case."""


def url_error(n_bytes: int) -> ServingError | None:
    """Why a URL of so many bytes is refused; None where it is not."""
    if n_bytes <= MAX_URL_BYTES:
        return None
    return UrlTooLongError(f"the URL has over {MAX_URL_BYTES} bytes; send a shorter one, and texts in the body")


def header_error(name: bytes, value: bytes, n_headers: int) -> ServingError | None:
    """Why a header is refused, the head's header number `n_headers`, its name in lower case; None where it is not."""
    limit = MAX_BYTES_OF.get(name, MAX_HEADER_BYTES)
    if len(value) > limit:
        shown = name[:40].decode("latin-1")
        return HeadTooLargeError(f"the header {shown} has {len(value)} bytes; expected at most {limit}")
    if n_headers > MAX_HEADERS:
        return HeadTooLargeError(f"the request has over {MAX_HEADERS} headers; send fewer")
    return None


class HeadFilter:
    """Finds the end of one head and renames its `Upgrade` header, wherever the bytes are cut into chunks.

    A server may ignore the offer of another protocol, but the parser takes what follows one for that protocol, and the
    body would be lost. Java's client offers HTTP/2 with its first request.
    """

    END = b"\r\n\r\n"
    NAME = b"upgrade:"
    RENAMED = b"x-offer:"
    _OFFER = re.compile(rb"(?<=\n)upgrade:", re.IGNORECASE)

    def __init__(self) -> None:
        self._tail = b""
        """The last bytes returned, as many as may begin the end of the head."""
        self._held = b""
        """Bytes that may begin the header's name, not returned yet."""

    def filter(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the bytes of the head to parse now, and those behind its end."""
        known = len(self._tail)
        data = self._tail + self._held + data
        end = data.find(self.END)
        head, rest = (data, b"") if end < 0 else (data[: end + len(self.END)], data[end + len(self.END) :])
        head = self._OFFER.sub(self.RENAMED, head)
        before, newline, line = head.rpartition(b"\n")
        may_be_name = bool(newline) and 0 < len(line) < len(self.NAME) and self.NAME.startswith(line.lower())
        head, self._held = (before + newline, line) if may_be_name else (head, b"")
        self._tail = b"" if end >= 0 else head[1 - len(self.END) :]
        return head[known:], rest
