"""A bundle on disk: its manifest, read only where every file is there and unchanged."""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from hybrid.errors import BundleError
from hybrid.files.hashing import sha256_of
from hybrid.runtime.calibration import Calibration, Threshold
from hybrid.runtime.calibration_reference import Reference
from hybrid.runtime.combination import Reliability
from hybrid.runtime.engines import DEFAULT_ENGINE, engine_of
from hybrid.runtime.integrity import Golden, check_file, external_files, open_regular
from hybrid.runtime.text_encoder import TextLimits
from hybrid.types import FP32, Precision, Task

FORMAT = 3
READABLE_FORMATS = (2, 3)
FIRST_SEALED = 3
"""The first format whose manifest has a seal."""
MANIFEST = "bundle.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
DEMO = "demo"
"""The name of the bundle that ships with the package."""
DEMO_BUNDLE = Path(__file__).parents[1] / "demo_bundle"
FALLBACK = "fp32"
"""The folder, in a portable bundle, of the same model in fp32: a bundle with its own calibration and golden texts."""
MAX_MANIFEST_BYTES = 256 << 20
"""The largest manifest that is read: what is larger is not one."""


class _Format(msgspec.Struct, frozen=True):
    """What the manifest has in every format."""

    format: int


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest, `bundle.json`: all that serving needs beside the graph and the tokenizer."""

    format: int = FORMAT
    name: str
    recipe_hash: str
    """SHA-256 of the recipe that made it."""
    labels: tuple[str, ...]
    """In the order of the logits."""
    task: Task = "single_label"
    """Whether a text has one of the labels or any number of them."""
    reading: TextLimits
    """How many tokens the encoder reads, and what becomes of a longer text."""
    encoder: str
    vocabulary: int
    """Rows of the encoder's embedding: the tokens that it has a vector for."""
    precision: Precision = "fp32"
    calibration: Calibration
    threshold: Threshold
    reference: Reference | None = None
    """The calibration rows as this bundle answers them; absent in bundles of earlier versions."""
    policy: str = ""
    """The labelling policy that a decoder is given."""
    decoder: Reliability | None = None
    """How far the recipe's decoder can be believed beside the encoder; None where it was not measured."""
    evidence: bool | UnsetType = UNSET
    """Whether the graph has an evidence head; unset where it has none, as in bundles of earlier versions."""
    golden: tuple[Golden, ...]
    """Training texts with the probabilities that they must get wherever the bundle is loaded."""
    files: dict[str, str]
    """SHA-256 by file name: graph, tokenizer, and whatever files the graph has its weights in."""
    versions: dict[str, str]
    fallback: str = ""
    """SHA-256 of the manifest of the fp32 bundle in the folder `FALLBACK`, which answers where the golden texts of this
    one do not hold; empty: there is none."""
    seal: str = ""
    """SHA-256 of all other fields, so that labels and calibration are those that were measured; empty in format 2."""


def bundle_path(name_or_path: str | Path) -> Path:
    """Return the folder of a bundle: the path itself, or for "demo", where no folder is called so, the one that ships."""
    path = Path(name_or_path)
    return DEMO_BUNDLE if path == Path(DEMO) and not path.exists() else path


def read_bundle(folder: Path) -> Bundle:
    """Read the manifest of a bundle, and check that its files are all there and unchanged.

    Raises:
        BundleError: no bundle, another format, or a file that is missing or changed.
    """
    path = folder / MANIFEST
    try:
        content = read_manifest(folder)
        _check_format(path, msgspec.json.decode(content, type=_Format).format)
        bundle = msgspec.json.decode(content, type=Bundle)
        seal = seal_of(content)
    except OSError as error:
        inside = folder / "bundle"
        expected = (
            f"this is the folder of a run: name {inside}"
            if (inside / MANIFEST).is_file()
            else "expected a folder that `hybrid run` made, such as runs/sentiment/embedded/bundle, or the name demo"
        )
        raise BundleError(f"{folder}: not a bundle ({MANIFEST}: {error.strerror}); {expected}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: changed or cut off ({error}); copy the bundle again or rerun the recipe") from error
    if bundle.format >= FIRST_SEALED and bundle.seal != seal:
        raise BundleError(
            f"{path}: changed since the bundle was made (expected SHA-256 {bundle.seal[:12]}…, got {seal[:12]}…); copy the "
            "bundle again or rerun the recipe"
        )
    for name, sha256 in bundle.files.items():
        _check_name(path, name)
        check_file(folder / name, sha256)
    _check_external(folder, bundle)
    if bundle.fallback:
        check_file(folder / FALLBACK / MANIFEST, bundle.fallback)
        if read_bundle(folder / FALLBACK).fallback:
            raise BundleError(f"{folder / FALLBACK}: has a fallback of its own; write the bundle again")
    return bundle


