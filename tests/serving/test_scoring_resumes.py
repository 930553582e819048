"""Offline scoring after a kill, after a change, beside itself, and over a file larger than its memory."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hybrid
from hybrid.errors import DataError, StorageError
from hybrid.scoring.parts import open_parts, parts_folder, stamp_path
from hybrid.scoring.plan import Fingerprint, Plan
from hybrid.scoring.score import Job, score
from hybrid.scoring.tally import Tally
from tests.corpus import texts_and_gold
from tests.serving.test_scoring import RecordedProgress, run, write

ROWS = [{"id": i, "text": text} for i, text in enumerate(texts_and_gold(400)[0])]
PARTS = 10
MANY_ROWS = 100_000
HELD_ROWS = 10_000
GROWTH_MB = 20
"""Of resident memory, from a tenth of the rows on."""
KILLED = """
import os, signal, sys
from pathlib import Path
import hybrid
from hybrid.scoring import score as scoring
class Deadly:
    def say(self, line): pass
    def advance(self, done, total):
        if done >= int(sys.argv[4]):
            os.kill(os.getpid(), signal.SIGKILL)
bundle = Path(sys.argv[1])
job = scoring.Job(source=Path(sys.argv[2]), target=Path(sys.argv[3]), chunk_rows=40)
scoring.score(hybrid.load(bundle), bundle, job, Deadly())
"""
MEASURED = """
import json, sys
from pathlib import Path
import hybrid
from hybrid.scoring import score as scoring
def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
class Measures:
    at = {}
    def say(self, line): pass
    def advance(self, done, total): self.at[done] = resident()
