"""Bring in what a run needs and does not carry: pinned artefacts, hub models, local model folders."""

import contextlib
import errno
import io
import os
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import IO

import msgspec

from hybrid.errors import ArtifactError, ConfigError, StorageError
from hybrid.files.file_check import first_changed
from hybrid.files.hashing import sha256_of_file
from hybrid.files.table import write_json
from hybrid.hub import is_hub, parse_hub, refusal_of
from hybrid.package_index import OnStart, archive_of, remove_kept, storage_error
from hybrid.pins import ARTIFACTS, Artifact

_STAMP = ".stamp.json"
_CHECKED = ".checked.json"
"""Beside the stamp: the files as they were when they were last compared with it."""
_HUB_FILES = ("config.json", "tokenizer*", "special_tokens_map.json", "vocab.*", "merges.txt", "spm.model", "*.model")
_HUB_WEIGHTS = (("model.safetensors", "model-*.safetensors", "model.safetensors.index.json"), ("pytorch_model*.bin",))
"""The files of a model to download, and its weights: safetensors, or where there are none the older format."""


class Member(msgspec.Struct, frozen=True):
    """What an unpacked file must be."""

    size: int
    sha256: str


class Stamp(msgspec.Struct, frozen=True):
    """Written last into an unpacked folder: which archive it came from, and what is in it."""

    archive: str
    members: dict[str, Member]


def cache_dir() -> Path:
    """Return the folder for fetched artefacts: $HYBRID_CACHE, $XDG_CACHE_HOME/hybrid or ~/.cache/hybrid."""
    if chosen := os.environ.get("HYBRID_CACHE"):
        return Path(chosen).expanduser().absolute()
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "hybrid"


def cached(name: str) -> bool:
    """Whether the cache holds the pinned artefact `name`, whole; nothing is downloaded."""
    artifact = ARTIFACTS[name]
    return not _fault(_target(cache_dir(), artifact), artifact)


def fetch(name: str, *, cache: Path | None = None, on_start: OnStart | None = None) -> Path:
    """Return the folder with the unpacked members of the pinned artefact `name`.

    Args:
        cache: the cache folder; None: `cache_dir()`. An archive put by hand at
            `<cache>/downloads/<file name>` is used instead of a download.
        on_start: told in one line what is about to be downloaded; not called where the cache has it.

    Raises:
        ConfigError: no artefact has that name.
        ArtifactError: it cannot be downloaded, or what came is not what was pinned.
        StorageError: the cache cannot be written.
    """
    artifact = ARTIFACTS.get(name)
    if artifact is None:
        raise ConfigError(f"packaged:{name}: no such artefact; choose one of: {', '.join(sorted(ARTIFACTS))}")
    root = cache or cache_dir()
    target = _target(root, artifact)
    fault = _fault(target, artifact)
    if not fault:
        return target
    if target.exists() and on_start is not None:
        on_start(f"{target} is damaged ({fault}), so {artifact.name} is unpacked anew")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as scratch:
            archive = archive_of(artifact, root / "downloads", Path(scratch), on_start)
            _move_into_place(_unpack(archive, artifact, Path(scratch) / "unpacked"), target, artifact)
            remove_kept(artifact, root / "downloads")
    except OSError as error:
        raise storage_error(root, error) from error
    return target


def model_folder(ref: str, *, on_start: OnStart | None = None) -> Path:
    """Return the folder with the config, weights and tokenizer that `ref` names.

    Args:
        ref: `packaged:NAME`, `hf:owner/name[@revision]`, or the path of a folder (from the working directory if relative).
        on_start: told in one line what is about to be downloaded.

    Raises:
        ConfigError: the artefact or folder does not exist, or the folder has no config.json.
        ArtifactError: the download failed; for the hub the message names the alternatives.
        StorageError: there is no room for it.
    """
    if ref.startswith("packaged:"):
        return fetch(ref.removeprefix("packaged:"), on_start=on_start)
    if is_hub(ref):
        return _from_hub(ref, on_start)
    folder = Path(ref).expanduser()
    if not (folder / "config.json").is_file():
        fault = "has no config.json" if folder.is_dir() else "is not a folder"
        raise ConfigError(
            f"encoder.model = {ref!r}: {folder.absolute()} {fault}; expected a folder with config.json, weights and "
            "tokenizer, or packaged:NAME, or hf:owner/name"
        )
    return folder


def _target(root: Path, artifact: Artifact) -> Path:
    return root / "artifacts" / f"{artifact.name}-{artifact.sha256[:12]}"


