"""How soon a service answers: the import of the runtime, and `load` with the first answer.

`python benchmarks/runtime_start.py [BUNDLE]`, by default the sentiment run's. Each figure is the median of
fresh interpreters.
"""

import statistics
import subprocess
import sys
from pathlib import Path

from targets import bar, finish

TIMES = 7
IMPORT = "import time; t = time.perf_counter(); import hybrid.runtime; print(time.perf_counter() - t)"
FIRST = (
    "import time; import hybrid.runtime; t = time.perf_counter(); "
    "hybrid.load({bundle!r}).classify(['What a day']); print(time.perf_counter() - t)"
)


def main() -> None:
    bundle = Path(sys.argv[1] if sys.argv[1:] else "runs/sentiment/embedded/bundle")
    seconds(IMPORT)  # the first import of a day reads the disk
    imports = [seconds(IMPORT) for _ in range(TIMES)]
    show("import hybrid.runtime", imports)
    bar("runtime_import_s", round(statistics.median(imports), 3), "<= 0.4", statistics.median(imports) <= 0.4)
    if bundle.is_dir():
        first = [seconds(FIRST.format(bundle=str(bundle))) for _ in range(TIMES)]
        show("load and first answer", first)
        bar("load_and_first_answer_s", round(statistics.median(first), 3), "<= 1.5", statistics.median(first) <= 1.5)
    else:
        print(f"skipped: no bundle at {bundle}; run `make sentiment` first or name one")
    finish()


def seconds(code: str) -> float:
    """Return what the code prints, from a fresh interpreter."""
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def show(name: str, values: list[float]) -> None:
    print(
        f"{name:<24} median {statistics.median(values):.3f} s, {min(values):.3f} to {max(values):.3f}, n = {len(values)}"
    )


if __name__ == "__main__":
    main()
