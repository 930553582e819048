"""Texts whose probabilities the bundle knows: the proof that this machine computes what was measured."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from hybrid.errors import BundleError

N_TEXTS = 5
MOST_CHARACTERS = 2000
"""A longer text would make every load slow."""
TOLERANCE = {"fp32": 1e-3}
TOLERANCE_BELOW_FP32 = 2e-2
"""Of a probability. Processors round int8 differently; one without VNNI may saturate, and is far beyond this."""


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """A text and the calibrated probabilities that the bundle gave it when it was made."""

    text: str
    probs: tuple[float, ...]
    """In the order of the labels."""


def golden_texts(texts: Sequence[str], n: int = N_TEXTS) -> list[str]:
    """Return at most `n` of the texts, from short to long; the very longest are passed over."""
    by_length = sorted({text for text in texts if len(text) <= MOST_CHARACTERS}, key=lambda text: (len(text), text))
    if len(by_length) <= n:
        return by_length
    return [by_length[i] for i in np.linspace(0, len(by_length) - 1, n).round().astype(int)]


def check_golden(golden: Sequence[Golden], probs: np.ndarray, *, precision: str, folder: Path) -> None:
    """Compare the probabilities [n, k] that the texts have here with those that the bundle knows.

    Raises:
        BundleError: one is further off than rounding on another processor explains.
    """
    tolerance = TOLERANCE.get(precision, TOLERANCE_BELOW_FP32)
    for one, found in zip(golden, probs, strict=True):
        worst = float(np.abs(found - np.asarray(one.probs)).max()) if len(found) == len(one.probs) else float("inf")
        if not worst <= tolerance:
            raise BundleError(
                f"{folder}: the golden text {one.text!r:.40} has a probability that is {worst:.2g} off, want at most "
                f"{tolerance:g}: this processor or onnxruntime computes the {precision} graph otherwise than where it "
                "was made; make the bundle here, or ship it in fp32"
            )
