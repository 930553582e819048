"""Limits on the parts of a head, checked before any of them is parsed: parsers take far longer for a long value."""

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
