"""The service under a list of hostile requests: the probe answers throughout, memory has a bound, and a stop has an end.

`python benchmarks/hostile.py [RUN] [--seconds S]`: RUN is a finished run of the sentiment recipe; without it the recipe
runs first. Each case of `hostile_cases.py` is sent for S seconds, all of them three times. The first pass is the
warm-up, in which allocators take what they keep; what the third adds to the memory held after the second is growth.
Texts that escalate go to a decoder that sends `103 Early Hints` for ever. Meanwhile
another process asks /livez, on a new connection each time; and at the end, with questions at the decoder, SIGTERM.
"""

import argparse
import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from hostile_cases import Case, cases, inputs, play
from processes import memory_mb
from served import Running, ours, running
from served_bundles import make_kit
from targets import bar, finish

SECONDS = 1.5
PASSES = 3
PROBE_S = 0.02
DRAIN_S = 3.0
SETTLE_S = 3.0
ESCALATING = Case("at the end", inputs("soup " * 100, escalate="always", timeout_ms=60_000), connections=20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--bundle", type=Path, help="serve this bundle; no run is needed")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--probe", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        probe(options.probe)
        return
    with tempfile.TemporaryDirectory() as scratch, dripping_decoder() as decoder:
        bundle = options.bundle or make_kit(options.run, Path(scratch)).int8
        settings = (
            f"drain_s={DRAIN_S}",
            'decoder.model="judge"',
            f'decoder.base_url="{decoder}"',
            "decoder.breaker_failures=1000000",  # so that questions are at the decoder when the stop comes
            "decoder.deadline_ms=60000",
            f'reviews="{scratch}/reviews.sqlite"',
        )
        with running(ours(bundle, "ours", *settings), []) as service:
            hostile(service, options.seconds)
    finish()


def hostile(service: Running, seconds: float) -> None:
    quiet = probed(service, lambda: time.sleep(5))
    before = memory_mb(service.pid)
    most, times = 0.0, []
    settled: list[float] = []
    for _ in range(PASSES):
        worst: list[tuple[float, str]] = []
        for case in cases():
            case_times = probed(service, lambda case=case: asyncio.run(play(service.port, case, seconds)))
            times += case_times
            worst.append((max(case_times), case.name))
            most = max(most, memory_mb(service.pid))
        time.sleep(SETTLE_S)
        settled.append(memory_mb(service.pid))
        print("slowest:", "; ".join(f"{name} {ms:.0f} ms" for ms, name in sorted(worst, reverse=True)[:5]))
    print(f"/livez with nothing else to do: {said(quiet)}; under the list: {said(times)}")
    print(
        f"memory {before:.0f} MB before, {most:.0f} at most, {', '.join(f'{mb:.0f}' for mb in settled)} after each pass"
    )
    n_cases, p99, grown = len(cases()), float(np.percentile(times, 99)), settled[-1] - settled[-2]
    bar(f"hostile_{n_cases}_cases_livez_p99_ms", f"{p99:.1f}", "<= 50", p99 <= 50)
    bar("hostile_memory_growth_mb", f"{grown:.1f}", "<= 50", grown <= 50)
    bar("hostile_memory_mb", f"{most:.0f}", "<= 1024", most <= 1024)
    stopped_after = stop_s(service)
    bar("hostile_sigterm_after_s", f"{stopped_after:.2f}", f"<= {DRAIN_S + 2:g}", stopped_after <= DRAIN_S + 2)


def stop_s(service: Running) -> float:
    """Return the seconds from SIGTERM to the end, with questions at a decoder that does not end its answer."""
    asking = threading.Thread(target=lambda: asyncio.run(play(service.port, ESCALATING, DRAIN_S + 5)))
    asking.start()
    time.sleep(0.5)
    began = time.monotonic()
    os.kill(service.pid, signal.SIGTERM)
    with suppress(ChildProcessError):
        os.waitid(os.P_PID, service.pid, os.WEXITED | os.WNOWAIT)
    seconds = time.monotonic() - began
    asking.join()
    return seconds


def probed(service: Running, action: object) -> list[float]:
    """Return the milliseconds of the answers of /livez while the action runs, asked from another process."""
    command = [sys.executable, __file__, "--probe", str(service.port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        assert callable(action)
        action()
        process.stdin.close()
        times: list[float] = json.loads(process.stdout.readline())
    return times


def probe(port: int) -> None:
    """Ask /livez until standard input closes, then print the milliseconds of each answer; one without an answer is 10 s."""
    closed = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        closed.set()

    threading.Thread(target=watch, daemon=True).start()
    print("ready", flush=True)
    times: list[float] = []
    while not closed.is_set() or not times:
        began = time.perf_counter()
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/livez")
            ok = connection.getresponse().status == 200
            connection.close()
            if ok:
                times.append(1000 * (time.perf_counter() - began))
                closed.wait(PROBE_S)
                continue
        times.append(10_000.0)
    print(json.dumps(times))


@contextmanager
def dripping_decoder() -> Iterator[str]:
    """A server that answers every request with interim replies and never ends; gives its URL."""

    def drip(wire: socket.socket) -> None:
        with suppress(OSError), wire:
            while True:
                wire.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                time.sleep(0.2)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=drip, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def said(times: list[float]) -> str:
    return f"median {np.median(times):.1f} ms, p99 {np.percentile(times, 99):.1f}, longest {max(times):.0f}, n {len(times)}"


if __name__ == "__main__":
    main()
