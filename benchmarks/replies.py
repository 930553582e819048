"""Every reply belongs to its request: 100 clients at once, 20,000 unique texts, over HTTP.

`python benchmarks/replies.py [RUN] [--texts N]`: each text is answered beforehand by the runtime, alone, so that the
run also shows how far a text's neighbours in the batch move its probabilities, in int8 and in fp32.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from served import ours, running
from served_bundles import make_kit
from targets import bar, finish

import hybrid

CLIENTS = 100
TEXTS = 20_000
FP32_TEXTS = 2_000
MOST_TEXTS = 5
"""Of one request; the requests of a client have one, two, three, four and five in turn."""
TOLERANCE = {"int8": 1e-3, "fp32": 1e-5}
TIMEOUT_S = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--texts", type=int, default=TEXTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        kit = make_kit(options.run, Path(scratch))
        for precision, bundle, n in (
            ("int8", kit.int8, options.texts),
            ("fp32", kit.fp32, min(options.texts, FP32_TEXTS)),
        ):
            check(precision, bundle, unique(kit.texts, n))
    finish()


def unique(texts: Sequence[str], n: int) -> list[str]:
    """Return `n` texts that all differ."""
    return [f"{texts[i % len(texts)]} {i}" for i in range(n)]


def check(precision: str, bundle: Path, texts: list[str]) -> None:
    classifier = hybrid.load(bundle)
    wanted = [classifier.classify([text])[0] for text in texts]
    with running(ours(bundle, precision, "limits.wait_ms=60000"), texts[:1]) as service:
        began = time.perf_counter()
        answers = asyncio.run(ask_all(f"http://127.0.0.1:{service.port}/v1/classify", texts))
        seconds = time.perf_counter() - began
    limit = classifier.bundle.threshold.value
    apart = [
        max(abs(answer["probs"][label] - p) for label, p in w.probs.items())
        for answer, w in zip(answers, wanted, strict=True)
    ]
    decided = [
        answer["label"] != w.label or (answer["confidence"] < limit) != w.escalate
        for answer, w in zip(answers, wanted, strict=True)
    ]
    # What a swapped reply would look like: the answer for the text beside it.
    beside = [
        max(abs(answer["probs"][label] - p) for label, p in w.probs.items())
        for answer, w in zip(answers, wanted[1:], strict=False)
    ]
    told = sum(row > TOLERANCE[precision] for row in beside) / len(beside)
    print(
        f"{precision}: {len(texts)} texts of {CLIENTS} clients in {seconds:.0f} s; a swap would show in {told:.1%} of them"
    )
    worst = max(apart)
    bar(
        f"replies_{precision}_worst_difference",
        f"{worst:.2g}",
        f"<= {TOLERANCE[precision]:g}",
        worst <= TOLERANCE[precision],
    )
    bar(f"replies_{precision}_changed_decisions", sum(decided), "0", not any(decided))


async def ask_all(url: str, texts: list[str]) -> list[dict[str, Any]]:
    """Return the answer for each text, in their order."""
    limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
    shares = [range(first, len(texts), CLIENTS) for first in range(CLIENTS)]
    answers: list[dict[str, Any]] = [{}] * len(texts)
    async with httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits) as http:
        await asyncio.gather(*(client(http, url, texts, list(share), answers) for share in shares))
    return answers


async def client(
    http: httpx.AsyncClient, url: str, texts: list[str], share: list[int], answers: list[dict[str, Any]]
) -> None:
    turn = 0
    while share:
        turn = turn % MOST_TEXTS + 1
        rows, share = share[:turn], share[turn:]
        body = json.dumps({"inputs": [texts[row] for row in rows], "timeout_ms": TIMEOUT_S * 1000})
        reply = await http.post(url, content=body, headers={"content-type": "application/json"})
        reply.raise_for_status()
        for row, answer in zip(rows, reply.json()["answers"], strict=True):
            answers[row] = answer


if __name__ == "__main__":
    main()
