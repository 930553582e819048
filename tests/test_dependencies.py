"""Every third-party package that is imported is declared, in an extra that the importing part of the code belongs to."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"hybrid", "serving", "tests", "benchmarks", *(path.stem for path in (ROOT / "benchmarks").glob("*.py"))}
NOT_INSTALLED_HERE = {"optimum": "optimum-onnx"}
"""The distribution of a module that this environment cannot have."""
EXTRAS: dict[str, tuple[str, ...]] = {
    "hybrid": ("train", "llm", "local", "student", "optimum"),
    "hybrid/__main__.py": (),
    "hybrid/commands/completion.py": ("completion",),
    "hybrid/runtime": (),
    "hybrid/runtime/engines/openvino_engine.py": ("openvino",),
    "hybrid/scoring": (),
    "hybrid/cluster": (),
    "hybrid/cluster/ray_cluster.py": ("ray",),
    "hybrid/files": (),
    "hybrid/files/formats/parquet.py": ("recipe",),
    "hybrid/files/places.py": ("cloud",),
    "hybrid/files/formats/xlsx.py": ("xlsx",),
    "hybrid/client": ("client",),
    "hybrid/llm": ("llm", "local"),
    "hybrid/review": ("train", "serve"),
    "serving": ("serve", "postgresql", "telemetry", "llm", "local"),
    "tests": ("dev", "optimum"),
}
"""The extras that a part of the code may use beside the dependencies of the runtime; the longest path counts."""


@cache
def declared(extra: str) -> frozenset[str]:
    """Return the distributions of an extra, those of the extras in it included; "" is the runtime's dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names: set[str] = set()
    for requirement in project["optional-dependencies"][extra] if extra else project["dependencies"]:
        name, extras = re.fullmatch(r"([\w.-]+)(?:\[([\w,-]+)\])?.*", requirement).groups()  # type: ignore[union-attr]
        if name == project["name"]:
            names |= {other for inner in extras.split(",") for other in declared(inner)}
        else:
            names.add(normal(name))
    return frozenset(names)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imports(path: Path) -> Iterator[str]:
    """Yield the top-level names that a file imports, at its head or in a function."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]


def undeclared(folder: str) -> dict[str, set[str]]:
    """Return the files by the module that they import without its distribution in an extra of theirs."""
    distributions = packages_distributions()
    missing: dict[str, set[str]] = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        part = max((part for part in EXTRAS if place == part or place.startswith(part + "/")), key=len)
        known = declared("").union(*(declared(extra) for extra in EXTRAS[part]))
        for module in set(imports(path)) - OURS - sys.stdlib_module_names:
            names = [NOT_INSTALLED_HERE.get(module, module), *distributions.get(module, ())]
            if known.isdisjoint(map(normal, names)):
                missing.setdefault(module, set()).add(place)
    return missing


@pytest.mark.parametrize("folder", ["hybrid", "serving", "tests"])
def test_every_import_is_declared(folder: str) -> None:
    assert undeclared(folder) == {}


def test_an_import_that_is_not_declared_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRAS, "hybrid/llm", ())
    assert "hybrid/llm/client/messages.py" in undeclared("hybrid")["anthropic"]
