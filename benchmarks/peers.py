"""The environments of the benchmarks' peers: what cannot stand beside us gets a virtual environment of its own."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
REQUIREMENTS = {
    "optimum": ("optimum-onnx", "optimum", "transformers", "torch", "onnx", "onnxruntime", "numpy"),
    "openvino": ("openvino==2026.4.1", "numpy"),
    "litserve": ("litserve==0.2.19", "onnxruntime==1.31.1", "tokenizers==0.23.3", "numpy==2.4.6"),
    "infinity": ("infinity-emb[server,torch,optimum]==0.0.78", "torch==2.13.0"),
}
"""A name without a version is the one of constraints-optimum.txt or, where it is not there, of constraints.txt."""
STAMP = "requirements.sha256"


def peer_python(name: str) -> Path | None:
    """Return the interpreter of a peer's environment; None, said on the screen, where it cannot be installed.

    The environment is made once, in the user's cache, and again when its requirements change.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hybrid-bench" / name
    wanted = pinned(REQUIREMENTS[name])
    stamp = hashlib.sha256("\n".join([sys.version, *wanted]).encode()).hexdigest()
    python = folder / "bin" / "python"
    if python.exists() and (folder / STAMP).is_file() and (folder / STAMP).read_text() == stamp:
        return python
    print(f"setting up {folder} for the peer {name} (once, a minute or two) ...", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    for command in ([sys.executable, "-m", "venv", str(folder)], [*pip, *wanted]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            output = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
            print(f"skipped: the peer {name} cannot be installed: {output[-1] if output else command}")
            return None
    (folder / STAMP).write_text(stamp)
    return python


def pinned(names: tuple[str, ...]) -> list[str]:
    """Return the requirements, each with its version."""
    pins: dict[str, str] = {}
    for file in ("constraints.txt", "constraints-optimum.txt"):
        pins |= dict(line.split("==") for line in (PROJECT / file).read_text().splitlines() if "==" in line)
    return [name if "==" in name else f"{name}=={pins[name]}" for name in names]
