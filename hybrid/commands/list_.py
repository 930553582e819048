"""`hybrid list`: the recipes, profiles, runs and bundles that can be found here."""

import argparse
import json
import tomllib
from pathlib import Path
from typing import Any

from hybrid.commands.arguments import add_json, add_runs
from hybrid.recipe_files.find import shipped_recipes

DEPTH = 3
"""How deep below the working directory and the folder of runs a bundle is looked for."""
MANIFEST = "bundle.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hybrid list`."""
    add_runs(parser)
    parser.add_argument(
        "--recipes", type=Path, default=Path("recipes"), help="the folder of your own recipes (%(default)s)"
    )
    add_json(parser)
    parser.set_defaults(act=_list)


def _list(options: argparse.Namespace) -> object:
    from hybrid.runtime.bundle import DEMO, DEMO_BUNDLE

    own = {str(path.parent): path for path in sorted(options.recipes.glob("*/recipe.toml"))}
    recipes = [_recipe(name, path) for name, path in (shipped_recipes() | own).items()]
    runs = [_run(path.parent) for path in sorted(options.runs.glob("*/*/recipe.json"))]
    shipped = [_bundle(DEMO_BUNDLE / MANIFEST) | {"bundle": DEMO}] if DEMO_BUNDLE.is_dir() else []
    bundles = [*shipped, *(_bundle(path) for path in _manifests([options.runs, Path()]))]
    lines = [
        "recipes:",
        *(f"  {each['name']}{_profiles(each)}" for each in recipes),
        *([f"runs in {options.runs}:"] if runs else [f"no runs in {options.runs}"]),
        *(f"  {each['run']}  {_state(each)}" for each in runs),
        *(["bundles:"] if bundles else ["no bundles here"]),
        *(f"  {each['bundle']}  {', '.join(each['labels'])}; {each['precision']}" for each in bundles),
    ]
    print("\n".join(lines))
    return {"recipes": recipes, "runs": runs, "bundles": bundles}


def _recipe(name: str, path: Path) -> dict[str, Any]:
    """A recipe with its profiles; one that is not TOML is listed all the same, and `hybrid run` says what is wrong."""
    try:
        profiles = list(tomllib.loads(path.read_text(encoding="utf-8")).get("profiles", {}))
    except (OSError, ValueError):
        profiles = []
    return {"name": name, "path": str(path), "profiles": profiles}


def _profiles(recipe: dict[str, Any]) -> str:
    return f"  profiles: {', '.join(recipe['profiles'])}" if recipe["profiles"] else ""


def _run(folder: Path) -> dict[str, Any]:
    summary = _read_json(folder / "summary.json")
    served = summary.get("test", {}).get(summary.get("served"), {})
    return {"run": str(folder), "finished": bool(summary), "accuracy": served.get("accuracy")}


def _state(run: dict[str, Any]) -> str:
    if not run["finished"]:
        return "not finished"
    return f"accuracy {run['accuracy']:.3f} on its test rows" if run["accuracy"] is not None else "finished"


def _manifests(roots: list[Path]) -> list[Path]:
    """The manifests of bundles below some folders, each once, a portable bundle's second graph left out."""
    patterns = ["/".join(["*"] * depth + [MANIFEST]) for depth in range(1, DEPTH + 1)]
    places = {path.resolve(): path for root in roots for pattern in patterns for path in root.glob(pattern)}
    return sorted(path for path in places.values() if not (path.parents[1] / MANIFEST).is_file())


def _bundle(path: Path) -> dict[str, Any]:
    manifest = _read_json(path)
    return {
        "bundle": str(path.parent),
        "name": manifest.get("name"),
        "labels": manifest.get("labels", []),
        "precision": manifest.get("precision"),
    }


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none that can be read."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
