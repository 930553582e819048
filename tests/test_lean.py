"""What a service embeds imports nothing heavy, and imports fast."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ALLOWED = {"numpy", "onnxruntime", "tokenizers", "msgspec", "hybrid", "typing_extensions"}  # the last is msgspec's
HEAVY = (
    "torch",
    "transformers",
    "sklearn",
    "cleanlab",
    "datasets",
    "scipy",
    "pandas",
    "matplotlib",
    "typer",
    "rich",
    "anthropic",
    "xllamacpp",
)


def in_fresh_interpreter(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_load_and_classify_work_with_every_heavy_package_blocked(finished: Path) -> None:
    said = in_fresh_interpreter(
        f"""
import sys
for name in {HEAVY!r}:
    sys.modules[name] = None
import hybrid
print(hybrid.load({str(finished / "bundle")!r}).classify(["superb soup"])[0].label)
"""
    )
    assert said.strip() in ("bad", "good", "plain")


def test_the_runtime_imports_its_four_packages_and_no_other() -> None:
    said = in_fresh_interpreter(
        """
import json, sys, sysconfig
from importlib.metadata import packages_distributions
before = set(sys.modules)
from hybrid.runtime import load
top = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps(sorted(top & set(packages_distributions()))))
"""
    )
    assert set(json.loads(said)) <= ALLOWED


def test_onnxruntime_is_told_not_to_report_home_unless_somebody_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = "import os, hybrid.runtime; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    assert in_fresh_interpreter(said).strip() == "1"
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    assert in_fresh_interpreter(said).strip() == "0"


@pytest.mark.parametrize("module", ["hybrid", "hybrid.llm", "hybrid.config", "hybrid.runtime.decoder"])
def test_light_modules_stay_light(module: str) -> None:
    heavy = in_fresh_interpreter(f"import sys, {module}; print([n for n in {HEAVY!r} if n in sys.modules])")
    assert heavy.strip() == "[]"
