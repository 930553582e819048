"""The public API: light to import, typed for a user's mypy, documented, and its former names still work."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import hybrid
import hybrid.runtime.cascade
import hybrid.runtime.decoder
from hybrid.runtime.explain import Word

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden" / "bundle-format-2"
SCRIPT = """
from collections.abc import Sequence

import hybrid
from hybrid import BundleError, Classifier, Decoder, Prediction, Vote


class Always:
    def decide(self, texts: Sequence[str]) -> list[Vote]:
        return [Vote(id=str(i), status="ok", label="good", teacher="always") for i in range(len(texts))]


def labels_of(classifier: Classifier, texts: list[str]) -> list[str]:
    predictions: list[Prediction] = classifier.classify(texts)
    return [prediction.label for prediction in predictions]


decoder: Decoder = Always()
try:
    labels = labels_of(hybrid.load("bundle", decoder=decoder, spin_wait=True), ["soup"])
except BundleError as error:
    labels = [str(error)]
"""
MISTAKES = """
hybrid.load("bundle", decoder=3)
number: int = labels[0]
print(hybrid.lod)
"""


def test_every_public_name_is_there_and_no_other_is_promised() -> None:
    assert hybrid.__all__ == sorted(hybrid.__all__, key=str)
    for name in hybrid.__all__:
        assert getattr(hybrid, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'hybrid' has no attribute 'lod'"):
        hybrid.lod  # noqa: B018


def test_the_page_of_the_api_has_every_public_name() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    for name in hybrid.__all__:
        assert re.search(rf"(`(hybrid\.)?|^::: hybrid\.){name}\b", page, re.MULTILINE), name


def test_importing_the_package_imports_nothing_that_takes_time() -> None:
    code = (
        "import sys, hybrid; print([n for n in ('numpy', 'msgspec', 'onnxruntime', 'tokenizers') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", ["hybrid", "serving"])
def test_the_package_tells_type_checkers_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


@pytest.mark.slow
def test_mypy_sees_the_types_in_a_users_script(tmp_path: Path) -> None:
    for name, text in (("right", SCRIPT), ("wrong", SCRIPT + MISTAKES)):
        (tmp_path / f"{name}.py").write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "right.py", "wrong.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    errors = [line for line in done.stdout.splitlines() if "error:" in line]
    assert len(errors) == 3, done.stdout
    assert 'wrong.py:24: error: Argument "decoder" to "load" has incompatible type "int"' in errors[0]
    assert 'has type "str", variable has type "int"' in errors[1]
    assert 'Module has no attribute "lod"' in errors[2]


def test_the_former_names_still_work_and_name_the_new_ones() -> None:
    with pytest.warns(DeprecationWarning, match="`dedicated` is now `spin_wait`"):
        hybrid.load(GOLDEN, dedicated=True)
    with pytest.warns(DeprecationWarning, match="is now LLMDecoder"):
        assert hybrid.runtime.decoder.Decoder is hybrid.LLMDecoder
    with pytest.warns(DeprecationWarning, match=r"Decides is now hybrid\.Decoder"):
        assert hybrid.runtime.cascade.Decides is hybrid.Decoder
    word = Word(text="soup", start=0, end=4, drop=0.25)
    with pytest.warns(DeprecationWarning, match=r"Word\.fall is now Word\.drop"):
        assert word.fall == 0.25
