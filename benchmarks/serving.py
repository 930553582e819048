"""What the service costs over the runtime in the process, and beside its peers.

`python benchmarks/serving.py [RUN] [--rounds N]`: RUN is a finished run of the sentiment recipe, such as
runs/sentiment/embedded; without it the recipe runs first. 512 texts of mixed lengths, one a request, from a load
generator in a process of its own. Rounds are interleaved; every server starts anew in each and is warmed up; ratios are
of medians. Processor time is user and system time of all processes of a server. benchmarks/overload.py and
benchmarks/soak.py have the load that is too much and the load that lasts.
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from processes import cpu_s, memory_mb
from runtime import bare, cpu_seconds
from served import Round, Server, load, one_round, ours, running
from served_bundles import Kit, make_kit
from served_peers import best, infinity_settings, litserve_settings
from targets import bar, finish

import hybrid
from hybrid.runtime import Classifier

CALLERS = 32
WARM_REQUESTS = 64
ROUNDS = 5
IDLE_S = 30.0
SETTLE_S = 2.0
FIFO_SIZES = (1, 8, 32)
INT8, FP32 = "ours, int8", "ours, fp32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        kit = make_kit(options.run, Path(scratch))
        show_fifo(kit, options.rounds)
        compare_in_process(kit, options.rounds)
        compare_size(kit, options.rounds)
        compare_peers(kit, options.rounds)
    finish()


def show_fifo(kit: Kit, rounds: int) -> None:
    """Batches in the order of arrival, padded to their longest text, beside the runtime's, on one fp32 graph."""
    classifier = hybrid.load(kit.fp32)
    calls = {f"batches of {size} as they come": fifo(kit, size) for size in FIFO_SIZES}
    calls["the runtime's, by length"] = lambda: classifier.classify(kit.texts)
    times = defaultdict(list)
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(1000 * cpu_seconds(call) / len(kit.texts))
    for name, values in times.items():
        show(f"{name}, processor time a text", values)
    ratio = median(times[f"batches of {FIFO_SIZES[-1]} as they come"]) / median(times["batches of 1 as they come"])
    bar("serving_fifo_32_over_single_shows_the_pitfall", f"{ratio:.2f}", "> 1.5", ratio > 1.5)


def fifo(kit: Kit, size: int) -> Callable[[], None]:
    tokenizer, session = bare(kit.fp32)
    names = [graph_input.name for graph_input in session.get_inputs()]
    tokenizer.enable_padding()

    def call() -> None:
        for start in range(0, len(kit.texts), size):
            encoded = tokenizer.encode_batch(kit.texts[start : start + size])
            ids = np.array([encoding.ids for encoding in encoded])
            mask = np.array([encoding.attention_mask for encoding in encoded])
            feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            session.run(None, {name: feed[name] for name in names})

    return call


def compare_in_process(kit: Kit, rounds: int) -> None:
    """Throughput at many callers and the time of one caller, beside the runtime on the same texts."""
    classifier = hybrid.load(kit.int8)
    alone_per_s, served_per_s, cpu_ratio, over_ms = [], [], [], []
    for _ in range(rounds):
        before = in_process(classifier, kit.texts)
        with running(ours(kit.int8, INT8), kit.texts) as service:
            load(service, callers=CALLERS, requests=WARM_REQUESTS)
            many = one_round(service, CALLERS, len(kit.texts))
            one_caller = one_round(service, 1, len(kit.texts))
        after = in_process(classifier, kit.texts)
        alone_per_s.append((before.per_s + after.per_s) / 2)
        served_per_s.append(many.per_s)
        cpu_ratio.append(2 * many.cpu_ms / (before.cpu_ms + after.cpu_ms))
        over_ms += [a - b for a, b in zip(one_caller.ms, each_ms(classifier, kit.texts), strict=True)]
    show("in the process, all texts in one call", alone_per_s, "texts/s")
    show(f"served, {CALLERS} callers", served_per_s, "requests/s")
    show("processor time over in the process", cpu_ratio, "times")
    show("one caller over in the process, each text", over_ms)
    ratio = median(served_per_s) / median(alone_per_s)
    bar("serving_throughput_over_in_process", f"{ratio:.3f}", ">= 0.85", ratio >= 0.85)
    bar("serving_one_caller_over_in_process_ms", f"{median(over_ms):.2f}", "<= 1.5", median(over_ms) <= 1.5)