bundle = Path(sys.argv[1])
before = resident()
job = scoring.Job(source=Path(sys.argv[2]), target=Path(sys.argv[3]), chunk_rows=int(sys.argv[4]))
tally = scoring.score(hybrid.load(bundle), bundle, job, Measures())
settled = next((mb for done, mb in Measures.at.items() if done >= tally.rows / 10 and done < tally.rows), before)
print(json.dumps({"rows": tally.rows, "growth": max(resident(), *Measures.at.values()) - settled}))
"""


def in_process(code: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_after_a_kill_the_rest_is_scored_and_the_bytes_are_those_of_one_go(
    bundle_dir: Path, tmp_path: Path, suffix: str
) -> None:
    source, target = write(tmp_path / f"in.{suffix}", ROWS), tmp_path / f"out.{suffix}"
    done = in_process(KILLED, bundle_dir, source, target, 160)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not target.exists()
    progress = RecordedProgress()
    run(bundle_dir, Job(source=source, target=target, chunk_rows=40), progress)
    assert "continuing after 160 rows that are scored" in progress.lines
    assert progress.done == [(done, 400) for done in range(200, 401, 40)]  # the first four chunks are not scored again
    whole = RecordedProgress()
    run(bundle_dir, Job(source=source, target=tmp_path / f"one.{suffix}", chunk_rows=40), whole)
    assert len(whole.done) == PARTS
    assert target.read_bytes() == (tmp_path / f"one.{suffix}").read_bytes()
    assert not parts_folder(target).exists()


@pytest.mark.slow
def test_a_kill_from_outside_at_any_moment_loses_no_row(bundle_dir: Path, tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", ROWS * 10), tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "hybrid", "score", str(source), str(target), "--bundle", str(bundle_dir)]
    kills = 0
    for delay in (0.0, 0.05):
        process = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not list(parts_folder(target).glob("*.json")):
            time.sleep(0.01)
        time.sleep(delay)
        process.kill()
        kills += process.wait() == -signal.SIGKILL
    assert kills
    run(bundle_dir, Job(source=source, target=target))
    results = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["id"] for row in results] == [row["id"] for row in ROWS * 10]
    run(bundle_dir, Job(source=source, target=tmp_path / "one.jsonl"))
    assert target.read_bytes() == (tmp_path / "one.jsonl").read_bytes()


def test_a_finished_output_is_not_scored_again_and_a_changed_one_is(bundle_dir: Path, tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"
    first = run(bundle_dir, Job(source=source, target=target))
    again = RecordedProgress()
    assert run(bundle_dir, Job(source=source, target=target), again) == first
    assert "unchanged, nothing to score" in again.lines[-1]
    assert not again.done
    wanted = target.read_bytes()
    target.write_bytes(wanted[:-10])
    harmed = RecordedProgress()
    run(bundle_dir, Job(source=source, target=target), harmed)
    assert harmed.done
    assert target.read_bytes() == wanted


@pytest.mark.parametrize("what", ["the input", "the settings", "the bundle"])
def test_parts_of_something_else_are_dropped_and_it_is_said(bundle_dir: Path, tmp_path: Path, what: str) -> None:
    source, target = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"
    job, bundle = Job(source=source, target=target, chunk_rows=40), bundle_dir

    class Stops(RecordedProgress):
        def advance(self, done: int, total: int) -> None:
            if done >= 80:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(hybrid.load(bundle), bundle, job, Stops())
    if what == "the input":
        write(source, ROWS[::-1])
    elif what == "the settings":
        job = Job(source=source, target=target, chunk_rows=40, threshold=0.7)
    else:
        bundle = tmp_path / "bundle"
        bundle.mkdir()
        for path in bundle_dir.iterdir():
            (bundle / path.name).write_bytes(path.read_bytes())
        (bundle / "bundle.json").write_bytes((bundle / "bundle.json").read_bytes() + b"\n")
    progress = RecordedProgress()
    run(bundle, job, progress)
    assert f"starting over: {what} changed since the last time" in progress.lines
    assert len(progress.done) == PARTS
    assert [json.loads(line)["id"] for line in target.read_text().splitlines()][:2] == (
        [399, 398] if what == "the input" else [0, 1]
    )


def test_an_input_that_changes_under_the_work_gives_no_output(bundle_dir: Path, tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", ROWS[:4]), tmp_path / "out.jsonl"

    class Writes(RecordedProgress):
        def advance(self, done: int, total: int) -> None:
            source.write_text(source.read_text() + '{"id": 4, "text": "late soup"}\n')

    with pytest.raises(DataError, match="changed while it was scored"):
        run(bundle_dir, Job(source=source, target=target), Writes())
    assert not target.exists()
    assert not stamp_path(target).exists()


def test_two_processes_do_not_score_into_one_file(bundle_dir: Path, tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", ROWS[:4]), tmp_path / "out.jsonl"

    class Twice(RecordedProgress):
        def advance(self, done: int, total: int) -> None:
            with pytest.raises(StorageError, match="another process scores into it"):
                run(bundle_dir, Job(source=source, target=target))
            self.done.append((done, total))

    progress = Twice()
    run(bundle_dir, Job(source=source, target=target), progress)
    assert progress.done


@pytest.mark.slow
def test_memory_stays_where_it_is_over_many_rows(bundle_dir: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [{"text": f"soup {number % 400}"} for number in range(MANY_ROWS)])
    content = json.loads(in_process(MEASURED, bundle_dir, source, tmp_path / "out.jsonl", 1024).stdout)
    assert content["rows"] == MANY_ROWS
    assert content["growth"] < GROWTH_MB
    # The control: fewer rows, but in one chunk, so that the whole file is in memory.
    few = write(tmp_path / "few.jsonl", [{"text": f"soup {number}", "pad": "x" * 4000} for number in range(HELD_ROWS)])
    held = json.loads(in_process(MEASURED, bundle_dir, few, tmp_path / "held.jsonl", HELD_ROWS).stdout)
    assert held["growth"] > 2 * GROWTH_MB


def test_what_an_earlier_version_left_starts_over_and_what_it_finished_stays(bundle_dir: Path, tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"
    job = Job(source=source, target=target, chunk_rows=40)
    run(bundle_dir, job)
    stamp = json.loads(stamp_path(target).read_text())
    stamp["made"]["version"] = 1
    stamp_path(target).write_text(json.dumps(stamp))
    progress = RecordedProgress()
    run(bundle_dir, job, progress)
    assert "unchanged, nothing to score" in progress.lines[-1]
    target.unlink()
    stamp_path(target).unlink()
    parts_folder(target).mkdir()
    (parts_folder(target) / "stamp.json").write_text(json.dumps(stamp["made"]))
    (parts_folder(target) / "00000000.part").write_text("{}\n")
    (parts_folder(target) / "00000000.json").write_text('{"rows": 40}')
    run(bundle_dir, job, progress)
    assert "starting over: the format of parts changed since the last time" in progress.lines
    assert len(target.read_text().splitlines()) == len(ROWS)
    assert not parts_folder(target).exists()


def test_the_parts_are_the_work_of_one_output(tmp_path: Path) -> None:
    plan = Plan(made=Fingerprint(input="a", bundle="b", settings={}), files=(), parts=())
    with pytest.raises(KeyboardInterrupt), open_parts(tmp_path / "out.csv", plan) as (parts, _):
        parts.add(3, b"three", Tally(rows=1, labels={"x": 1}))
        parts.part(1).write_bytes(b"without a tally: cut off")
        raise KeyboardInterrupt
    with open_parts(tmp_path / "out.csv", plan) as (parts, dropped):
        assert parts.finished() == {3}
        assert not dropped
        assert parts.part(3).read_bytes() == b"three"
        assert parts.tallies([3]) == [Tally(rows=1, labels={"x": 1})]
    assert not parts_folder(tmp_path / "out.csv").exists()
