"""The inputs of `hybrid policy` and `hybrid pilot`, the commands that try out a teacher."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from hybrid.config import LLMConfig, Recipe
from hybrid.llm import LLM
from hybrid.types import Example, Trusted


class TeacherInputs(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe, its training rows, and a function that opens its teacher."""

    recipe: Recipe
    recipe_dir: Path
    run_dir: Path
    """The folder of the run."""
    shared_dir: Path
    """The folder that all runs of the recipe share; it holds the trace store."""
    labels: tuple[str, ...]
    """In the order of the logits."""
    rows: list[Example]
    """The training rows."""
    trusted: list[Trusted]
    """The training rows whose labels the user vouches for."""
    open_teacher: Callable[[LLMConfig], LLM | None]
    """Opens the model that a section names and caches its answers in the trace store; None if it names no model."""