def in_process(classifier: Classifier, texts: Sequence[str]) -> Round:
    """Return one pass of all texts in one call, after a short one that warms up."""
    classifier.classify(texts[:WARM_REQUESTS])
    began, used = time.perf_counter(), time.process_time()
    classifier.classify(texts)
    cpu_ms = 1000 * (time.process_time() - used) / len(texts)
    return Round(cpu_ms, len(texts) / (time.perf_counter() - began), [])


def each_ms(classifier: Classifier, texts: Sequence[str]) -> list[float]:
    times_ms = []
    for text in texts:
        began = time.perf_counter()
        classifier.classify([text])
        times_ms.append(1000 * (time.perf_counter() - began))
    return times_ms


def compare_size(kit: Kit, rounds: int) -> None:
    """How soon it is ready, what it holds, and what it does while nobody asks."""
    ready, held, idle = [], [], []
    for number in range(rounds):
        with running(ours(kit.int8, INT8), kit.texts) as service:
            ready.append(service.ready_s)
            load(service, callers=CALLERS, requests=len(kit.texts))
            held.append(memory_mb(service.pid))
            if number == 0:
                time.sleep(SETTLE_S)
                before = cpu_s(service.pid)
                time.sleep(IDLE_S)
                idle.append(100 * (cpu_s(service.pid) - before) / IDLE_S)
    show("ready after", ready, "s")
    show("memory of all processes, after load", held, "MB")
    bar("serving_ready_s", f"{median(ready):.2f}", "<= 2", median(ready) <= 2)
    bar("serving_memory_mb", f"{median(held):.0f}", "<= 200", median(held) <= 200)
    bar("serving_idle_cpu_percent", f"{idle[0]:.2f}", "<= 0.5", idle[0] <= 0.5)


def compare_peers(kit: Kit, rounds: int) -> None:
    """Processor time a request of ours in both precisions, and of each peer in its best setting."""
    peers = {
        "LitServe": best(litserve_settings(kit, 1), kit.texts, CALLERS),
        "LitServe batched": best(litserve_settings(kit, 16), kit.texts, CALLERS),
        "infinity": best(infinity_settings(kit), kit.texts, CALLERS),
    }
    servers = {INT8: ours(kit.int8, INT8), FP32: ours(kit.fp32, FP32)}
    servers |= {name: server for name, server in peers.items() if server}
    rounds_of = measured(servers, kit.texts, rounds)
    for name, all_rounds in rounds_of.items():
        show(f"{servers[name].name}, processor time", [of_round.cpu_ms for of_round in all_rounds])
        show(f"{servers[name].name}, throughput", [of_round.per_s for of_round in all_rounds], "requests/s")
    for mine, peer, most in (
        (FP32, "LitServe batched", 0.6),
        (FP32, "LitServe", 1.0),
        (INT8, "LitServe", 0.5),
        (FP32, "infinity", 0.45),
    ):
        if peer in rounds_of:
            ratio = median(of_round.cpu_ms for of_round in rounds_of[mine]) / median(
                of_round.cpu_ms for of_round in rounds_of[peer]
            )
            name = f"serving_cpu_{mine[-4:]}_over_{peer.lower().replace(' ', '_')}"
            bar(name, f"{ratio:.3f}", f"<= {most}", ratio <= most)


def measured(servers: dict[str, Server], texts: list[str], rounds: int) -> dict[str, list[Round]]:
    """Return the rounds of each server, interleaved."""
    rounds_of: dict[str, list[Round]] = {name: [] for name in servers}
    for _ in range(rounds):
        for name, server in servers.items():
            with running(server, texts) as service:
                load(service, callers=CALLERS, requests=WARM_REQUESTS)
                rounds_of[name].append(one_round(service, CALLERS, len(texts)))
    return rounds_of


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def show(name: str, values: Sequence[float], unit: str = "ms") -> None:
    spread = f"{min(values):.2f} to {max(values):.2f}, n = {len(values)}"
    print(f"{name:<60} median {median(values):.2f} {unit}, {spread}", flush=True)


if __name__ == "__main__":
    main()
