"""GGUF models of others: one on the Hugging Face hub, and the packaged one, in weights that llama.cpp multiplies fast."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from hybrid.errors import ConfigError, LLMError
from hybrid.hub import parse_hub

_WEIGHTS_A_BLOCK = 32
"""Weights of Q8_0 that share a scale."""


def gguf_in(folder: Path) -> Path:
    """The first GGUF file in a folder.

    Raises:
        LLMError: there is none.
    """
    files = sorted(folder.glob("**/*.gguf"))
    if not files:
        raise LLMError(f"{folder}: expected a .gguf file in it, and there is none; remove the folder, then run again")
    return files[0]


def gguf_from_hub(model: str, role: str) -> Path:
    """Download `hf:owner/repo/file.gguf` as far as the hub's cache lacks it, and say where it lies.

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
    # The hub's client raises errors of several libraries: of itself, of its HTTP client, of the operating system.
    except Exception as error:
        first_line = str(error).strip().split("\n")[0][:200]
        raise LLMError(
            f"{role}.model = {model!r}: the Hugging Face hub did not give it ({first_line}) and its cache lacks it; "
            "correct the name, go online, or name the path of a .gguf file or 'local'"
        ) from error


def fast_copy(path: Path) -> Path:
    """A copy of a model with its Q4_1 weights in Q8_0, made once and kept in a folder beside that of `path`.

    llama.cpp has no matrix kernel for Q4_1 on x86: it reads a prompt no faster than token by token. For Q8_0 it has
    one. The result is `path` itself where it has no Q4_1 weights, is no GGUF file, or there is no room for a copy.

    Raises:
        LLMError: the package that reads GGUF files is missing.
    """
    copy = path.parent.with_name(f"{path.parent.name}-q8_0") / f"{path.stem}.Q8_0.gguf"
    if copy.is_file():
        return copy
    part = copy.with_name(f"{copy.name}.{os.getpid()}.part")
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not _write_fast(path, part):
            return path
        part.replace(copy)
    except OSError:
        return path
    finally:
        part.unlink(missing_ok=True)
    return copy


def _write_fast(path: Path, target: Path) -> bool:
    """Write a model's fast copy, metadata and order of tensors unchanged; False where there is nothing to convert."""
    gguf = _gguf()
    q4_1, q8_0 = gguf.GGMLQuantizationType.Q4_1, gguf.GGMLQuantizationType.Q8_0
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError):
        # llama.cpp says what is wrong with the file.
        return False
    if all(tensor.tensor_type != q4_1 for tensor in reader.tensors):
        return False
    writer = _writer_with_metadata(gguf, reader, target)
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


def _writer_with_metadata(gguf: Any, reader: Any, target: Path) -> Any:
    keys = gguf.Keys.General
    writer = gguf.GGUFWriter(target, reader.fields[keys.ARCHITECTURE].contents())
    for field in reader.fields.values():
        # The reader counts the header's own numbers as fields, and the writer has set the architecture.
        if field.name.startswith("GGUF.") or field.name == keys.ARCHITECTURE:
            continue
        if field.name == keys.ALIGNMENT:
            writer.add_custom_alignment(field.contents())
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, element)
    return writer


def to_q8_0(weights: np.ndarray) -> np.ndarray:
    """Blocks, bytes [..., n / 32 * 34], of weights [..., n]: a scale in half precision, then 32 numbers of -127 to 127.

    Rounds to the scale as it is stored, so that a weight moves by at most 1/254 of the largest of its block;
    `gguf.quants.quantize` rounds to the scale before it is stored, and is a little further off.
    """
    blocks = weights.reshape(-1, _WEIGHTS_A_BLOCK)
    scale = (np.abs(blocks).max(axis=1, keepdims=True) / 127).astype(np.float16)
    wide = scale.astype(np.float32)
    steps = np.divide(blocks, wide, out=np.zeros_like(blocks), where=wide != 0)
    whole = np.clip(np.rint(steps), -127, 127).astype(np.int8)
    packed = np.concatenate([scale.view(np.uint8), whole.view(np.uint8)], axis=1)
    return packed.reshape(*weights.shape[:-1], -1)


def _gguf() -> Any:
    try:
        import gguf
    except ImportError as error:
        raise LLMError(
            "the package 'gguf' is missing, and the packaged model is converted with it; "
            "run: pip install 'hybrid-cascade[local]'"
        ) from error
    return gguf
