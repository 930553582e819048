"""Scoring from and into object stores: fsspec's memory in this process, and a server that speaks S3."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import boto3
import fsspec
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

import hybrid
from hybrid.__main__ import main
from hybrid.errors import ConfigError, DataError
from hybrid.files.places import place_of
from hybrid.scoring.output import Output
from hybrid.scoring.score import Job, join_shards, score_shard
from hybrid.scoring.shards import read_shard
from hybrid.scoring.work import Here
from tests.corpus import texts_and_gold
from tests.serving.test_scoring import RecordedProgress, run, write

ROWS = [{"id": i, "text": text} for i, text in enumerate(texts_and_gold(90)[0])]


@pytest.fixture
def memory() -> Iterator[str]:
    yield "memory://bucket"
    fsspec.filesystem("memory").store.clear()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_store_holds_input_parts_and_output(bundle_dir: Path, tmp_path: Path, memory: str, suffix: str) -> None:
    source = write(tmp_path / f"in.{suffix}", ROWS)
    whole = run(bundle_dir, Job(source=source, target=tmp_path / f"plain.{suffix}", chunk_rows=8))
    place_of(f"{memory}/in.{suffix}").write_bytes(source.read_bytes())
    job = Job(source=place_of(f"{memory}/in.{suffix}"), target=place_of(f"{memory}/out/out.{suffix}"), chunk_rows=8)

    class Stops(RecordedProgress):
        def advance(self, done: int, total: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(bundle_dir, job, Stops())
    progress = RecordedProgress()
    assert run(bundle_dir, job, progress) == whole
    assert len(progress.done) == 11  # of twelve
    assert job.target.read_bytes() == (tmp_path / f"plain.{suffix}").read_bytes()
    left = fsspec.filesystem("memory").find("/bucket")
    assert left == [f"/bucket/in.{suffix}", f"/bucket/out/out.{suffix}", f"/bucket/out/out.{suffix}.stamp.json"]
    with pytest.raises(DataError, match="cannot be read"):
        run(bundle_dir, Job(source=place_of(f"{memory}/none.csv"), target=place_of(f"{memory}/o.csv")))


def test_folders_of_a_store_in_shards(bundle_dir: Path, tmp_path: Path, memory: str) -> None:
    for name, rows in (("a.csv", ROWS[:30]), ("deep/b.csv", ROWS[30:])):
        place_of(f"{memory}/in/{name}").write_bytes(write(tmp_path / "rows.csv", rows).read_bytes())
    job = Job(source=place_of(f"{memory}/in"), target=place_of(f"{memory}/out"), chunk_rows=8)
    reports = [
        score_shard(hybrid.load(bundle_dir), bundle_dir, job, read_shard(which), RecordedProgress())
        for which in ("2/2", "1/2")
    ]
    assert [report.tally is None for report in reports] == [True, False]
    run(bundle_dir, Job(source=tmp_path / "rows.csv", target=tmp_path / "plain.csv", chunk_rows=8))
    assert place_of(f"{memory}/out/deep/b.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()


def test_where_another_process_joins_first_the_second_finds_its_output(
    bundle_dir: Path, tmp_path: Path, memory: str
) -> None:
    source = write(tmp_path / "in.csv", ROWS)
    job = Job(source=source, target=place_of(f"{memory}/out.csv"), chunk_rows=8)
    classifier, progress = hybrid.load(bundle_dir), RecordedProgress()

    class Second(Here):
        def join(self, output: Output) -> Iterator[tuple[str, str]]:
            join_shards(classifier, bundle_dir, job, progress)
            return super().join(output)

    report = score_shard(classifier, bundle_dir, job, read_shard("1/1"), progress, place=Second(classifier))
    assert report.tally == run(bundle_dir, Job(source=source, target=tmp_path / "plain.csv", chunk_rows=8))
    assert job.target.read_bytes() == (tmp_path / "plain.csv").read_bytes()


def test_a_store_that_is_none_or_whose_package_is_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"nope://x/y: .*expected a path, or a URL that begins with s3://"):
        place_of("nope://x/y")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ConfigError, match=r"s3fs.*hybrid-cascade\[s3\]"):
        place_of("s3://x/y")
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(ConfigError, match=r"universal_pathlib is not installed; .*hybrid-cascade\[gs\]"):
        place_of("gs://x/y")
    assert place_of("file:///x/y") == Path("/x/y")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="rows")
    yield "s3://rows"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_shards_at_once_on_s3_give_the_bytes_of_the_plain_command(bundle_dir: Path, tmp_path: Path, s3: str) -> None:
    source = write(tmp_path / "in.csv", ROWS * 40)
    run(bundle_dir, Job(source=source, target=tmp_path / "plain.csv"))
    client = boto3.client("s3")
    client.put_object(Bucket="rows", Key="in.csv", Body=source.read_bytes())
    command = [sys.executable, "-m", "hybrid", "score", f"{s3}/in.csv", f"{s3}/out.csv", "--bundle", str(bundle_dir)]
    shards = [
        subprocess.Popen([*command, "--shard", which], stderr=subprocess.PIPE, text=True) for which in ("2/2", "1/2")
    ]
    errors = [process.communicate(timeout=300)[1] for process in shards]
    assert [process.returncode for process in shards] == [0, 0], errors
    assert client.get_object(Bucket="rows", Key="out.csv")["Body"].read() == (tmp_path / "plain.csv").read_bytes()
    keys = {item["Key"] for item in client.list_objects_v2(Bucket="rows")["Contents"]}
    assert keys == {"in.csv", "out.csv", "out.csv.stamp.json"}


@pytest.mark.slow
def test_a_store_that_refuses_is_one_sentence(
    bundle_dir: Path, s3: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place_of(f"{s3}/in.csv").write_bytes(b"id,text\n1,warm soup\n")
    assert main(["score", f"{s3}/in.csv", "s3://no-such-bucket/out.csv", "--bundle", str(bundle_dir)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "no-such-bucket" in error
    assert "bucket does not exist" in error
    assert "check the name, the credentials and the network" in error
    assert main(["score", f"{s3}/none.csv", f"{s3}/out.csv", "--bundle", str(bundle_dir)]) == 2
    assert "s3://rows/none.csv: cannot be read" in capsys.readouterr().err.splitlines()[-1]
