"""An encoder that a recipe makes itself: `encoder.model` names a Python file with `build(fetch, folder)`."""

import shutil
import tempfile
from pathlib import Path

from hybrid.errors import ConfigError
from hybrid.files.python_file import function_in
from hybrid.types import Fetch

PYTHON_FILE = ".py"
CONFIG = "config.json"


def built_encoder(script: Path, name: str, target: Path, fetch: Fetch) -> Path:
    """Return the folder `target` with the encoder that the script builds, built where it is not there yet.

    Args:
        script: the Python file; its `build(fetch, folder)` writes config.json, weights and tokenizer into a folder.
        name: what the recipe calls the file, for messages.
        target: the folder, with a name that changes with the script.
        fetch: passed to `build`; returns the folder of a pinned artefact by its name.

    Raises:
        ConfigError: the file is not there or has no `build`, or that wrote no encoder.
    """
    if (target / CONFIG).is_file():
        return target
    build = function_in(script, "build", "(fetch, folder)", setting=f"encoder.model = {name!r}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".encoder-") as scratch:
        folder = Path(scratch) / "encoder"
        folder.mkdir()
        build(fetch, folder)
        if not (folder / CONFIG).is_file():
            raise ConfigError(
                f"{script}: build(fetch, folder) wrote no {CONFIG}; expected an encoder's folder as transformers saves it"
            )
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)
    return target
