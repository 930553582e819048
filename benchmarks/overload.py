"""The service at three times what it can do: what it answers, how it refuses, and how soon it is well again.

`python benchmarks/overload.py [RUN] [--seconds S]`: requests come at a fixed rate whatever becomes of them, each with a
deadline. Capacity is what 32 callers get answered, measured before and after. Times count from when the generator sends;
how late it was is said, because it shares the processors.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from processes import memory_mb
from served import Running, bare_server, finish_load, load, ours, running, start_load
from served_bundles import make_kit
from targets import bar, finish

CALLERS = 32
SECONDS = 120.0
CAPACITY_S = 10.0
TIMES = 3
DEADLINE_MS = 2000
PROBES = ("/livez", "/readyz")
WELL_S = 5.0
"""How soon it must be as it was."""
NORMAL = 1.5
"""A time of one caller that is normal: at most so many times the median before."""
IN_A_ROW = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        kit = make_kit(options.run, Path(scratch))
        with running(ours(kit.int8), kit.texts) as service:
            overload(service, options.seconds)
    finish()


def overload(service: Running, seconds: float) -> None:
    before, normal_ms = capacity(service), statistics.median(load(service, callers=1, requests=200)["ms"])
    held = memory_mb(service.pid)
    deadline = {"X-Request-Timeout-Ms": str(DEADLINE_MS)}
    most = held
    with bare_server() as bare_port:
        plan = {"rate": TIMES * before, "seconds": seconds, "probes": PROBES, "bare_port": bare_port}
        generator = start_load(service, headers=deadline, **plan)
        while generator.poll() is None:
            most = max(most, memory_mb(service.pid))
            time.sleep(1)
        measured_load = finish_load(service, generator)
    well = well_after_s(load(service, callers=1, seconds=2 * WELL_S), normal_ms)
    report(measured_load, (before + capacity(service)) / 2, most - held, well, seconds)


def capacity(service: Running) -> float:
    """Return the requests answered a second."""
    load(service, callers=CALLERS, requests=64)
    measured_load = load(service, callers=CALLERS, seconds=CAPACITY_S)
    return sum(measured_load["statuses"].values()) / measured_load["seconds"]


def well_after_s(measured: dict[str, Any], normal_ms: float) -> float:
    """Return the seconds until the times of one caller are normal again; infinity where they never are."""
    times = measured["ms"]
    for at in range(len(times) - IN_A_ROW + 1):
        if statistics.median(times[at : at + IN_A_ROW]) <= NORMAL * normal_ms:
            return float(measured["ended_s"][at])
    return float("inf")


def report(measured: dict[str, Any], per_s: float, grown: float, well: float, seconds: float) -> None:
    times = {int(status): values for status, values in measured["ms"].items()}
    answered, refused = times.get(200, [0.0]), times.get(429, [0.0])
    # A 504 was accepted and came too late.
    accepted = answered + times.get(504, [])
    print(f"capacity {per_s:.0f} requests/s, {TIMES} times that for {seconds:.0f} s, deadline {DEADLINE_MS} ms")
    for status, values in sorted(times.items()):
        print(f"status {status}: {len(values):>7}, {said(values)}")
    print(f"probes: {said(measured['probe_ms'])}; sent late: {said(measured['late_ms'])}")
    print(f"a bare server on this machine meanwhile: {said(measured['bare_ms'])}")
    goodput = sum(answer <= DEADLINE_MS for answer in answered) / measured["seconds"] / per_s
    other = sorted(times.keys() - {200, 429, 504})
    bar("overload_goodput_over_capacity", f"{goodput:.3f}", ">= 0.90", goodput >= 0.9)
    bar("overload_accepted_p99_ms", f"{p99(accepted):.0f}", f"<= {DEADLINE_MS}", p99(accepted) <= DEADLINE_MS)
    bar("overload_other_statuses", other, "[]", not other)
    bar("overload_refused_p99_ms", f"{p99(refused):.1f}", "<= 20", len(refused) > 1 and p99(refused) <= 20)
    bar("overload_probe_p99_ms", f"{p99(measured['probe_ms']):.1f}", "<= 50", p99(measured["probe_ms"]) <= 50)
    bar("overload_memory_growth_mb", f"{grown:.1f}", "<= 50", grown <= 50)
    bar("overload_well_after_s", f"{well:.1f}", f"<= {WELL_S:.0f}", well <= WELL_S)


def p99(values: list[float]) -> float:
    return float(np.percentile(values, 99))


def said(values: list[float]) -> str:
    return f"median {statistics.median(values):.1f} ms, p99 {p99(values):.1f}, longest {max(values):.1f}"


if __name__ == "__main__":
    main()
