"""Writes a bundle: the folder that a service embeds, from an exported graph and its calibration."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import UNSET

from hybrid.errors import BundleError
from hybrid.files.hashing import sha256_of_file
from hybrid.files.links import link_or_copy
from hybrid.files.table import write_json
from hybrid.runtime.bundle import FALLBACK, FORMAT, MANIFEST, MODEL, TOKENIZER, Bundle, read_bundle, sealed
from hybrid.runtime.calibration import Calibration, Threshold, apply
from hybrid.runtime.calibration_reference import Reference
from hybrid.runtime.combination import Reliability
from hybrid.runtime.encoder import Encoder
from hybrid.runtime.integrity import Golden, external_files
from hybrid.runtime.made_with import versions
from hybrid.runtime.text_encoder import TextLimits
from hybrid.types import Precision, Task


def write_bundle(
    folder: Path,
    *,
    exported: Path,
    name: str,
    recipe_hash: str,
    encoder: str,
    labels: Sequence[str],
    reading: TextLimits,
    calibration: Calibration,
    threshold: Threshold,
    policy: str,
    vocabulary: int,
    golden_texts: Sequence[str],
    task: Task = "single_label",
    precision: Precision = "fp32",
    reference: Reference | None = None,
    decoder: Reliability | None = None,
) -> Bundle:
    """Write the bundle and return its manifest. The manifest is written last: without it there is no bundle.

    `exported` holds the graph, which is at `precision`, whatever files it has its weights in, and the tokenizer;
    `vocabulary` is the number of rows of the encoder's embedding. The golden texts are answered here, by the files of the bundle.
    """
    _clear(folder)
    files = (MODEL, TOKENIZER, *sorted(external_files(exported / MODEL)))
    for file in files:
        link_or_copy(exported / file, folder / file)
    answering = Encoder(folder, n_labels=len(labels), reading=reading)
    bundle = Bundle(
        name=name,
        recipe_hash=recipe_hash,
        labels=tuple(labels),
        task=task,
        reading=reading,
        encoder=encoder,
        vocabulary=vocabulary,
        precision=precision,
        calibration=calibration,
        threshold=threshold,
        reference=reference,
        policy=policy,
        decoder=decoder,
        evidence=answering.has_evidence or UNSET,
        golden=_answered(golden_texts, answering, calibration),
        files={file: sha256_of_file(folder / file) for file in files},
        versions=versions(),
    )
    bundle = sealed(bundle)
    write_json(folder / MANIFEST, bundle)
    return bundle


def write_portable(folder: Path, *, served: Path, fp32: Path) -> Bundle:
    """Write a bundle that has the same model in two precisions, and return its manifest.

    `served` answers wherever its golden texts hold, and `fp32` elsewhere, each with its own calibration and threshold.

    Raises:
        BundleError: one of them is not sound, or they are not of one model.
    """
    main, fallback = read_bundle(served), read_bundle(fp32)
    if fallback.precision != "fp32" or (main.name, main.encoder, main.labels) != (
        fallback.name,
        fallback.encoder,
        fallback.labels,
    ):
        raise BundleError(f"{fp32}: expected the fp32 bundle of the run that {served} is from")
    _clear(folder)
    for source, target, files in ((served, folder, main.files), (fp32, folder / FALLBACK, fallback.files)):
        target.mkdir(exist_ok=True)
        for name in files:
            link_or_copy(source / name, target / name)
    link_or_copy(fp32 / MANIFEST, folder / FALLBACK / MANIFEST)
    digest = sha256_of_file(folder / FALLBACK / MANIFEST)
    bundle = sealed(msgspec.structs.replace(main, format=FORMAT, fallback=digest))
    write_json(folder / MANIFEST, bundle)
    return bundle


def _clear(folder: Path) -> None:
    """Make the folder, without the manifest and the second graph of a bundle that was there before."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder / FALLBACK, ignore_errors=True)


def _answered(texts: Sequence[str], encoder: Encoder, calibration: Calibration) -> tuple[Golden, ...]:
    probs = apply(calibration, encoder.logits(texts)).round(6)
    return tuple(Golden(text=text, probs=tuple(row)) for text, row in zip(texts, probs.tolist(), strict=True))
