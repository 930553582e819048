"""Bundles made from another one: with other answers, with a text that the graph cannot run, or damaged."""

import json
import shutil
from pathlib import Path

import onnx
from tokenizers import Tokenizer

from hybrid.files.hashing import sha256_of_file
from hybrid.runtime.bundle import MANIFEST, MODEL, TOKENIZER, Bundle, read_bundle, seal_of
from hybrid.runtime.calibration import apply
from hybrid.runtime.encoder import Encoder

POISON = "zzpoison"
"""A word that a poisoned tokenizer gives a token that the encoder has no vector for."""


def copied(bundle_dir: Path, folder: Path) -> Path:
    return Path(shutil.copytree(bundle_dir, folder))


def changed(folder: Path, **fields: object) -> Path:
    """Change fields of the manifest, as if the bundle had been made with them."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text()) | fields
    path.write_text(json.dumps(manifest | {"seal": seal_of(json.dumps(manifest).encode())}))
    return folder


def negated(bundle_dir: Path, folder: Path) -> Path:
    """A sound bundle whose graph gives the logits the other sign: its answers differ for every text."""
    copied(bundle_dir, folder)
    model = onnx.load(folder / MODEL)
    output = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["before" if name == output else name for name in node.output]
    model.graph.node.append(onnx.helper.make_node("Neg", ["before"], [output]))
    onnx.save(model, folder / MODEL)
    return sealed(folder)


def poisoned(bundle_dir: Path, folder: Path) -> Path:
    """A bundle whose tokenizer knows one word too many: the graph raises on a text with it."""
    copied(bundle_dir, folder)
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.add_tokens([POISON])
    tokenizer.save(str(folder / TOKENIZER))
    changed(folder, vocabulary=tokenizer.get_vocab_size())
    return sealed(folder)


def poison_token(folder: Path) -> int:
    return int(Tokenizer.from_file(str(folder / TOKENIZER)).token_to_id(POISON))


def sealed(folder: Path) -> Path:
    """Write hashes and golden probabilities anew, as the files now are."""
    changed(folder, files={name: sha256_of_file(folder / name) for name in (MODEL, TOKENIZER)})
    bundle: Bundle = read_bundle(folder)
    encoder = Encoder(folder, n_labels=len(bundle.labels), reading=bundle.reading)
    probs = apply(bundle.calibration, encoder.logits([golden_text.text for golden_text in bundle.golden]))
    golden = [
        {"text": golden_text.text, "probs": row} for golden_text, row in zip(bundle.golden, probs.tolist(), strict=True)
    ]
    return changed(folder, golden=golden)
