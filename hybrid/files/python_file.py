"""A Python file beside a recipe, of which one function is used."""

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hybrid.errors import ConfigError


def function_in(path: Path, name: str, arguments: str, *, setting: str) -> Callable[..., Any]:
    """Return the function `name` of a Python file.

    Args:
        arguments: what it is called with, such as "(fetch, seed)", for messages.
        setting: the setting that names the file, such as "data.prepare = 'prepare.py'", for messages.

    Raises:
        ConfigError: there is no such file, it is not Python, or it has no such function.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file ({setting}); correct the path, which starts at the recipe")
    # Run from its text and not imported: an import would leave bytecode in the recipe's folder.
    module = types.ModuleType(f"hybrid_{path.stem}")
    module.__file__ = str(path)
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
        function: Callable[..., Any] = getattr(module, name)
    except (SyntaxError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ConfigError(f"{path}: no usable {name}{arguments} in it ({reason}); define one") from error
    return function
