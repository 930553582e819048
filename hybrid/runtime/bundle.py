"""A bundle on disk: what it holds, and the proof that nobody changed it."""

import hashlib
from pathlib import Path

import msgspec

from hybrid.errors import BundleError
from hybrid.runtime.calibration import Calibration, Threshold

FORMAT = 1
MANIFEST = "bundle.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """`bundle.json`: all that serving needs to know beside the graph and the tokenizer."""

    format: int = FORMAT
    name: str
    recipe_hash: str
    """SHA-256 of the recipe that made it."""
    labels: tuple[str, ...]
    """In the order of the logits."""
    max_length: int
    """Tokens that the encoder reads; the tokenizer cuts the rest."""
    encoder: str
    precision: str = "fp32"
    calibration: Calibration
    threshold: Threshold
    policy: str = ""
    """The labelling policy that a decoder is given."""
    files: dict[str, str]
    """SHA-256 by file name."""
    versions: dict[str, str]


def read_bundle(folder: Path) -> Bundle:
    """Return the manifest of a bundle whose files are all there and unchanged.

    Raises:
        BundleError: no bundle, another format, or a file that is missing or changed.
    """
    path = folder / MANIFEST
    try:
        bundle = msgspec.json.decode(path.read_bytes(), type=Bundle)
    except OSError as error:
        raise BundleError(
            f"{folder}: not a bundle ({MANIFEST}: {error.strerror}); want a folder that `python -m hybrid.recipe` made, "
            "such as runs/sentiment/embedded/bundle"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: changed or cut off ({error}); copy the bundle again or rerun the recipe") from error
    if bundle.format != FORMAT:
        raise BundleError(f"{path}: format {bundle.format}; this version reads format {FORMAT}: rerun the recipe")
    for name, wanted in bundle.files.items():
        _check_file(folder / name, wanted)
    return bundle


def _check_file(path: Path, wanted: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path}: missing from the bundle ({error.strerror}); copy the bundle again") from error
    if found != wanted:
        raise BundleError(
            f"{path}: changed since the bundle was made (SHA-256 {found[:12]}…, want {wanted[:12]}…); "
            "copy the bundle again or rerun the recipe"
        )
