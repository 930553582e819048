"""A newcomer's first and second `make sentiment`: a fresh clone, an empty home, an empty cache.

Takes the committed state of this checkout. Prints minutes, disk and memory, and what the second run skipped.
"""

import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path

from bars import bar, finish

CHECKOUT = Path(__file__).resolve().parent.parent


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        clone, home = Path(scratch) / "clone", Path(scratch) / "home"
        home.mkdir()
        subprocess.run(["git", "clone", "--quiet", str(CHECKOUT), str(clone)], check=True)
        first, said = timed(clone, home)
        print(said)
        disk = sum(path.lstat().st_blocks * 512 for path in Path(scratch).rglob("*") if not path.is_symlink()) / 1e9
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        again, said_again = timed(clone, home)
        print(said_again)
        skipped = said_again.count("unchanged, skipped")
    print(f"first run {first / 60:.1f} min, second {again:.1f} s; disk {disk:.2f} GB, largest process {memory:.2f} GB")
    bar("first_run_minutes", round(first / 60, 2), "<= 15", first <= 900)
    bar("first_run_disk_gb", round(disk, 2), "<= 4", disk <= 4)
    bar("first_run_memory_gb", round(memory, 2), "<= 4", memory <= 4)
    bar("second_run_seconds", round(again, 2), "<= 10", again <= 10)
    bar("second_run_stages_skipped", skipped, ">= 8", skipped >= 8)
    finish()


def timed(clone: Path, home: Path) -> tuple[float, str]:
    """Return seconds and output of `make sentiment`, run as a user with that home would."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("XDG_", "HF_", "HYBRID_", "VIRTUAL_ENV"))
    }
    start = time.perf_counter()
    done = subprocess.run(
        ["make", "--no-print-directory", "-f", str(clone / "Makefile"), "sentiment"],
        cwd=home,
        env=kept | {"HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"make sentiment failed with status {done.returncode}:\n{done.stdout}")
    return time.perf_counter() - start, done.stdout


if __name__ == "__main__":
    main()
