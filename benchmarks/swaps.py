"""Two hundred hot swaps under load: no request fails, and no answer mixes two bundles.

`python benchmarks/swaps.py [RUN] [--swaps N]`: the service is given a link to a bundle; the link is turned to the
int8 and the fp32 bundle of a run in turn, with SIGHUP after each turn, while callers ask without a pause. Each answer
must have the probabilities that the bundle which it names gives the text in the process.
"""

import argparse
import asyncio
import os
import signal
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
from served import Running, ours, running
from served_bundles import make_kit
from targets import bar, finish

import hybrid

SWAPS = 200
CALLERS = 8
TEXTS = 4
"""Of each request."""
TOLERANCE = 1e-3
"""Of a probability."""
TIMEOUT_S = 60.0
PATIENT = ("limits.wait_ms=60000", "limits.timeout_ms=60000")
"""A machine that is busy with other things refuses nothing here: this is about swaps."""

Probs = dict[str, list[dict[str, float]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--swaps", type=int, default=SWAPS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        kit = make_kit(options.run, Path(scratch))
        link = Path(scratch, "current")
        link.symlink_to(kit.int8.resolve())
        with running(ours(link, "ours", *PATIENT), kit.texts[:1]) as service:
            asyncio.run(swaps(service, link, (kit.int8.resolve(), kit.fp32.resolve()), kit.texts[:64], options.swaps))
    finish()


async def swaps(service: Running, link: Path, folders: tuple[Path, Path], texts: list[str], n_swaps: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=TIMEOUT_S) as http:
        ids = [await answered_by(http), await turn_to(folders[1], link, service, http)]
        wanted = {
            name: [p.probs for p in hybrid.load(folder).classify(texts)]
            for name, folder in zip(ids, folders, strict=True)
        }
        seen: Counter[str] = Counter()
        done = asyncio.Event()
        callers = [asyncio.create_task(caller(http, texts, wanted, seen, done)) for _ in range(CALLERS)]
        took = []
        for turn in range(n_swaps):
            began = time.perf_counter()
            await turn_to(folders[turn % 2], link, service, http)
            took.append(time.perf_counter() - began)
        done.set()
        await asyncio.gather(*callers)
    report(seen, took, ids)


async def turn_to(folder: Path, link: Path, service: Running, http: httpx.AsyncClient) -> str:
    """Turn the link, tell the service, and return the id of the bundle that answers once it is another one."""
    before = await answered_by(http)
    new = link.with_name("new")
    new.symlink_to(folder)
    os.replace(new, link)  # noqa: PTH105
    os.kill(service.pid, signal.SIGHUP)
    while (now := await answered_by(http)) == before:
        await asyncio.sleep(0.02)
    return now


async def answered_by(http: httpx.AsyncClient) -> str:
    reply = await http.post("/v1/classify", json={"inputs": "who answers?"})
    reply.raise_for_status()
    return str(reply.json()["bundle_id"])


async def caller(
    http: httpx.AsyncClient, texts: list[str], wanted: Probs, seen: Counter[str], done: asyncio.Event
) -> None:
    turn = 0
    while not done.is_set():
        rows = [(turn + i) % len(texts) for i in range(TEXTS)]
        turn += 1
        reply = await http.post("/v1/classify", json={"inputs": [texts[row] for row in rows]})
        if reply.status_code != 200:
            seen[f"failed: {reply.status_code}"] += 1
            continue
        answers = reply.json()["answers"]
        names = {answer["bundle_id"] for answer in answers}
        right = [
            not wrong(answer["probs"], wanted[answer["bundle_id"]][row])
            for answer, row in zip(answers, rows, strict=True)
        ]
        seen[names.pop() if len(names) == 1 and all(right) else "mixed"] += 1


def wrong(probs: dict[str, float], wanted: dict[str, float]) -> bool:
    return any(abs(probs[label] - p) > TOLERANCE for label, p in wanted.items())


def report(seen: Counter[str], took: list[float], ids: list[str]) -> None:
    print(
        f"{len(took)} swaps under {CALLERS} callers: median {statistics.median(took):.2f} s, longest {max(took):.2f} s"
    )
    print(f"requests by outcome: {dict(seen)}")
    failed = sum(n for name, n in seen.items() if name.startswith("failed"))
    both = all(seen[name] for name in ids)
    bar("swap_failed_requests", failed, "0", failed == 0)
    bar("swap_mixed_answers", seen["mixed"], "0, and both bundles answer", seen["mixed"] == 0 and both)


if __name__ == "__main__":
    main()
