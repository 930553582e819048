"""Train the recipe's encoder in a stage's own folder: for the stage train, the trial of drafts and the ablation."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.config import TrainConfig
from hybrid.stages.stage import StageIO

if TYPE_CHECKING:
    from hybrid.data.training_rows import TrainingRow
    from hybrid.encoders.training import Trained


def fit(io: StageIO, config: TrainConfig, rows: "Sequence[TrainingRow]", *, name: str = "") -> "Trained":
    """Train on `rows` below the folder of the stage, in the subfolder `name`.

    The working folder carries the key of the stage, so that a training with other settings never goes on from its
    checkpoints, and one that was killed does.
    """
    from hybrid.encoders.training import train

    folder = io.scratch() / name
    workdir = folder / f"work-{io.key[:12]}"
    remove_workdirs(folder, but=workdir)
    return train(
        rows,
        io.labels,
        config,
        encoder=io.encoder_folder(),
        reading=io.limits,
        workdir=workdir,
        seed=io.recipe.seed,
        on_step=io.advance,
        task=io.recipe.task,
    )


def remove_workdirs(folder: Path, *, but: Path | None = None) -> None:
    """Delete the working folders of earlier trainings."""
    for workdir in folder.glob("work-*"):
        if workdir != but:
            shutil.rmtree(workdir)
