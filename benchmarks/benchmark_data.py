"""Where the benchmarks' data sets lie. They do not ship with the project."""

from collections.abc import Sequence
from pathlib import Path

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def headlines_folder(arguments: Sequence[str]) -> Path | None:
    """Return the folder named, or `../shared/data/headlines`; None, said on the screen, where it is not there."""
    folder = Path(arguments[0]) if arguments else BESIDE / "headlines"
    if all((folder / name).is_file() for name in ("train.csv", "test.csv")):
        return folder
    print(f"skipped: no train.csv and test.csv in {folder}; name the folder of the headlines data")
    return None
