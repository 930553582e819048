"""`hybrid score --engine ray` on two nodes of one processor each: the same bytes whatever is killed, its overhead, its memory.

`python benchmarks/scale.py [--rows 1000000] [--bundle demo] [--kills 20] [--memory-rows 1000000]`. The rows have the texts
that ship with the sentiment recipe, each with its number at its end. One run of the plain command gives the bytes that are expected. Then the command runs on a cluster of
`ray.cluster_utils`, and a worker, a node or the command itself is killed with SIGKILL at random moments; a lost node comes
back, and the command is given again. Local processes and Ray take turns on a quarter of the rows, each with two workers of one
thread, connected before the clock starts. At last the bundle that ships scores `--memory-rows` and ten times as many,
for the memory of the command. Linux only.
"""

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from targets import bar, finish

import hybrid
from hybrid.cluster.local import LocalEngine
from hybrid.cluster.ray_cluster import RayEngine
from hybrid.files.formats import format_of
from hybrid.progress import Screen
from hybrid.runtime.bundle import bundle_path
from hybrid.runtime.engines import DEFAULT_ENGINE
from hybrid.scoring.job import Job
from hybrid.scoring.parts import parts_folder, read_plan
from hybrid.scoring.score import score_with
from hybrid.scoring.work import OnEngine

