"""Scoring in shards: in any order, at once, twice, killed and gone on with, the bytes are those of the plain command."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

import hybrid
from hybrid.__main__ import main
from hybrid.errors import ConfigError, DataError, StorageError
from hybrid.files.formats import format_of
from hybrid.files.formats.records import Start
from hybrid.scoring import plan as plans
from hybrid.scoring.output import Output
from hybrid.scoring.parts import parts_folder, ranges
from hybrid.scoring.score import Job, join_shards, score, score_shard
from hybrid.scoring.shards import Shard, read_shard
from hybrid.scoring.work import Here
from tests.corpus import texts_and_gold
from tests.serving.test_scoring import RecordedProgress, run, write

ROWS = [{"id": i, "text": text} for i, text in enumerate(texts_and_gold(400)[0])]


def shard(bundle: Path, job: Job, which: str) -> object:
    return score_shard(hybrid.load(bundle), bundle, job, read_shard(which), RecordedProgress())


def command(source: Path, target: Path, bundle: Path, *words: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "hybrid", "score", str(source), str(target), "--bundle", str(bundle), *words]
    return subprocess.Popen(line, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_four_shards_at_once_one_of_them_twice_and_one_killed_give_the_bytes_of_the_plain_command(
    bundle_dir: Path, tmp_path: Path
) -> None:
    source, target = write(tmp_path / "in.csv", ROWS * 25), tmp_path / "out.csv"
    run(bundle_dir, Job(source=source, target=tmp_path / "plain.csv"))
    victim = command(source, target, bundle_dir, "--shard", "2/4")
    while victim.poll() is None and not list(parts_folder(target).glob("[0-9]*.json")):
        time.sleep(0.01)
    victim.kill()
    assert victim.wait() == -signal.SIGKILL
    n_kept = len(list(parts_folder(target).glob("[0-9]*.json")))
    assert n_kept
    order = ["1/4", "2/4", "3/4", "4/4", "3/4"]
    random.Random(3).shuffle(order)
    shards = [command(source, target, bundle_dir, "--shard", which) for which in order]
    outcomes = [(process.communicate(timeout=300), process.returncode) for process in shards]
    assert [code for _, code in outcomes] == [0] * 5, outcomes
    assert any("was the last" in out for (out, _), _ in outcomes)
    assert target.read_bytes() == (tmp_path / "plain.csv").read_bytes()
    assert not parts_folder(target).exists()
    assert not [path for path in tmp_path.iterdir() if path.name not in NAMES]


NAMES = {"in.csv", "out.csv", "out.csv.stamp.json", "plain.csv", "plain.csv.stamp.json"}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "tsv"])
@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1)])
def test_shards_of_any_order_give_the_same_bytes_and_tally(
    bundle_dir: Path, tmp_path: Path, suffix: str, order: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "ENOUGH_PARTS", 5)  # so that parts hold two chunks
    source = write(tmp_path / f"in.{suffix}", ROWS[:90])
    if suffix == "parquet":
        pyarrow.parquet.write_table(pyarrow.parquet.read_table(source), source, row_group_size=11)
    job = Job(source=source, target=tmp_path / f"out.{suffix}", chunk_rows=8)
    whole = run(bundle_dir, Job(source=source, target=tmp_path / f"plain.{suffix}", chunk_rows=8))
    reports = [shard(bundle_dir, job, f"{number}/3") for number in order]
    assert [report.tally for report in reports] == [None, None, whole]  # type: ignore[attr-defined]
    assert job.target.read_bytes() == (tmp_path / f"plain.{suffix}").read_bytes()
    assert shard(bundle_dir, job, "1/3").tally == whole  # type: ignore[attr-defined]
    assert not parts_folder(job.target).exists()


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        ("csv", "\ufeffsep=;\r\nid;text\r\n" + "".join(f'{n};"warm\r\nsoup {n}"\r\n\r\n' for n in range(20))),
        ("csv", "id,text\r" + "".join(f"{n},soup {n}\r" for n in range(20))),
        ("csv", "id,text\n" + "".join(f'{n},"soup {n}{"" if n in (3, 9) else chr(34)}\n' for n in range(20))),
        ("jsonl", "\ufeff" + "".join(f'{{"id": {n}, "text": "soup\u2028 {n}"}}\n\n' for n in range(20))),
    ],
)
def test_a_range_is_read_as_the_whole_file_reads_there(tmp_path: Path, suffix: str, content: str) -> None:
    path = tmp_path / f"in.{suffix}"
    path.write_bytes(content.encode())
    with format_of(path).open(path, name="in", columns=("text",), batch_rows=3, with_originals=True) as table:
        batches = list(table.batches)
        assert len(batches) > 3
        assert table.read_from is not None
        for at, batch in enumerate(batches):
            first = batch.records[0]
            later = list(table.read_from(Start(first.number, first.byte)))
            assert [b.originals for b in later] == [b.originals for b in batches[at:]]
            assert [list(b.records) for b in later] == [list(b.records) for b in batches[at:]]


def test_a_folder_is_scored_file_by_file_and_in_shards(bundle_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "later").mkdir(parents=True)
    write(folder / "b.csv", ROWS[:30])
    write(folder / "later" / "a.jsonl", ROWS[30:90])
    write(folder / "c.parquet", ROWS[90:100])
    (folder / "_SUCCESS").write_text("")
    (folder / ".hidden.csv").write_text("")
    whole = run(bundle_dir, Job(source=folder, target=tmp_path / "plain", chunk_rows=8))
    job = Job(source=folder, target=tmp_path / "out", chunk_rows=8)
    for which in ("2/3", "1/3", "3/3"):
        shard(bundle_dir, job, which)
    names = ["b.csv", "c.parquet", "later/a.jsonl"]
    assert sorted(str(path.relative_to(job.target)) for path in job.target.rglob("*.*")) == names
    for name in names:
        run(bundle_dir, Job(source=folder / name, target=tmp_path / f"one-{Path(name).name}", chunk_rows=8))
        expected = (tmp_path / f"one-{Path(name).name}").read_bytes()
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes() == expected
    assert whole.rows == 100
    progress = RecordedProgress()
    assert run(bundle_dir, job, progress) == whole
    assert "unchanged, nothing to score" in progress.lines[-1]


def test_what_a_folder_cannot_be_is_refused(bundle_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(DataError, match="no file to score in this folder"):
        run(bundle_dir, Job(source=folder, target=tmp_path / "out"))
    write(folder / "a.csv", ROWS[:3])
    with pytest.raises(ConfigError, match="inside the input"):
        run(bundle_dir, Job(source=folder, target=folder / "out"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("mine")
    with pytest.raises(DataError, match="`hybrid score` did not make it"):
        run(bundle_dir, Job(source=folder, target=tmp_path / "mine"))
    (folder / "b.xlsx").write_bytes(b"")
    with pytest.raises(ConfigError, match="is read and not written"):
        run(bundle_dir, Job(source=folder, target=tmp_path / "out"))


@pytest.mark.parametrize("word", ["0/4", "5/4", "3", "a/b", "1/0", "-1/4", "1/4/2"])
def test_a_shard_out_of_range_is_one_sentence(word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["score", str(tmp_path / "in.csv"), str(tmp_path / "o.csv"), "--bundle", "demo", f"--shard={word}"]
    assert main(words) == 2
    assert f"error: --shard {word}: expected K/N with K from 1 to N" in capsys.readouterr().err


def test_shards_divide_all_parts_once() -> None:
    for n_parts in (0, 1, 3, 64, 1000):
        for count in (1, 3, 64):
            numbers = [n for k in range(1, count + 1) for n in Shard(k, count).numbers(n_parts)]
            assert numbers == list(range(n_parts))
    assert ranges([4, 0, 1, 2, 9]) == "1 to 3, 5, 10"


def test_other_inputs_into_the_output_of_shards_are_refused_and_parts_stay(bundle_dir: Path, tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.csv", ROWS), tmp_path / "out.csv"
    job = Job(source=source, target=target, chunk_rows=40)
    shard(bundle_dir, job, "1/4")
    before = {path.name: path.read_bytes() for path in parts_folder(target).glob("[0-9]*")}
    assert before
    other = Job(source=source, target=target, chunk_rows=40, threshold=0.9)
    with pytest.raises(DataError, match=r"begun with other inputs \(the settings changed since\)"):
        shard(bundle_dir, other, "2/4")
    with pytest.raises(DataError, match="begun with other inputs"):
        run(bundle_dir, other)
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for path in bundle_dir.iterdir():
        (bundle / path.name).write_bytes(path.read_bytes())
    (bundle / "bundle.json").write_bytes((bundle / "bundle.json").read_bytes() + b"\n")
    with pytest.raises(DataError, match=r"the bundle changed since"):
        shard(bundle, job, "2/4")
    with pytest.raises(DataError, match=r"parts 3 to 10 of 10 are missing"):
        join_shards(hybrid.load(bundle_dir), bundle_dir, job, RecordedProgress())
    assert {path.name: path.read_bytes() for path in parts_folder(target).glob("[0-9]*")} == before
    progress = RecordedProgress()
    run(bundle_dir, job, progress)  # the plain command finishes what shards began
    assert [done for done, _ in progress.done] == list(range(120, 401, 40))
    with pytest.raises(DataError, match="begun with other inputs"):
        shard(bundle_dir, other, "2/4")


def test_a_shard_waits_for_no_run_of_the_whole_output(bundle_dir: Path, tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.csv", ROWS), tmp_path / "out.csv"
    job = Job(source=source, target=target, chunk_rows=40)

    class Beside(RecordedProgress):
        def advance(self, done: int, total: int) -> None:
            with pytest.raises(StorageError, match="another process scores into it"):
                shard(bundle_dir, job, "1/2")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(hybrid.load(bundle_dir), bundle_dir, job, Beside())
    shard(bundle_dir, job, "2/2")
    done = RecordedProgress()
    report = score_shard(hybrid.load(bundle_dir), bundle_dir, job, Shard(1, 2), done)
    assert report.tally
    assert len(done.done) == 4  # of five parts; the run that was stopped had written one


def test_the_last_shards_by_join(bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"
    words = ["score", str(source), str(target), "--bundle", str(bundle_dir)]
    assert main([*words, "--join"]) == 2
    assert "parts 1 of 1 are missing" in capsys.readouterr().err
    assert main([*words, "--shard", "1/1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tally"]["rows"] == 400
    assert main([*words, "--join"]) == 0
    assert "400 rows" in capsys.readouterr().out


@pytest.mark.parametrize("goes_on", ["by the plain command", "by a shard", "by --join"])
def test_a_join_that_was_stopped_goes_on(bundle_dir: Path, tmp_path: Path, goes_on: str) -> None:
    folder, classifier = tmp_path / "in", hybrid.load(bundle_dir)
    folder.mkdir()
    for number in range(3):
        write(folder / f"{number}.csv", ROWS[30 * number : 30 * number + 30])
    job = Job(source=folder, target=tmp_path / "out", chunk_rows=8)

    class Stops(Here):
        def join(self, output: Output) -> Iterator[tuple[str, str]]:
            yield next(super().join(output))
            raise KeyboardInterrupt

    place = Stops(classifier)
    with pytest.raises(KeyboardInterrupt):
        score_shard(classifier, bundle_dir, job, Shard(1, 1), RecordedProgress(), place=place)
    assert [path.name for path in job.target.iterdir()] == ["0.csv"]
    progress = RecordedProgress()
    if goes_on == "by the plain command":
        score(classifier, bundle_dir, job, progress)
    elif goes_on == "by a shard":
        assert score_shard(classifier, bundle_dir, job, Shard(1, 2), progress).tally
    else:
        join_shards(classifier, bundle_dir, job, progress)
    assert not progress.done
    run(bundle_dir, Job(source=folder, target=tmp_path / "plain", chunk_rows=8))
    for path in (tmp_path / "plain").iterdir():
        assert (job.target / path.name).read_bytes() == path.read_bytes()
    assert not parts_folder(job.target).exists()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_bytes_do_not_depend_on_the_number_of_threads(bundle_dir: Path, tmp_path: Path, threads: int) -> None:
    source = write(tmp_path / "in.jsonl", ROWS[:3])
    for name, number in (("a", threads), ("b", 3)):
        job = Job(source=source, target=tmp_path / f"{name}.jsonl", probs=True)
        score(hybrid.load(bundle_dir, threads=number), bundle_dir, job, RecordedProgress())
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