def _fault(folder: Path, artifact: Artifact) -> str:
    """Why `folder` is not the unpacked archive; empty where it has the stamp, and every member its hash."""
    try:
        stamp = msgspec.json.decode((folder / _STAMP).read_bytes(), type=Stamp)
    except (OSError, ValueError):
        return "it has no readable stamp"
    if stamp.archive != artifact.sha256 or set(stamp.members) != set(artifact.unpacked):
        return "it is of another archive"
    hashes = {name: member.sha256 for name, member in stamp.members.items()}
    changed = first_changed(folder, hashes, folder / _CHECKED)
    return f"{changed} is missing, or was changed since" if changed else ""


def _unpack(archive: Path, artifact: Artifact, folder: Path) -> Path:
    """Write the members and their stamp into `folder`; no name out of the archive becomes a path."""
    folder.mkdir()
    try:
        with zipfile.ZipFile(archive) as outer:
            if artifact.inside:
                with tarfile.open(fileobj=io.BytesIO(outer.read(artifact.inside))) as inner:
                    for name in artifact.members:
                        with _regular(inner, f"{artifact.folder}/{name}") as content:
                            _write(content, folder / name)
            else:
                for name in artifact.members:
                    with outer.open(f"{artifact.folder}/{name}") as content:
                        _write(content, folder / name)
    except (KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise ArtifactError(
            f"{archive}: has the pinned hash but not the expected content ({error}); report it as a wrong pin"
        ) from error
    if artifact.converted:
        _convert(folder / artifact.members[0])
    paths = [folder / name for name in artifact.unpacked]
    members = {path.name: Member(size=path.stat().st_size, sha256=sha256_of_file(path)) for path in paths}
    write_json(folder / _STAMP, Stamp(archive=artifact.sha256, members=members))
    return folder


def _convert(packed: Path) -> None:
    """Write the checkpoint that a packed encoder is, beside it, and remove the packed file."""
    from hybrid.q4_encoder import read_packed, write_bert

    write_bert(read_packed(packed), packed.parent)
    packed.unlink()


def _regular(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    content = archive.extractfile(name)
    if content is None:
        raise KeyError(f"{name} is not a regular file")
    return content


def _write(content: IO[bytes], path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())


def _move_into_place(unpacked: Path, target: Path, artifact: Artifact) -> None:
    """Rename `unpacked` to `target`, unless another process was first; a spoiled folder gives way."""
    for attempt in range(3):
        if not _fault(target, artifact):
            return
        if target.exists():
            # The scratch folder is removed afterwards, and with it what was spoiled.
            with contextlib.suppress(FileNotFoundError):
                target.rename(unpacked.parent / f"spoiled-{attempt}")
        try:
            unpacked.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return
    raise StorageError(f"{target}: other processes keep replacing it; wait until they end, then run again")


def _from_hub(ref: str, on_start: OnStart | None) -> Path:
    """Return the snapshot of a hub model: fresh where the hub answers, else the one in the hub's cache."""
    from huggingface_hub import snapshot_download

    reference = parse_hub(ref)
    repo, revision = reference.repo, reference.revision or None
    offline = refusal_of(repo, "model")
    if offline is None and on_start is not None:
        on_start(f"downloading {repo} from the Hugging Face hub, as far as its cache lacks it")
    try:
        for weights in _HUB_WEIGHTS:
            patterns = [*_HUB_FILES, *weights]
            folder = Path(
                snapshot_download(
                    repo, revision=revision, allow_patterns=patterns, local_files_only=offline is not None
                )
            )
            if any(any(folder.glob(pattern)) for pattern in weights) and (folder / "config.json").is_file():
                return folder
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise StorageError(f"{ref}: no space left for the download; free some or move HF_HOME") from error
        raise _hub_error(ref, offline or error) from error
    raise _hub_error(ref, offline or ValueError("config.json or the weights are missing"))


def _hub_error(ref: str, reason: Exception) -> ArtifactError:
    first_line = (str(reason).strip() or type(reason).__name__).splitlines()[0].rstrip(".")
    return ArtifactError(
        f"{ref}: could not be had from the Hugging Face hub ({first_line}) and its cache holds no whole copy; train the "
        "packaged encoder instead (`--profile embedded`, or encoder.model = 'packaged:all-MiniLM-L6-v2'), name a "
        "folder that holds the model, or point HF_HOME at a filled cache"
    )
