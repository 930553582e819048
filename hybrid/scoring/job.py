"""What to score, and how; and which of its files are read and written."""

from pathlib import Path

import msgspec

from hybrid.errors import ConfigError, DataError
from hybrid.files.formats import FORMATS, format_of, is_table
from hybrid.files.formats.records import BATCH_ROWS, Format
from hybrid.files.places import is_local


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to score, and how."""

    source: Path
    """The file to score, or a folder of files."""
    target: Path
    """The file to write, of the same format; for a folder, the folder to write files of the same names into."""
    text: str = "text"
    """The column that holds the texts."""
    threshold: float | None = None
    """The confidence below which a row escalates; None means the bundle's own threshold."""
    prefix: str = "hybrid_"
    """The beginning of the names of the added columns."""
    probs: bool = False
    """Whether the probability of every label is added."""
    skip_bad: bool = False
    """Whether a row that cannot be read is marked; otherwise it ends the job."""
    chunk_rows: int = BATCH_ROWS
    """The most rows that are answered together; a part of the output holds one such chunk or several."""

    @property
    def settings(self) -> dict[str, object]:
        """The fields of the job without the names of its files."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if name not in ("source", "target")}


class FilePair(msgspec.Struct, frozen=True):
    """A file to score, and the file to write."""

    name: str
    """The path below the folder of the job; for a job of one file, the file's name."""
    source: Path
    target: Path

    @property
    def file_format(self) -> Format:
        """The format of both."""
        return format_of(self.source)


def file_pairs(job: Job) -> list[FilePair]:
    """List the files of a job in order, after a look at their names.

    Raises:
        ConfigError: the job contradicts itself.
        DataError: a file has a name of no format, or the folder has no file to score.
    """
    if job.threshold is not None and not 0 <= job.threshold <= 1:
        raise ConfigError(f"--threshold {job.threshold}: expected a probability, from 0 to 1")
    if not job.source.is_dir():
        _check_names(job.source, job.target)
        return [FilePair(job.source.name, job.source, job.target)]
    if job.target.exists() and not job.target.is_dir():
        raise ConfigError(f"{job.target}: a file, and the input is a folder; name a folder")
    if str(job.target.absolute()).startswith(f"{job.source.absolute()}/") or job.target == job.source:
        raise ConfigError(f"{job.target}: inside the input, which the next run would score too; name another folder")
    paths = sorted(path for path in job.source.rglob("*") if is_table(path) and path.is_file())
    names = [str(path)[len(str(job.source)) :].lstrip("/\\") for path in paths]
    pairs = [
        FilePair(name, path, job.target / name) for name, path in zip(names, paths, strict=True) if name[0] not in "._"
    ]
    if not pairs:
        endings = ", ".join(end for known in FORMATS.values() if known.can_write for end in known.suffixes)
        raise DataError(f"{job.source}: no file to score in this folder; expected names that end in {endings}")
    for pair in pairs:
        _check_names(pair.source, pair.target)
    return pairs


def _check_names(source: Path, target: Path) -> None:
    suffix = source.suffix.lower()
    if not format_of(source).can_write:
        raise ConfigError(f"{source}: a {suffix} file is read and not written; save it as CSV UTF-8 and score that")
    if target.suffix.lower() != suffix:
        raise ConfigError(f"{target}: the input is a {suffix} file and so is the output; name it {suffix}")
    are_local = is_local(source) and is_local(target)
    if target == source or (are_local and target.exists() and source.exists() and target.samefile(source)):
        raise ConfigError(f"{target}: it is the input as well; name another output")
