"""What the commands that try out a teacher, `policy` and `pilot`, are given of a recipe and its run."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from hybrid.config import LLMConfig, Recipe
from hybrid.llm import LLM
from hybrid.types import Example, Trusted


class TeacherInputs(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe, its training rows, and how its teacher is opened."""

    recipe: Recipe
    recipe_dir: Path
    run_dir: Path
    """The folder of the run."""
    shared_dir: Path
    """The folder of what all runs of the recipe share, the trace store among it."""
    labels: tuple[str, ...]
    """In the order of the logits."""
    rows: list[Example]
    """The training rows."""
    trusted: list[Trusted]
    """Those whose labels the user vouches for."""
    open_teacher: Callable[[LLMConfig], LLM | None]
    """Opens the model that a section names, its answers kept in the trace store; None where it names none."""
