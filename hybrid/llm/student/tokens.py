"""The tokenizer of a GGUF model, built from the file's own metadata, for training and answering alike.

llama.cpp offers its tokenizer over HTTP alone, and reads control tokens that stand in a text as such. Here a text is data:
`<|im_end|>` in a tweet is seven characters and closes no turn.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from hybrid.errors import LLMError
from hybrid.llm.student.layouts import Example, Frame, Kind, Segment, frame_of

_CONTROL = 3
"""llama.cpp's type of a control token."""


def _byte_level() -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _single_digits() -> Any:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _byte_level()])


PRE_TOKENIZERS = {"smollm": _single_digits, "gpt-2": _byte_level}
"""How a text is split before pairs are merged, by the name in `tokenizer.ggml.pre`."""


class Tokens(msgspec.Struct, frozen=True):
    """The token ids of an example [t], and the kind of each."""

    ids: tuple[int, ...]
    kinds: tuple[Kind, ...]


class StudentTokenizer:
    """Turns segments into token ids. Safe to share between threads."""

    def __init__(self, metadata: Mapping[str, Any], where: str) -> None:
        """Build the tokenizer from a GGUF file's metadata; `where` names the file, for messages.

        Raises:
            LLMError: it is a tokenizer of another kind.
        """
        kind, split = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
        if kind != "gpt2" or split not in PRE_TOKENIZERS:
            raise LLMError(
                f"{where}: tokenizer {kind!r} with pre-tokenizer {split!r}; expected 'gpt2' with one of "
                f"{', '.join(PRE_TOKENIZERS)}: choose another base model"
            )
        names = metadata["tokenizer.ggml.tokens"]
        types = metadata["tokenizer.ggml.token_type"]
        self._ids = {name: i for i, name in enumerate(names)}
        self.control = {name: i for i, (name, kind) in enumerate(zip(names, types, strict=True)) if kind == _CONTROL}
        merges = [tuple(pair.split(" ", 1)) for pair in metadata["tokenizer.ggml.merges"]]
        self._tokenizer = Tokenizer(models.BPE(vocab=self._ids, merges=merges, fuse_unk=False))
        self._tokenizer.pre_tokenizer = PRE_TOKENIZERS[split]()
        self._tokenizer.decoder = decoders.ByteLevel()
        self.vocabulary = len(names)
        end = names[int(metadata["tokenizer.ggml.eos_token_id"])]
        self.frame: Frame = frame_of(frozenset(self.control), end)

    def ids_of(self, segment: Segment, *, most: int | None = None) -> list[int]:
        """Encode a segment; the text to classify is cut after `most` tokens."""
        if segment.is_control:
            return [self.control[segment.text]]
        ids: list[int] = self._tokenizer.encode(segment.text, add_special_tokens=False).ids
        return ids[:most] if segment.is_row_text else ids

    def encode(self, example: Example, *, most: int) -> Tokens:
        """Encode an example; the text to classify is cut after `most` tokens."""
        ids: list[int] = []
        kinds: list[Kind] = []
        for segment in example:
            of_segment = self.ids_of(segment, most=most)
            ids += of_segment
            kinds += [segment.kind] * len(of_segment)
        return Tokens(tuple(ids), tuple(kinds))

    def decode(self, ids: Sequence[int]) -> str:
        """Turn token ids into text, control tokens left out."""
        control = set(self.control.values())
        text: str = self._tokenizer.decode([i for i in ids if i not in control], skip_special_tokens=False)
        return text


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata of a GGUF file: a value by key, numbers and lists as Python's own.

    Raises:
        LLMError: the package is missing, or it is no GGUF file.
    """
    try:
        import gguf
    except ImportError as error:
        raise LLMError(
            "the package 'gguf' is missing, but a student needs it; run: pip install 'hybrid-cascade[local]'"
        ) from error
    try:
        fields = gguf.GGUFReader(path).fields
    except (OSError, ValueError, IndexError) as error:
        raise LLMError(
            f"{path}: cannot be read as a GGUF file ({error}); expected a GGUF model: choose another"
        ) from error
    contents = {name: field.contents() for name, field in fields.items() if not name.startswith("GGUF.")}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in contents.items()}