NODES = 2
MOST_OVERHEAD = 0.10
MOST_GROWTH_MB = 50
LOOK_S = 0.01
KINDS = ("worker", "node", "command")
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--bundle", default="demo")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--memory-rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    bundle = bundle_path(options.bundle).absolute()
    with tempfile.TemporaryDirectory() as name, cluster() as nodes:
        folder = Path(name)
        source = write_rows(folder / "rows.csv", options.rows)
        kill(nodes, source, bundle, options.kills, random.Random(options.seed))
        compare(nodes, write_rows(folder / "quarter.csv", max(1, options.rows // 4)), bundle)
        measure_memory(nodes, folder, options.memory_rows)
    finish()


@contextmanager
def cluster() -> Iterator[Any]:
    """Run a cluster whose head does no work."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80_000_000}
    running = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(NODES):
        running.add_node(wait=False, **NODE)
    running.wait_for_nodes()
    yield running
    running.shutdown()


def write_rows(path: Path, n_rows: int) -> Path:
    """Write rows of one text each."""
    recipe = Path(__file__).parents[1] / "recipes" / "sentiment"
    texts: list[str] = []
    for file in sorted(recipe.glob("*.jsonl")) or sorted(recipe.glob("*.csv")):
        with format_of(file).open(file, name=str(file), columns=("text",)) as table:
            texts += [
                text
                for batch in table.batches
                for row in batch.records
                if isinstance(text := row.values.get("text"), str)
            ]
    assert texts, f"{recipe}: no texts"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        writer.writerows((number, f"{texts[number % len(texts)]} {number}") for number in range(n_rows))
    return path


def command(source: Path, target: Path, bundle: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "hybrid", "score", str(source), str(target), "--bundle", str(bundle), *words]


def kill(nodes: Any, source: Path, bundle: Path, n_kills: int, chance: random.Random) -> None:
    """Kill workers, nodes and the command at random moments, and compare the bytes."""
    plain, target = source.with_name("plain.csv"), source.with_name("ray.csv")
    start = time.monotonic()
    subprocess.run(command(source, plain, bundle, "--workers", str(NODES)), check=True, stdout=subprocess.DEVNULL)
    plain_s = time.monotonic() - start
    print(f"plain: {plain_s:.1f} s with {NODES} processes")
    kinds = [KINDS[number % len(KINDS)] for number in range(n_kills)]
    chance.shuffle(kinds)
    seen: dict[str, int] = {}
    n_twice, n_runs, is_same = 0, 0, True
    start = time.monotonic()
    while kinds or not n_runs:
        n_runs += 1
        n_twice += _run_to_the_end(nodes, command(source, target, bundle, *on_ray(nodes)), target, kinds, chance, seen)
        is_same &= target.read_bytes() == plain.read_bytes()
        for path in (target, Path(f"{target}.stamp.json")):
            path.unlink()
    print(f"killed: {n_kills} times in {n_runs} outputs, {time.monotonic() - start:.1f} s")
    bar(f"bytes of {n_runs} outputs after {n_kills} kills", "equal" if is_same else "other", "equal", is_same)
    bar("parts done twice", n_twice, f"at most {NODES} a kill", n_twice <= NODES * n_kills)


def on_ray(nodes: Any) -> tuple[str, ...]:
    return "--engine", "ray", "--ray-address", nodes.address, "--workers", str(NODES)


def _run_to_the_end(
    nodes: Any, words: list[str], target: Path, kinds: list[str], chance: random.Random, seen: dict[str, int]
) -> int:
    """Make one output; return how many parts were written more than once."""
    n_twice = 0
    seen.clear()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    next_kill = _moment(target, seen, kinds, chance)
    while True:
        n_twice += _look(target, seen)
        if process.poll() is not None:
            if process.returncode == 0:
                return n_twice
            assert process.stderr is not None
            sys.exit(process.stderr.read().decode())
        if kinds and len(seen) >= next_kill:
            time.sleep(chance.uniform(0, 0.5))
            kind = kinds.pop()
            if kind == "command":
                process.kill()
                process.wait()
                process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            elif kind == "node":
                nodes.remove_node(
                    chance.choice(sorted(nodes.worker_nodes, key=lambda node: node.node_id)), allow_graceful=False
                )
                nodes.add_node(**NODE)
            elif pids := workers(nodes):
                os.kill(chance.choice(pids), signal.SIGKILL)
            else:
                kinds.append(kind)  # none works just now
            next_kill = _moment(target, seen, kinds, chance)
        time.sleep(LOOK_S)


def _moment(target: Path, seen: dict[str, int], kinds: list[str], chance: random.Random) -> int:
    """Choose how many parts are there at the next kill, so that the kills spread over what is left."""
    plan = read_plan(target)
    left = len(plan.parts) - len(seen) if plan else 0
    return len(seen) + 1 + chance.randrange(max(1, 2 * left // max(1, len(kinds))))


def _look(target: Path, seen: dict[str, int]) -> int:
    """Note the finished parts; return how many were replaced since the last look."""
    n_replaced = 0
    try:
        for entry in os.scandir(parts_folder(target)):
            if entry.name[0].isdigit() and entry.name.endswith(".json") and entry.name.count("-") == 1:
                n_replaced += seen.get(entry.name, entry.inode()) != entry.inode()
                seen[entry.name] = entry.inode()
    except FileNotFoundError:
        return 0
    return n_replaced


def workers(nodes: Any) -> list[int]:
    """The processes of the actors of a cluster."""
    raylets = {node.all_processes["raylet"][0].process.pid for node in nodes.worker_nodes}
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent in raylets and (folder / "cmdline").read_bytes().startswith(b"ray::Worker"):
                pids.append(int(folder.name))
        except OSError:
            continue
    return sorted(pids)


def compare(nodes: Any, source: Path, bundle: Path) -> None:
    """Let both engines take turns."""
    seconds: dict[str, list[float]] = {"local": [], "ray": []}
    contents = set()
    classifier, quiet = hybrid.load(bundle), Screen(quiet=True)
    start = time.monotonic()
    on_cluster = RayEngine(address=nodes.address, workers=NODES, threads=1, say=print)
    print(f"connected to Ray in {time.monotonic() - start:.1f} s")
    for number, name in enumerate(("local", "ray", "ray", "local")):
        engine = LocalEngine(NODES, 1) if name == "local" else on_cluster
        job = Job(source=source, target=source.with_name(f"{number}.csv"))
        start = time.monotonic()
        score_with(OnEngine(engine, classifier, bundle, DEFAULT_ENGINE), classifier, bundle, job, quiet)
        seconds[name].append(time.monotonic() - start)
        print(f"{name}: {seconds[name][-1]:.1f} s")
        contents.add(job.target.read_bytes())
    on_cluster.close()
    overhead = sum(seconds["ray"]) / sum(seconds["local"]) - 1
    bar("Ray over local processes", f"{overhead:+.1%}", f"at most {MOST_OVERHEAD:+.0%}", overhead <= MOST_OVERHEAD)
    bar("bytes of both engines", "equal" if len(contents) == 1 else "other", "equal", len(contents) == 1)


def measure_memory(nodes: Any, folder: Path, n_rows: int) -> None:
    """Compare the peak memory of the command over rows and ten times as many."""
    peaks = []
    for number in (n_rows, 10 * n_rows):
        source = write_rows(folder / "many.csv", number)
        words = command(source, folder / "out.csv", bundle_path("demo"), *on_ray(nodes))
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, words
        peaks.append(usage.ru_maxrss / 1024)
        print(f"memory: {peaks[-1]:.0f} MB at most over {number:,} rows")
        for path in (source, folder / "out.csv", folder / "out.csv.stamp.json"):
            path.unlink()
    growth = peaks[1] - peaks[0]
    bar("growth of the command's memory", f"{growth:.0f} MB", f"at most {MOST_GROWTH_MB} MB", growth <= MOST_GROWTH_MB)


if __name__ == "__main__":
    main()