def graph_for(folder: Path, bundle: Bundle, engine: str) -> Path:
    """Find the folder of the graph that an engine runs of a bundle: its own, or that of its fp32 graph.

    Raises:
        ConfigError: there is no such engine.
        BundleError: the engine takes fp32 alone, and the bundle carries no such graph.
    """
    if not engine_of(engine).takes_fp32_alone or bundle.precision == FP32:
        return folder
    if bundle.fallback:
        return folder / FALLBACK
    raise BundleError(
        f"{folder}: the engine {engine} takes a graph in fp32, and this bundle carries {bundle.precision} alone; write one "
        f"that has both with `hybrid bundle RUN FOLDER --portable`, or take the engine {DEFAULT_ENGINE}"
    )


def manifest_of(folder: Path, bundle: Bundle) -> Path:
    """The manifest of the graph that answers, of the bundle in `folder`: its own, or that of its fallback."""
    fallback = folder / FALLBACK / MANIFEST
    is_fallback = fallback.is_file() and msgspec.json.decode(fallback.read_bytes(), type=Bundle) == bundle
    return fallback if is_fallback else folder / MANIFEST


def seal_of(manifest: bytes) -> str:
    """Compute the seal of a manifest: the SHA-256 of its JSON without the seal, keys sorted.

    Raises:
        DecodeError: it is not a JSON object.
    """
    fields = msgspec.json.decode(manifest, type=dict[str, Any])
    fields.pop("seal", None)
    return sha256_of(fields)


def sealed(bundle: Bundle) -> Bundle:
    """Return the manifest with its seal."""
    return msgspec.structs.replace(bundle, seal=seal_of(msgspec.json.encode(bundle)))


def _check_external(folder: Path, bundle: Bundle) -> None:
    """Refuse a graph that has weights in a file whose hash is not in the manifest."""
    if MODEL not in bundle.files:
        return
    for name in sorted(external_files(folder / MODEL) - bundle.files.keys()):
        raise BundleError(
            f"{folder / MODEL}: has weights in {name!r:.80}, and {MANIFEST} has no SHA-256 of that file; rerun the recipe"
        )


def read_manifest(folder: Path) -> bytes:
    """Read the bytes of a bundle's manifest.

    Raises:
        OSError: it cannot be read.
        BundleError: it is far too large.
    """
    path = folder / MANIFEST
    with open_regular(path) as file:
        content = file.read(MAX_MANIFEST_BYTES + 1)
    if len(content) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{path}: over {MAX_MANIFEST_BYTES} bytes, so it is no manifest; copy the bundle again")
    return content


def _check_name(path: Path, name: str) -> None:
    """Refuse the name of a file that is not in the bundle's folder."""
    if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise BundleError(
            f"{path}: files: got {name!r:.80}; expected the name of a file in the bundle's folder: copy the bundle again "
            "or rerun the recipe"
        )


def _check_format(path: Path, number: int) -> None:
    if number in READABLE_FORMATS:
        return
    readable = " and ".join(map(str, READABLE_FORMATS))
    if number > FORMAT:
        raise BundleError(
            f"{path}: format {number}; this version reads formats {readable}: a newer version wrote the bundle, "
            "so upgrade hybrid-cascade"
        )
    raise BundleError(
        f"{path}: format {number}; this version reads formats {readable}: rerun the recipe, because a bundle of that "
        "format has no golden texts to prove that this machine computes what was measured"
    )
