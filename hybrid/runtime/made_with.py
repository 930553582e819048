"""The versions of the packages that a bundle was made with, and which of them are others here."""

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import hybrid

RECORDED = ("torch", "transformers", "cleanlab", "scikit-learn", "onnx", "onnxruntime", "tokenizers", "numpy")
"""The packages whose versions a bundle records, beside ours and Python's."""
COMPUTES = ("hybrid-cascade", "onnxruntime", "tokenizers", "numpy")
"""Those that compute the answers of a bundle wherever it is loaded."""


def versions() -> dict[str, str]:
    """Read the versions of the packages that a figure depends on; those that are not installed are left out."""
    recorded = {"hybrid-cascade": hybrid.__version__, "python": platform.python_version()}
    for name in RECORDED:
        try:
            recorded[name] = version(name)
        except PackageNotFoundError:
            continue
    return recorded


def other_versions(made_with: Mapping[str, str]) -> str:
    """Name the packages that compute the answers and have another version here; empty where there are none."""
    here = versions()
    return ", ".join(
        f"{name} {made_with[name]} (here {here[name]})"
        for name in COMPUTES
        if name in made_with and name in here and made_with[name] != here[name]
    )
