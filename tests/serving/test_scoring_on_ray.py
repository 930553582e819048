"""Scoring on Ray, with two nodes of one processor each: the bytes of the plain command, whatever is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import hybrid
from hybrid.cluster.ray_cluster import RayEngine
from hybrid.errors import ConfigError, DataError, HybridError
from hybrid.scoring.job import Job
from hybrid.scoring.parts import parts_folder
from hybrid.scoring.score import score_with
from hybrid.scoring.work import OnEngine, OnThisMachine, ScoreParts
from tests.corpus import texts_and_gold
from tests.serving.test_scoring import RecordedProgress, run, write

ROWS = [{"id": i, "text": text} for i, text in enumerate(texts_and_gold(400)[0])]
pytestmark = pytest.mark.slow
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80_000_000}
        running = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            running.add_node(wait=False, **NODE)
        running.wait_for_nodes()
        yield running
        running.shutdown()


@pytest.fixture
def engine(cluster: Any) -> Iterator[RayEngine]:
    said: list[str] = []
    connected = RayEngine(address=cluster.address, workers=2, threads=1, say=said.append)
    yield connected
    connected.close()


def workers(cluster: Any) -> list[int]:
    """The processes of the actors of a cluster."""
    raylets = {node.all_processes["raylet"][0].process.pid for node in cluster.worker_nodes}
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent in raylets and (folder / "cmdline").read_bytes().startswith(b"ray::Worker"):
                pids.append(int(folder.name))
        except OSError:
            continue
    return pids


class Strikes(RecordedProgress):
    """Does something once so many rows are done."""

    def __init__(self, rows: int, strike: Callable[[], object]) -> None:
        super().__init__()
        self._rows = rows
        self._strike: Callable[[], object] | None = strike

    def advance(self, done: int, total: int) -> None:
        super().advance(done, total)
        if done >= self._rows and self._strike:
            strike, self._strike = self._strike, None
            strike()


def test_a_worker_and_a_node_are_killed_and_the_bytes_are_those_of_the_plain_command(
    cluster: Any, engine: RayEngine, bundle_dir: Path, tmp_path: Path
) -> None:
    source = write(tmp_path / "in.csv", ROWS)
    classifier = hybrid.load(bundle_dir)
    whole = run(bundle_dir, Job(source=source, target=tmp_path / "plain.csv", chunk_rows=8))

    def kill_worker() -> None:
        os.kill(workers(cluster)[0], signal.SIGKILL)

    def kill_node() -> None:
        cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)

    for name, strike in (("worker", kill_worker), ("node", kill_node)):
        progress = Strikes(40, strike)
        job = Job(source=source, target=tmp_path / f"{name}.csv", chunk_rows=8)
        assert (
            score_with(OnEngine(engine, classifier, bundle_dir, "onnxruntime"), classifier, bundle_dir, job, progress)
            == whole
        )
        assert job.target.read_bytes() == (tmp_path / "plain.csv").read_bytes()
        assert len(progress.done) == 50  # no part counts twice
        assert not parts_folder(job.target).exists()
    cluster.add_node(**NODE)


def test_the_work_ends_though_a_worker_finds_no_room(engine: RayEngine, bundle_dir: Path, tmp_path: Path) -> None:
    import ray

    class Tenant:
        def here(self) -> bool:
            return True

    tenant = ray.remote(num_cpus=1)(Tenant).remote()
    assert ray.get(tenant.here.remote())
    source = write(tmp_path / "in.csv", ROWS[:40])
    job, classifier = Job(source=source, target=tmp_path / "out.csv", chunk_rows=8), hybrid.load(bundle_dir)
    place = OnEngine(engine, classifier, bundle_dir, "onnxruntime")
    assert score_with(place, classifier, bundle_dir, job, RecordedProgress()).rows == 40
    ray.kill(tenant)


def test_files_of_a_folder_are_looked_at_and_joined_by_workers(
    engine: RayEngine, bundle_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(5):
        write(tmp_path / "in" / f"{number}.{'csv' if number % 2 else 'parquet'}", ROWS[80 * number : 80 * number + 70])
    classifier = hybrid.load(bundle_dir)
    whole = run(bundle_dir, Job(source=tmp_path / "in", target=tmp_path / "plain", chunk_rows=8))
    places = {
        "ray": OnEngine(engine, classifier, bundle_dir, "onnxruntime"),
        "local": OnThisMachine(classifier, bundle_dir, "onnxruntime", workers=2, threads=1),
    }
    for name, place in places.items():
        job = Job(source=tmp_path / "in", target=tmp_path / name, chunk_rows=8)
        assert score_with(place, classifier, bundle_dir, job, RecordedProgress()) == whole
        for path in (tmp_path / "plain").iterdir():
            assert (tmp_path / name / path.name).read_bytes() == path.read_bytes()
        assert score_with(place, classifier, bundle_dir, job, RecordedProgress()) == whole
    (tmp_path / "in" / "1.csv").write_text("id,text\n1,soup\n2,\n")
    with pytest.raises(
        DataError, match=r"1\.csv:3: 'text' is empty; expected a text; or mark such rows with --skip-bad"
    ):
        score_with(places["ray"], classifier, bundle_dir, job, RecordedProgress())


def test_the_driver_is_killed_and_the_same_command_goes_on(cluster: Any, bundle_dir: Path, tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", ROWS * 50), tmp_path / "out.jsonl"
    words = ["score", str(source), str(target), "--bundle", str(bundle_dir), "--engine", "ray"]
    command = [sys.executable, "-m", "hybrid", *words, "--ray-address", cluster.address]
    driver = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while driver.poll() is None and not list(parts_folder(target).glob("[0-9]*.json")):
        time.sleep(0.01)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    again = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False, timeout=300)
    assert again.returncode == 0, again.stderr
    assert "continuing after" in again.stderr
    assert again.stdout.startswith(f"{target}: 20,000 rows (")  # what Ray reports is not on the screen
    run(bundle_dir, Job(source=source, target=tmp_path / "plain.jsonl"))
    assert target.read_bytes() == (tmp_path / "plain.jsonl").read_bytes()


class Broken(msgspec.Struct, frozen=True):
    """The work of scoring, changed on its way to the node."""

    work: Any
    change: dict[str, Any]

    def start(self, threads: int) -> Callable[[int], Any]:
        return msgspec.structs.replace(self.work, **self.change).start(threads)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"versions": {"numpy": "1.0"}},
            r"node [\d.]+: has numpy .* where 1\.0 is expected; install the same versions",
        ),
        ({"bundle_dir": Path("/nowhere/bundle")}, r"node [\d.]+: /nowhere/bundle: not a bundle"),
        ({"digest": "another"}, r"node [\d.]+: .*out\.csv\.parts: not here, or of another output"),
    ],
)
def test_what_a_node_lacks_is_one_sentence_with_its_name(
    engine: RayEngine, bundle_dir: Path, tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    class Changed:
        def map(self, work: ScoreParts, items: list[int]) -> Iterator[Any]:
            return engine.map(Changing(work, change), items)

        def close(self) -> None: ...

    Changing = Broken  # noqa: N806
    source = write(tmp_path / "in.csv", ROWS[:20])
    job = Job(source=source, target=tmp_path / "out.csv", chunk_rows=8)
    classifier = hybrid.load(bundle_dir)
    with pytest.raises(HybridError, match=sentence):
        score_with(
            OnEngine(Changed(), classifier, bundle_dir, "onnxruntime"),
            hybrid.load(bundle_dir),
            bundle_dir,
            job,
            RecordedProgress(),
        )  # type: ignore[arg-type]
    assert not job.target.exists()


def test_another_python_or_too_many_processors_are_one_sentence(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"no machine of the cluster has 64 processors \(they have 0, 1"):
        RayEngine(address=cluster.address, workers=None, threads=64, say=print)
    import ray._private.utils

    other = (ray.__version__, "3.10.1", *ray._private.utils.compute_version_info()[2:])
    monkeypatch.setattr(ray._private.utils, "compute_version_info", lambda: other)
    with pytest.raises(ConfigError, match=r"other versions there than here .*3\.10\.1.*; install the same"):
        RayEngine(address=cluster.address, workers=None, threads=1, say=print)
