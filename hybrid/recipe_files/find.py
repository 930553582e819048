"""Find a recipe by its path or, if it ships with the project, by its name."""

from pathlib import Path

from hybrid.errors import ConfigError

_PACKAGE = Path(__file__).parents[1]


def find_recipe(name_or_path: str) -> Path:
    """Find the recipe.toml of a .toml path, of a folder that holds one, or of a shipped recipe's name.

    Raises:
        ConfigError: there is none; the message lists the shipped recipes.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix == ".toml" and path.is_file():
        return path
    if (path / "recipe.toml").is_file():
        return path / "recipe.toml"
    shipped = shipped_recipes()
    if name_or_path in shipped:
        return shipped[name_or_path]
    raise ConfigError(
        f"{name_or_path}: no such recipe; expected a recipe.toml, a folder that holds one, or one of the "
        f"shipped recipes: {', '.join(sorted(shipped)) or 'none found'}"
    )


def shipped_recipes() -> dict[str, Path]:
    """The shipped recipes by name: inside the installed package, or beside it in a checkout."""
    # A pyproject.toml marks a checkout. In a folder of installed packages `recipes` would belong to another package.
    checkout = _PACKAGE.parent if (_PACKAGE.parent / "pyproject.toml").is_file() else _PACKAGE
    return {
        path.parent.name: path for root in (_PACKAGE, checkout) for path in sorted(root.glob("recipes/*/recipe.toml"))
    }
