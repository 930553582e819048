"""What the benchmarks of the service serve: a finished run's bundle, the same in fp32, and the texts."""

import hashlib
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from runtime import N_TEXTS, corpus

from hybrid.runtime.bundle import seal_of


@dataclass(frozen=True)
class Kit:
    """All that is served and sent."""

    int8: Path
    """The bundle as the run ships it."""
    fp32: Path
    """The same with the graph as it was exported; peers get this graph."""
    checkpoint: Path
    """For peers that run torch."""
    texts: list[str]
    """Of mixed lengths."""


def sentiment_run(run: Path | None, folder: Path) -> Path:
    """A finished run of the sentiment recipe: the one that is named, else one that is made now below `folder`."""
    if run is not None:
        return run
    from hybrid.recipe import main as recipe

    if status := recipe(["sentiment", "--runs", str(folder / "runs")]):
        sys.exit(status)
    return folder / "runs" / "sentiment" / "embedded"


def make_kit(run: Path | None, folder: Path) -> Kit:
    """Return what to serve, of a finished run of the sentiment recipe; without one the recipe runs first."""
    run = sentiment_run(run, folder)
    shipped = run / "bundle"
    precision = json.loads((shipped / "bundle.json").read_text())["precision"]
    # A busy machine makes every figure of time worthless; this tells.
    print(f"{run.name}: ships {precision}; load of the machine before: {os.getloadavg()[0]:.1f}", flush=True)
    return Kit(shipped, _fp32(run, folder / "fp32"), run / "train" / "checkpoint", corpus(shipped, N_TEXTS))


def _fp32(run: Path, folder: Path) -> Path:
    """Copy the bundle with the exported graph in it. The calibration is the other graph's, which costs the same."""
    shutil.copytree(run / "bundle", folder)
    shutil.copy2(run / "export" / "model.onnx", folder / "model.onnx")
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["files"]["model.onnx"] = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    manifest |= {"precision": "fp32", "golden": []}
    manifest["seal"] = seal_of(json.dumps(manifest).encode())
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder
