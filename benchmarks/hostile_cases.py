"""What a hostile or broken client sends, as bytes: heads, bodies and texts that could stop a service or fill its memory."""

import asyncio
import gzip
import json
import zlib
from dataclasses import dataclass

PATH = "/v1/classify"
BODY = b'{"inputs": "soup"}'
LONG = 60_000
BIG = 900_000
DRIP_S = 0.1
OFFER = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA")


@dataclass(frozen=True)
class Case:
    """One thing to send, on one or more connections at once."""

    name: str
    content: bytes
    connections: int = 1
    drip: bytes = b""
    """Sent again and again afterwards, a tenth of a second apart."""
    reads: bool = True
    """Whether the replies are read."""


def post(body: bytes, *headers: str, path: str = PATH, media: str = "application/json") -> bytes:
    """Return a whole request."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {media}", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1") + body


def inputs(text: str | list[str], **options: object) -> bytes:
    """Return a request about a text."""
    return post(json.dumps({"inputs": text, **options}, ensure_ascii=False).encode())


def raw(value: str) -> bytes:
    """Return a request whose `inputs` is that JSON."""
    return post(b'{"inputs": ' + value.encode() + b"}")


def chunked(body: bytes, size: int, *headers: str) -> bytes:
    """Return a request in chunks of `size` bytes."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    lines = [f"POST {PATH} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    head = "\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode()
    return head + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def bomb() -> bytes:
    """Return a gzip body of a few kilobytes that unpacks to 50 MB."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(b"\0" * (1 << 20)) for _ in range(50)) + packer.flush()


def _heads() -> list[Case]:
    types = {
        "letters": "a" * LONG,
        "semicolons": "application/json" + ";" * LONG,
        "brackets": "application/json; charset=utf-8" + "(" * LONG,
        "quotes": 'application/json; a="' + '\\"' * (LONG // 2),
        "semicolons in a quote": 'application/json; a="' + ";" * LONG,
        "continued parameters": "application/json" + ";a*0*=x" * (LONG // 7),
    }
    values = {
        "Authorization": "Basic " + "QQ" * (LONG // 2),
        "X-API-Key": "k" * LONG,
        "X-Request-Id": "a:" * (LONG // 2),
        "X-Request-Timeout-Ms": "9" * LONG,
        "traceparent": "00-" * (LONG // 3),
        "tracestate": "a=b," * (LONG // 4),
        "Accept": "text/html;q=0.1," * (LONG // 16),
        "Cookie": "a=b; " * (LONG // 5),
        "Origin": "http://" + "a." * (LONG // 2),
        "X-Forwarded-For": "1.2.3.4, " * (LONG // 9),
        "Content-Encoding": "gzip," * (LONG // 5),
    }
    get = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    return [
        *(Case(f"a media type of {LONG} {name}", post(BODY, media=value)) for name, value in types.items()),
        *(Case(f"{name} of {len(value)} bytes", post(BODY, f"{name}: {value}")) for name, value in values.items()),
        Case("a long Host", get.replace(b"localhost", b"a." * (LONG // 2))),
        Case("eight thousand headers", post(BODY, *(f"X-{number}: a" for number in range(8000)))),
        Case("a head of a megabyte", b"GET / HTTP/1.1\r\nX-Soup: " + b"a" * (1 << 20)),
        Case("a long path", post(BODY, path="/v2/models/" + "a/" * (LONG // 2))),
        Case("a long path in escapes", post(BODY, path="/v2/models/" + "%41" * (LONG // 3))),
        Case("a long query", post(BODY, path=PATH + "?" + "a=b&" * (LONG // 4))),
        Case("offers of HTTP/2, pipelined", post(BODY, *OFFER) * 50),
        Case("an offer behind a chunked body", chunked(BODY, 5, *OFFER) + post(BODY, *OFFER)),
        Case("a tunnel", b"CONNECT a:80 HTTP/1.1\r\nHost: localhost\r\n\r\n" + b"\0" * LONG),
        Case("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * LONG),
        Case("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * LONG),
        Case("NUL in a header", post(BODY, "X-Soup: a\0b")),
        Case("two lengths", post(BODY, "Content-Length: 4")),
        Case("a length of thirty digits", post(BODY).replace(b"Content-Length: 18", b"Content-Length: " + b"9" * 30)),
        Case("a length of two gigabytes", post(BODY).replace(b"Content-Length: 18", b"Content-Length: 2147483648")),
        Case("ten thousand requests in one piece", get * 10_000),
        Case("pages that nobody reads", get.replace(b"/livez", b"/openapi.json") * 2000, connections=5, reads=False),
        Case("heads that drip", b"POST / HTTP/1.1\r\nX-Soup: ", connections=100, drip=b"a"),
        Case("empty lines that drip", get, connections=50, drip=b"\r\n"),
        Case("connections that ask nothing", b"", connections=200),
    ]


def _bodies() -> list[Case]:
    head = post(b" " * BIG)[:-BIG]
    deep = "[" * BIG
    texts = {
        "letters": "a" * BIG,
        "words": "a " * (BIG // 2),
        "marks": "!" * BIG,
        "emoji": "😀" * (BIG // 4),
        "Han": "漢" * (BIG // 3),
        "accents": "a" + "\u0301" * (BIG // 2),
        "zero widths": "a" + "\u200b" * (BIG // 3),
        "Tibetan marks": "\u0f71\u0301\u0323" * (BIG // 7),
        "Hangul": "각" * (BIG // 3),
        "white space": " \t" * (BIG // 2) + "a",
        "digits": "1" * BIG,
    }
    return [
        *(Case(f"a megabyte of {name}", inputs(text, truncate="right")) for name, text in texts.items()),
        Case("bodies that drip", head, connections=100, drip=b" "),
        Case("bodies behind their refusal", head.replace(PATH.encode(), b"/nowhere"), connections=50, drip=b" "),
        Case("megabytes that stop before the end", post(b" " * BIG)[:-1], connections=100),
        Case("chunks of a byte", chunked(BODY.ljust(30_000), 1)),
        Case("a chunked body of empty lines", chunked(b"\r\n\r\n" * (BIG // 4), 1 << 16)),
        Case("a gzip bomb", post(bomb(), "Content-Encoding: gzip"), connections=10),
        Case("gzip that is none", post(b"\x1f\x8b" + b"a" * BIG, "Content-Encoding: gzip")),
        Case("gzip in thousands of members", post(gzip.compress(BODY) * 10_000, "Content-Encoding: gzip")),
        Case("brackets", post(deep.encode())),
        Case("brackets as the text", raw(deep)),
        Case("a number of 900,000 digits", raw("1" * BIG)),
        Case("a number with 900,000 zeros", raw("1" + "0" * BIG + ".0")),
        Case("an endless exponent", raw("1e" + "9" * BIG)),
        Case("escapes", raw('"' + "\\u0041" * (BIG // 6) + '"')),
        Case("halves of surrogate pairs", raw('"' + "\\ud800" * (BIG // 6) + '"')),
        Case("keys", post(b"{" + b",".join(b'"a%d":1' % number for number in range(80_000)) + b"}")),
        Case("one key eighty thousand times", post(b"{" + b",".join([b'"inputs":"a"'] * 70_000) + b"}")),
        Case("a list of a hundred thousand texts", inputs(["a"] * 100_000)),
        Case("two hundred and fifty-six long texts", inputs(["soup " * 700] * 256), connections=3),
        Case("long texts that all escalate", inputs("soup " * 30_000, escalate="always"), connections=40),
        Case("many texts that all escalate", inputs(["soup"] * 256, escalate="always"), connections=10),
    ]


def cases() -> list[Case]:
    """Build them all."""
    return _heads() + _bodies()


async def play(port: int, case: Case, for_s: float) -> None:
    """Send a case on all of its connections, for `for_s` seconds at most or until the service has closed them."""
    plays = [asyncio.create_task(_play_one(port, case)) for _ in range(case.connections)]
    _, unfinished = await asyncio.wait(plays, timeout=for_s)
    for task in unfinished:
        task.cancel()
    if unfinished:
        await asyncio.wait(unfinished)


async def _play_one(port: int, case: Case) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    reading = asyncio.create_task(_read(reader)) if case.reads else None
    try:
        writer.write(case.content)
        await writer.drain()
        while case.drip:
            await asyncio.sleep(DRIP_S)
            writer.write(case.drip)
            await writer.drain()
        await (reading or asyncio.Event().wait())
    except OSError:
        pass  # the service has closed the connection
    finally:
        if reading:
            reading.cancel()
        writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> None:
    while await reader.read(1 << 16):
        pass
