"""A newcomer's first and second `make sentiment`: a fresh clone, an empty home, an empty cache; and the wheel.

Takes the committed state of this checkout. Prints minutes, disk and memory, what the second run skipped, and whether
the wheel, in an empty environment outside the checkout, runs the same recipe.
"""

import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path

from targets import bar, finish

CHECKOUT = Path(__file__).resolve().parent.parent


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        clone, home = Path(scratch) / "clone", Path(scratch) / "home"
        home.mkdir()
        subprocess.run(["git", "clone", "--quiet", str(CHECKOUT), str(clone)], check=True)
        first, output = timed(clone, home)
        print(output)
        disk = sum(path.lstat().st_blocks * 512 for path in Path(scratch).rglob("*") if not path.is_symlink()) / 1e9
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        again, said_again = timed(clone, home)
        print(said_again)
        skipped = said_again.count("unchanged, skipped")
        from_wheel = wheel(clone, home, Path(scratch) / "elsewhere")
    print(f"first run {first / 60:.1f} min, second {again:.1f} s; disk {disk:.2f} GB, largest process {memory:.2f} GB")
    bar("first_run_minutes", round(first / 60, 2), "<= 15", first <= 900)
    bar("first_run_disk_gb", round(disk, 2), "<= 4", disk <= 4)
    bar("first_run_memory_gb", round(memory, 2), "<= 4", memory <= 4)
    bar("second_run_seconds", round(again, 2), "<= 10", again <= 10)
    bar("second_run_stages_skipped", skipped, ">= 9", skipped >= 9)
    same = figures(output) == figures(from_wheel)
    bar("wheel_prints_the_same_figures", same, "True", same)
    finish()


def wheel(clone: Path, home: Path, folder: Path) -> str:
    """Return what the recipe prints from an installed wheel, in an environment and a folder of its own."""
    folder.mkdir()
    python = folder / "venv/bin/python"
    pip = [python, "-m", "pip", "install", "--quiet", "--constraint", clone / "constraints.txt"]
    for command in (
        [clone / ".venv/bin/python", "-m", "pip", "install", "--quiet", "build"],
        [clone / ".venv/bin/python", "-m", "build", "--wheel", "--outdir", folder, clone],
        [clone / ".venv/bin/python", "-m", "venv", folder / "venv"],
        [*pip, "torch"],
    ):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    built = next(folder.glob("*.whl"))
    subprocess.run([*pip, f"{built}[all]"], check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run(
        [python, "-m", "hybrid.recipe", "sentiment"],
        cwd=folder,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout)
    return done.stdout


def figures(output: str) -> list[str]:
    """Return the lines with figures that do not depend on time or place."""
    return [
        line for line in output.splitlines() if line.startswith(("  wrong", "    ", "  calibration (", "  threshold"))
    ]


def environment(home: Path) -> dict[str, str]:
    """Return this process's environment with another home, and nothing of the user's own settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("XDG_", "HF_", "HYBRID_", "VIRTUAL_ENV", "PYTHONPATH"))
    }
    return kept | {"HOME": str(home)}


def timed(clone: Path, home: Path) -> tuple[float, str]:
    """Return seconds and output of `make sentiment`, run as a user with that home would."""
    start = time.perf_counter()
    done = subprocess.run(
        ["make", "--no-print-directory", "-f", str(clone / "Makefile"), "sentiment"],
        cwd=home,
        env=environment(home),
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
