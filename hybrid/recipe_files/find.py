"""Find a recipe by its path or, if it ships with the project, by its name."""

from pathlib import Path

from hybrid.errors import ConfigError

_PACKAGE = Path(__file__).parents[1]


def find_recipe(name_or_path: str) -> Path:
    """Return the recipe.toml that is meant: a .toml file, a folder that holds one, or a shipped recipe's name.

    Raises:
        ConfigError: there is none; the message lists the shipped ones.
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
        f"{name_or_path}: no such recipe; name a recipe.toml, a folder that holds one, or a recipe that comes with "
        f"this project: {', '.join(sorted(shipped)) or 'none found'}"
    )


def shipped_recipes() -> dict[str, Path]:
    """Return the recipe.toml by name: inside an installed package, or beside it in a checkout."""
    # The pyproject.toml tells a checkout from a folder of installed packages, where `recipes` would be another's.
    checkout = _PACKAGE.parent if (_PACKAGE.parent / "pyproject.toml").is_file() else _PACKAGE
    return {
        path.parent.name: path for root in (_PACKAGE, checkout) for path in sorted(root.glob("recipes/*/recipe.toml"))
    }
