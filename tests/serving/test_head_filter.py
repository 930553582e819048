"""The offer of another protocol is renamed in the head, wherever the bytes are cut, and a body is left as it is."""

import pytest

from serving.http.head import HeadFilter

BODY = b'{"inputs": "first line\nupgrade: second line\n\r\n\r\nUpgrade: third"}'
HEAD = (
    b"POST /v1/classify HTTP/1.1\r\nHost: soup\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"X-Upgrade: stays\r\nUp: stays\r\nUPGRADE: again\r\nContent-Length: 66\r\n\r\n"
)
EXPECTED = HEAD.replace(b"\r\nUpgrade:", b"\r\nx-offer:").replace(b"\r\nUPGRADE:", b"\r\nx-offer:")


def filtered(chunks: list[bytes]) -> tuple[bytes, bytes]:
    """The head to parse and what follows it, of bytes that arrive in chunks."""
    head_filter, head = HeadFilter(), b""
    for number, chunk in enumerate(chunks):
        part, rest = head_filter.filter(chunk)
        head += part
        if head.endswith(HeadFilter.END):
            return head, rest + b"".join(chunks[number + 1 :])
    return head, b""


@pytest.mark.parametrize("at", range(1, len(HEAD) + 10))
def test_a_head_cut_in_two_at_any_byte(at: int) -> None:
    sent = HEAD + BODY
    assert filtered([sent[:at], sent[at:]]) == (EXPECTED, BODY)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_a_head_in_small_chunks(size: int) -> None:
    sent = HEAD + BODY
    assert filtered([sent[at : at + size] for at in range(0, len(sent), size)]) == (EXPECTED, BODY)


def test_garbage_is_passed_on_at_once() -> None:
    assert HeadFilter().filter(b"\x16\x03\x01\x02\x00") == (b"\x16\x03\x01\x02\x00", b"")
    assert HeadFilter().filter(b"GET /\r\n") == (b"GET /\r\n", b"")
