"""Where files are: paths of this machine, and URLs of object stores such as `s3://bucket/rows.csv`, which fsspec reaches.

A place in a store has the methods of a `Path` that read, list and ask (`universal_pathlib`), so that most code does not
know the difference. A store has no locks and no renames; an object appears whole or not at all.
"""

import io
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from hybrid.errors import ConfigError, DataError, HybridError, StoreError
from hybrid.files.table import write_bytes

_URL = re.compile(r"([a-z][a-z0-9+.-]+)://")
READ_BYTES = 1 << 20
"""How much is asked of an object at a time, at least."""
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "abfs": "abfs", "abfss": "abfs", "az": "abfs"}
"""The extra with the package of a store, by the scheme of its URLs."""


def place_of(text: str) -> Path:
    """Return the path, or the place in a store, that a text names; `file://` URLs are paths.

    Raises:
        ConfigError: there is no such kind of store, or its package is not installed.
    """
    match = _URL.match(text)
    if match is None:
        return Path(text)
    if match[1] == "file":
        return Path(text.removeprefix("file://"))
    extra = EXTRAS.get(match[1], "cloud")
    install = f"run `pip install 'hybrid-cascade[{extra}]'`"
    try:
        from upath import UPath
    except ImportError as error:
        raise ConfigError(f"{text}: universal_pathlib is not installed; {install}") from error
    try:
        place = UPath(text)
        _ = place.fs
    except ImportError as error:
        raise ConfigError(f"{text}: {error}; {install}") from error
    except ValueError as error:
        raise ConfigError(
            f"{text}: {error}; expected a path, or a URL that begins with s3://, gs:// or abfs://"
        ) from error
    return cast(Path, place)


def is_local(place: Path) -> bool:
    """Whether a place is a path of this machine."""
    return isinstance(place, Path)


def open_bytes(place: Path) -> BinaryIO:
    """Open a file for reading.

    Raises:
        OSError: it cannot be read.
    """
    file = place.open("rb")
    return file if is_local(place) else cast(BinaryIO, io.BufferedReader(cast(Any, file), READ_BYTES))


def write_whole(place: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    if is_local(place):
        write_bytes(place, content)
    else:
        fs, path = _store(place)
        fs.pipe_file(path, content)


def move(source: Path, target: Path) -> None:
    """Move a file of this machine to its place, which then has it whole."""
    if is_local(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
    else:
        fs, path = _store(target)
        fs.put_file(str(source), path)
        source.unlink()


def read_all(places: Sequence[Path]) -> list[bytes]:
    """Read small files, those of a store several at once."""
    if not places or is_local(places[0]):
        return [place.read_bytes() for place in places]
    fs, _ = _store(places[0])
    paths = [_store(place)[1] for place in places]
    return fs.cat_ranges(paths, None, None, on_error="raise")  # type: ignore[no-any-return]


def names_in(folder: Path) -> list[str]:
    """List the names in a folder; none where it is not there."""
    try:
        return [path.name for path in fresh(folder).iterdir()]
    except FileNotFoundError:
        return []


def remove_folder(folder: Path) -> None:
    """Remove a folder and all in it, as far as that goes."""
    if is_local(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return
    fs, path = _store(folder)
    try:
        fs.rm(path, recursive=True)
    except FileNotFoundError:
        return


def fresh(place: Path) -> Path:
    """Return a place after forgetting what was known of its store: other processes may have written to it."""
    if not is_local(place):
        _store(place)[0].invalidate_cache()
    return place


def mark_of(place: Path) -> str:
    """Return what changes whenever a file is written.

    Raises:
        DataError: there is no such file.
    """
    try:
        if not is_local(place):
            fs, path = _store(fresh(place))
            return str(fs.ukey(path))
        status = place.stat()
    except OSError as error:
        raise DataError(f"{place}: cannot be read ({error.strerror or error}); name a file that exists") from error
    return f"{status.st_size} bytes, {status.st_mtime_ns}"


@contextmanager
def store_errors(*places: Path) -> Iterator[None]:
    """Make one sentence of whatever the client of a store raises, where one of the places is in a store.

    Raises:
        StoreError: the store refused.
    """
    remote = [str(place) for place in places if not is_local(place)]
    try:
        yield
    except HybridError:
        raise
    except Exception as error:
        # Each store's client has errors of its own, and they share no class.
        if not remote:
            raise
        reason = next(iter(str(error).strip().splitlines()), "").rstrip(".") or type(error).__name__
        raise StoreError(
            f"{' and '.join(remote)}: the store refuses ({reason:.300}); check the name, the credentials and the network, then run "
            "again: what was finished is kept"
        ) from error


def _store(place: Path) -> tuple[Any, str]:
    """Return the file system of a place in a store, and the path there."""
    remote = cast(Any, place)
    return remote.fs, remote.path
