"""The key of a stage's stamp: a hash of all that the stage declares to read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from hybrid.files.hashing import sha256_of, sha256_of_file
from hybrid.hub import is_hub
from hybrid.pins import ARTIFACTS
from hybrid.pipeline.context import RunContext
from hybrid.prompts import prompt_text
from hybrid.stages.stage import Reads, Stage, setting_value


def stamp_key(stage: Stage, context: RunContext, reads: Reads) -> str:
    """The SHA-256 of the stage's version and of everything that it reads."""
    return sha256_of([stage.name, stage.version, what_is_read(context, reads)])


def what_is_read(context: RunContext, reads: Reads) -> Mapping[str, Any]:
    """The values and content hashes behind a declaration; a file that is not there has none."""
    recipe, run = context.recipe, context.run
    return {
        "settings": {name: msgspec.to_builtins(setting_value(recipe, name)) for name in reads.all_settings()},
        "tables": {table.path: _digest(run.path(table.path)) for table in reads.tables},
        "files": {path: _digest(run.path(path)) for path in reads.files},
        "reports": {name: run.report(name.partition(".")[0]).get(name.partition(".")[2]) for name in reads.reports},
        "recipe_files": {name: _recipe_files(context, name) for name in reads.all_recipe_files()},
        "shared_files": {name: _digest(context.shared_file(name)) for name in reads.shared_files},
        "prompts": {name: prompt_text(name) for name in reads.prompts},
        "encoder": context.encoder_identity() if reads.encoder else None,
        "models": {role: context.llm_identity(role) for role in reads.llms},
        "artefacts": {name: pin.sha256 for name, pin in ARTIFACTS.items()} if reads.artefacts else {},
    }


def _recipe_files(context: RunContext, setting: str) -> list[str | None]:
    return [
        context.pinned(name) if is_hub(name) else _digest(context.recipe_dir / name)
        for name in context.file_names(setting)
    ]


def _digest(path: Path) -> str | None:
    try:
        return sha256_of_file(path)
    except OSError:
        return None
