"""Fetches GGUF models from the Hugging Face hub, and converts the packaged model to weights that llama.cpp runs fast."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hybrid.errors import ConfigError, LLMError, StorageError
from hybrid.files.file_check import first_changed
from hybrid.files.hashing import sha256_of_file
from hybrid.files.table import write_json
from hybrid.hub import parse_hub

_WEIGHTS_A_BLOCK = 32
"""The number of weights in Q8_0 that share a scale."""


def gguf_in(folder: Path) -> Path:
    """Find the first GGUF file in a folder.

    Raises:
        LLMError: the folder has none.
    """
    files = sorted(folder.glob("**/*.gguf"))
    if not files:
        raise LLMError(f"{folder}: expected a .gguf file, got none; remove the folder, then run again")
    return files[0]


def gguf_from_hub(model: str, role: str) -> Path:
    """Download `hf:owner/repo/file.gguf` unless the hub's cache has it, and return its path.

    Raises:
        ConfigError: the reference is not owner, repository and file.
        LLMError: the hub cannot be reached and its cache lacks the file.
    """
    reference = parse_hub(model)
    file = reference.rest.removeprefix("/")
    if not file:
        raise ConfigError(
            f"{role}.model = {model!r}: expected hf:owner/repo/file.gguf, the repository and the file in it; "
            "correct the recipe"
        )
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise LLMError(
            f"{role}.model = {model!r}: the package 'huggingface_hub' is missing; "
            "run: pip install huggingface_hub, or name the path of a .gguf file"
        ) from error
    try:
        return Path(hf_hub_download(reference.repo, file, revision=reference.revision or None))
    # The hub's client raises its own errors, those of its HTTP client and those of the operating system.
    except Exception as error:
        first_line = str(error).strip().split("\n")[0][:200]
        raise LLMError(
            f"{role}.model = {model!r}: it is neither in the cache nor available from the Hugging Face hub ({first_line}); "
            "correct the name, go online, or name the path of a .gguf file or 'local'"
        ) from error


def fast_copy(path: Path) -> Path:
    """Convert a model's Q4_1 weights to Q8_0, once, into a folder beside that of `path`, and return the copy.

    llama.cpp has no matrix kernel for Q4_1 on x86, so that it reads a prompt no faster than token by token; for Q8_0 it
    has one. Returns `path` itself if it has no Q4_1 weights, is not a GGUF file, or there is no room for a copy.

    Raises:
        LLMError: the package that reads GGUF files is missing.
    """
    copy = path.parent.with_name(f"{path.parent.name}-q8_0") / f"{path.stem}.Q8_0.gguf"
    stamp, checked = (copy.with_name(f"{copy.name}.{kind}.json") for kind in ("stamp", "checked"))
    if _has_stamp(copy, stamp, checked):
        return copy
    part = copy.with_name(f"{copy.name}.{os.getpid()}.part")
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not _write_fast(path, part):
            return path
        digest = sha256_of_file(part)
        stamp.unlink(missing_ok=True)
        part.replace(copy)
        write_json(stamp, {copy.name: digest})
    except (OSError, StorageError):
        return path
    finally:
        part.unlink(missing_ok=True)
    return copy


def _has_stamp(copy: Path, stamp: Path, checked: Path) -> bool:
    """Whether the copy is as it was written; one without a stamp may have been cut off by a crash."""
    try:
        hashes = msgspec.json.decode(stamp.read_bytes(), type=dict[str, str])
    except (OSError, ValueError):
        return False
    return set(hashes) == {copy.name} and first_changed(copy.parent, hashes, checked) is None


def _write_fast(path: Path, target: Path) -> bool:
    """Write a model's fast copy with the same metadata and order of tensors; False if there is nothing to convert."""
    gguf = _gguf()
    q4_1, q8_0 = gguf.GGMLQuantizationType.Q4_1, gguf.GGMLQuantizationType.Q8_0
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError):
        # llama.cpp reports what is wrong with the file when it loads it.
        return False
    if all(tensor.tensor_type != q4_1 for tensor in reader.tensors):
        return False
    writer = writer_with_metadata(gguf, reader, target)
    for tensor in reader.tensors:
        if tensor.tensor_type == q4_1:
            writer.add_tensor(tensor.name, to_q8_0(gguf.quants.dequantize(tensor.data, q4_1)), raw_dtype=q8_0)
        else:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return True


def writer_with_metadata(gguf: Any, reader: Any, target: Path, overrides: Mapping[str, Any] | None = None) -> Any:
    """Open a GGUF writer on `target` with the metadata of `reader`, and `overrides` (text, whole number, list of text) over it."""
    keys, changed = gguf.Keys.General, dict(overrides or {})
    writer = gguf.GGUFWriter(target, reader.fields[keys.ARCHITECTURE].contents())
    for field in reader.fields.values():
        # The reader lists the header's own numbers as fields, and the writer has already set the architecture.
        if field.name.startswith("GGUF.") or field.name == keys.ARCHITECTURE:
            continue
        if field.name == keys.ALIGNMENT:
            writer.add_custom_alignment(field.contents())
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        value = changed.pop(field.name, None)
        writer.add_key_value(field.name, field.contents() if value is None else value, kind, element)
    for name, value in changed.items():
        if isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        else:
            writer.add_array(name, list(value))
    return writer


def to_q8_0(weights: np.ndarray) -> np.ndarray:
    """Quantize weights [..., n] to Q8_0 blocks, bytes [..., n / 32 * 34]: a float16 scale, then 32 numbers of -127 to 127.

    Divides by the scale as stored, so that a weight changes by at most 1/254 of the largest of its block.
    `gguf.quants.quantize` divides by the scale before it is rounded to float16, and is a little less accurate.
    """
    blocks = weights.reshape(-1, _WEIGHTS_A_BLOCK)
    scale = (np.abs(blocks).max(axis=1, keepdims=True) / 127).astype(np.float16)
    divisor = scale.astype(np.float32)
    scaled = np.divide(blocks, divisor, out=np.zeros_like(blocks), where=divisor != 0)
    rounded = np.clip(np.rint(scaled), -127, 127).astype(np.int8)
    packed = np.concatenate([scale.view(np.uint8), rounded.view(np.uint8)], axis=1)
    return packed.reshape(*weights.shape[:-1], -1)


def _gguf() -> Any:
    try:
        import gguf
    except ImportError as error:
        raise LLMError(
            "the package 'gguf' is missing, but the packaged model needs it for its conversion; "
            "run: pip install 'hybrid-cascade[local]'"
        ) from error
    return gguf
