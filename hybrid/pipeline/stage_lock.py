"""The lock of the stages' code: which version of each stage stands for which code.

A stage's stamp holds its version, not its code, so that a comment retrains nobody's model. The lock holds a hash of the
code that each version stands for, and a test compares: code that changed under an unchanged version would keep results
of the old code in every run that exists.

    python -m hybrid.pipeline.stage_lock            # check
    python -m hybrid.pipeline.stage_lock --write    # after raising the versions of the stages whose results change
    python -m hybrid.pipeline.stage_lock --write --same train,export   # their results are the same: a rename, say
"""

import argparse
import ast
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from hybrid.files.hashing import sha256_of
from hybrid.files.table import write_json
from hybrid.pipeline.stages import STAGES
from hybrid.stages.stage import Stage

LOCK = Path(__file__).with_name("stages.lock.json")
ROOT = Path(__file__).parents[2]
NEUTRAL = (
    "hybrid.artifacts",
    "hybrid.config",
    "hybrid.errors",
    "hybrid.files",
    "hybrid.hub",
    "hybrid.package_index",
    "hybrid.pins",
    "hybrid.progress",
    "hybrid.q4_encoder",
    "hybrid.prompts",
    "hybrid.retry_after",
    "hybrid.stages.stage",
    "hybrid.machine",
    "hybrid.network_settings",
    "hybrid.toml_settings",
    "hybrid.types",
    "hybrid.urls",
    "hybrid.whole_call",
)
"""Modules that change no result: what they hold is in the stamps by value, or is only carried or said."""


class Locked(msgspec.Struct, frozen=True):
    """A version of a stage and the code that it stands for."""

    version: int
    code: str
    """SHA-256 of the syntax trees of its modules, without comments and docstrings."""


def locked() -> dict[str, Locked]:
    """The lock as it is checked in."""
    return msgspec.json.decode(LOCK.read_bytes(), type=dict[str, Locked])


def present(stage: Stage) -> Locked:
    """The stage's version and the hash of its code as they are now."""
    modules = code_of(stage)
    return Locked(stage.version, sha256_of({name: syntax_of(_file(name)) for name in modules}))


def code_of(stage: Stage) -> list[str]:
    """The modules of ours that the stage's own module imports, at any depth, itself among them."""
    seen: set[str] = set()
    waiting = [f"hybrid.stages.{stage.name}"]
    while waiting:
        module = waiting.pop()
        if module not in seen and not _is_below(module, NEUTRAL):
            seen.add(module)
            waiting += _imports(_file(module))
    return sorted(seen)


def undeclared(stage: Stage) -> list[str]:
    """The modules that the stage's result may depend on and that it does not declare."""
    declared = (f"hybrid.stages.{stage.name}", *stage.code)
    return [module for module in code_of(stage) if not _is_below(module, declared)]


def syntax_of(path: Path) -> str:
    """The syntax tree of a file as text, without comments and docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_docstring(part)] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.dump(tree)


def problems(stages: Iterable[Stage] = STAGES) -> list[str]:
    """A sentence for each stage whose code changed and whose version did not, or which the lock does not know."""
    lock, sentences = locked(), []
    for stage in stages:
        now, before = present(stage), lock.get(stage.name)
        if before is None:
            sentences.append(f"{stage.name}: not in the lock; run make stage-lock")
        elif now.code != before.code and now.version == before.version:
            sentences.append(
                f"{stage.name}: its code changed and its version is {now.version} still; raise the version in "
                f"hybrid/stages/{stage.name}.py where results change, then run make stage-lock; where they do not, run "
                f"make stage-lock SAME={stage.name}"
            )
        elif now != before:
            sentences.append(f"{stage.name}: version {now.version} is not in the lock yet; run make stage-lock")
    return sentences


def write_lock(same: Sequence[str]) -> list[str]:
    """Write the lock anew, unless a stage's code changed under its old version and is not named in `same`."""
    lock = locked() if LOCK.is_file() else {}
    changed = [
        stage.name
        for stage in STAGES
        if stage.name not in same
        and (before := lock.get(stage.name))
        and before.version == stage.version
        and before.code != present(stage).code
    ]
    if not changed:
        write_json(LOCK, {stage.name: present(stage) for stage in STAGES})
    return changed


def main(argv: Sequence[str] | None = None) -> int:
    """Check or write the lock; the exit status is 1 where a stage's version has to be raised first."""
    parser = argparse.ArgumentParser(prog="python -m hybrid.pipeline.stage_lock", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the lock for the versions as they are now")
    parser.add_argument("--same", default="", help="stages whose code changed and whose results are the same")
    arguments = parser.parse_args(argv)
    if arguments.write and (changed := write_lock([name for name in arguments.same.split(",") if name])):
        sys.stderr.write(f"error: changed under an unchanged version: {', '.join(changed)}; raise it, or name them\n")
        return 1
    sentences = problems()
    sys.stderr.writelines(f"error: {line}\n" for line in sentences)
    return 1 if sentences else 0


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_below(module: str, names: Iterable[str]) -> bool:
    return module == "hybrid" or any(module == name or module.startswith(name + ".") for name in names)


def _file(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _imports(path: Path) -> list[str]:
    """The modules of ours that a file imports, inside functions too."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "hybrid":
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [name for name in inner if _is_module(name)] or [node.module]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names if alias.name.split(".")[0] == "hybrid"]
    return names


def _is_module(name: str) -> bool:
    return _file(name).is_file()


if __name__ == "__main__":
    sys.exit(main())
