"""A bundle under every Python from 3.11 on that this machine has: the runtime's pinned packages, and the same answers.

`python benchmarks/pythons.py`. For each interpreter (`python3.12` and so on, on the path or installed by pyenv) an
environment is made once in the user's cache, with the runtime's packages in the versions of the constraints as wheels. A
Python for which there is no wheel is said.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from peers import PROJECT, pinned
from targets import bar, finish

BUNDLE = PROJECT / "tests" / "golden" / "bundle-format-3"
PACKAGES = ("filelock", "msgspec", "numpy", "onnxruntime", "packaging", "tokenizers")
MINORS = range(11, 16)
ANSWER = (
    "import json, sys, hybrid; print(json.dumps(hybrid.load(sys.argv[1]).probs(['The soup was wonderful.']).tolist()))"
)
FAR = 1e-4


def main() -> None:
    interpreters = {f"3.{minor}": path for minor in MINORS if (path := interpreter(minor)) is not None}
    answers = {version: answered(version, path) for version, path in interpreters.items()}
    here = json.loads(run(Path(sys.executable)).stdout)
    for version, answer in answers.items():
        near = answer is not None and abs(answer[0][0] - here[0][0]) < FAR
        bar(f"python_{version}", "answers" if near else "does not", "answers as this Python does", near)
    missing = [f"3.{minor}" for minor in MINORS if f"3.{minor}" not in interpreters]
    print(f"not on this machine: {', '.join(missing) or 'none'}")
    finish()


def interpreter(minor: int) -> Path | None:
    """The newest interpreter of that minor version."""
    name = f"python3.{minor}"
    installed = sorted((Path.home() / ".pyenv" / "versions").glob(f"3.{minor}.*/bin/{name}"))
    path = str(installed[-1]) if installed else shutil.which(name)
    return Path(path) if path else None


def answered(version: str, python: Path) -> list[list[float]] | None:
    """What the bundle answers under that Python; None where it cannot be set up or fails, which is said."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hybrid-bench" / f"python-{version}"
    inside = folder / "bin" / "python"
    if not inside.is_file():
        subprocess.run([str(python), "-m", "venv", str(folder)], check=True)
    install = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--only-binary", ":all:"]
    done = subprocess.run([str(inside), *install, *pinned(PACKAGES)], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        done = run(inside)
    if done.returncode:
        print(f"{version}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
        return None
    answer: list[list[float]] = json.loads(done.stdout)
    return answer


def run(python: Path) -> subprocess.CompletedProcess[str]:
    """Answer one text with the bundle."""
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    command = [str(python), "-c", ANSWER, str(BUNDLE)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


if __name__ == "__main__":
    main()
