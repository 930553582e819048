"""Where the benchmarks' data sets lie. They do not ship with the project."""

from collections.abc import Sequence
from pathlib import Path

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def headlines_folder(arguments: Sequence[str]) -> Path | None:
    """Return the folder named, or `../shared/data/headlines`; None, said on the screen, where it is not there."""
    return _folder("headlines", ("train.csv", "test.csv"), arguments)


def banking77_folder(arguments: Sequence[str]) -> Path | None:
    """Return the folder named, or `../shared/data/banking77`; None, said on the screen, where it is not there."""
    return _folder("banking77", ("train.jsonl", "test.jsonl"), arguments)


def obqa_folder(arguments: Sequence[str]) -> Path | None:
    """Return the folder named, or `../shared/data/obqa`; None, said on the screen, where it is not there."""
    return _folder("obqa", ("train.jsonl", "test.jsonl"), arguments)


def _folder(name: str, files: Sequence[str], arguments: Sequence[str]) -> Path | None:
    folder = Path(arguments[0]) if arguments else BESIDE / name
    if all((folder / file).is_file() for file in files):
        return folder
    print(f"skipped: no {' and '.join(files)} in {folder}; name the folder of the {name} data")
    return None
