"""Inputs whose cost grows faster than they do: fragments repeated in each place of a request, at two sizes.

`python benchmarks/cost_fuzz.py [RUN] [--bundle B] [--rounds N]`. Cost is the processor time of the service's own process.
A place that a limit closes costs the same at both sizes. The seed is the number of the round, so a finding can be repeated.
"""

import argparse
import asyncio
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from hostile_cases import BODY, PATH, Case, chunked, inputs, play, post, raw
from processes import TICKS
from served import Running, ours, running
from served_bundles import make_kit
from targets import bar, finish

ROUNDS = 2000
IN_HEAD, IN_BODY = 7_000, 50_000
"""The smaller size of a value in the head, which has 64 KiB, and in the body."""
FACTOR = 8
"""The larger size is so many times the smaller one."""
TIMES_TOO_MANY = 3.0
"""A cost that grows with the size is eight times as high; with its square, sixty-four."""
CPU_S = 0.15
"""Cheaper is no fault, whatever the factor."""
FRAGMENTS = ["a", " ", ";", ",", "=", '"', "(", "\\", "%", "/", "*0*=", "a=b;", "\t", "'", ":", "[", "{", "&", "-", "0"]
TEXTS = [
    *FRAGMENTS,
    "é",
    "漢",
    "😀",
    "\u0301",
    "\u200b",
    "a\u0301",
    "\u0f71\u0323",
    "각",
    "ﷺ",
    "\u202e",
    "##a",
    "[UNK]",
    "\n",
]
HEADERS = [
    "Content-Type",
    "Accept",
    "Authorization",
    "X-API-Key",
    "X-Request-Id",
    "traceparent",
    "Host",
    "Cookie",
    "Origin",
]
BEGINS = ["", "", 'application/json; a="', "application/json;", "Basic ", "00-", '{"inputs": "']
"""What a value begins with; an empty one is replaced by a few fragments."""
IN_BODIES = ("a text", "the body", "a JSON value", "a chunk's extension")
Place = Callable[[str], bytes]


def places() -> dict[str, Place]:
    """Where a value can stand in a request, by name."""
    return {
        **{f"the header {name}": lambda value, name=name: post(BODY, f"{name}: {value}") for name in HEADERS},
        "the header Content-Type": lambda value: post(BODY, media=value),
        "the header Host": lambda value: post(BODY).replace(b"localhost", value.encode(), 1),
        "the path": lambda value: post(BODY, path="/v2/models/" + value.replace(" ", "+").replace("\t", "+")),
        "the query": lambda value: post(BODY, path=PATH + "?" + value.replace(" ", "+").replace("\t", "+")),
        "a chunk's extension": lambda value: chunked(BODY, 5).replace(b"5\r\n", b"5;" + value.encode() + b"\r\n", 1),
        "the body": lambda value: post(value.encode()),
        "a JSON value": raw,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--bundle", type=Path, help="serve this bundle; no run is needed")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        bundle = options.bundle or make_kit(options.run, Path(scratch)).int8
        with running(ours(bundle, "ours", "limits.timeout_ms=60000", "limits.wait_ms=60000"), []) as service:
            fuzz(service, options.rounds)
    finish()


def fuzz(service: Running, rounds: int) -> None:
    slow_inputs = []
    for number in range(rounds):
        choose = random.Random(number)
        where, build = choose.choice([*places().items(), ("a text", lambda text: inputs(text, truncate="right"))])
        known = TEXTS if where == "a text" else FRAGMENTS
        begin = choose.choice(BEGINS) or "".join(choose.choices(known, k=choose.randint(1, 3)))
        part = "".join(choose.choices(known, k=choose.choice((1, 1, 2, 4))))
        size = IN_BODY if where in IN_BODIES else IN_HEAD
        small, large = (
            cost_s(service, build(begin + part * (times * size // len(part.encode())))) for times in (1, FACTOR)
        )
        if large > CPU_S and large > TIMES_TOO_MANY * FACTOR * max(small, 1 / TICKS):
            slow_inputs.append(f"{where}: {begin!r} and then {part!r} over and over: {small:.2f} s, {large:.2f} s")
    print("\n".join(slow_inputs[:10]))
    bar(f"cost_fuzz_{rounds}_rounds_not_linear", len(slow_inputs), "0", not slow_inputs)


def cost_s(service: Running, content: bytes) -> float:
    """Return the processor seconds of the service's process for a request, without those of its engine."""
    before = own_cpu_s(service.pid)
    asyncio.run(
        play(service.port, Case("", content.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nConnection: close\r\n", 1)), 60)
    )
    return own_cpu_s(service.pid) - before


def own_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / TICKS


if __name__ == "__main__":
    main()
