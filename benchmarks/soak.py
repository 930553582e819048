"""The service for a long time at 70 % of what it can do: nothing fails, nothing grows.

`python benchmarks/soak.py [RUN] [--minutes M]`. The first minute, or a tenth of a shorter time, is the warm-up that growth
counts from.
"""

import argparse
import tempfile
import time
from pathlib import Path

from overload import CALLERS, PROBES, capacity, said
from processes import descriptors, memory_mb, threads
from served import Running, finish_load, load, ours, running, start_load
from served_bundles import make_kit
from targets import bar, finish

MINUTES = 15.0
SHARE = 0.7
SAMPLE_S = 5.0
WARM_S = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        kit = make_kit(options.run, Path(scratch))
        with running(ours(kit.int8), kit.texts) as service:
            soak(service, options.minutes)
    finish()


def soak(service: Running, minutes: float) -> None:
    load(service, callers=CALLERS, requests=512)
    per_s, seconds = capacity(service), 60 * minutes
    generator = start_load(service, rate=SHARE * per_s, seconds=seconds, probes=PROBES)
    began = time.monotonic()
    warm = min(WARM_S, seconds / 10)
    samples: list[tuple[float, int, int]] = []
    while generator.poll() is None:
        if time.monotonic() - began >= warm:
            samples.append((memory_mb(service.pid), descriptors(service.pid), threads(service.pid)))
        time.sleep(min(SAMPLE_S, warm))
    measured_load = finish_load(service, generator)
    answered = measured_load["ms"].get("200", [0.0])
    failed = {status: len(values) for status, values in measured_load["ms"].items() if status != "200"}
    print(f"capacity {per_s:.0f} requests/s, {SHARE:.0%} of it for {minutes:g} minutes: {len(answered)} answered")
    print(
        f"answers: {said(answered)}; probes: {said(measured_load['probe_ms'])}; sent late: {said(measured_load['late_ms'])}"
    )
    memory, files, running_threads = (list(values) for values in zip(*samples, strict=True))
    grown = max(memory) - memory[0]
    print(f"memory {memory[0]:.1f} MB at first, {max(memory):.1f} at most, {memory[-1]:.1f} at last")
    bar(f"soak_{minutes:g}_minutes_failed", failed or 0, "0", not failed)
    bar(f"soak_{minutes:g}_minutes_memory_growth_mb", f"{grown:.1f}", "<= 50", grown <= 50)
    for name, values in (("descriptors", files), ("threads", running_threads)):
        more = max(values) - values[0]
        bar(f"soak_{minutes:g}_minutes_more_{name}", more, "0", more <= 0)


if __name__ == "__main__":
    main()
