"""What a checkpoint reads of texts: the same tokens as the runtime, as training and export want them."""

from collections.abc import Sequence
from typing import Any

import msgspec
import tokenizers

from hybrid.runtime.text_encoder import TextEncoder, TextLimits


class Windows(msgspec.Struct, frozen=True, kw_only=True):
    """The windows of texts, in their order; where long texts are cut, each text is one window."""

    columns: dict[str, list[list[int]]]
    """A list of integers a window for each input of the model."""
    counts: tuple[int, ...]
    """Windows by text."""

    def each(self, values: Sequence[Any]) -> list[Any]:
        """Return the value of each window's text, `values` being one a text."""
        return [value for value, count in zip(values, self.counts, strict=True) for _ in range(count)]

    @property
    def shares(self) -> list[float]:
        """The weight of each window: those of a text weigh 1 together."""
        return self.each([1 / count for count in self.counts])


def read_windows(tokenizer: Any, texts: Sequence[str], reading: TextLimits) -> Windows:
    """Return what the model reads of each text, by a copy of a transformers tokenizer's own fast tokenizer."""
    reader = TextEncoder(tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()), reading)
    encoded = reader.read(texts)
    ids = [window for one in encoded for window in one.windows]
    constant = {"attention_mask": 1, "token_type_ids": 0}
    columns = {
        name: ids if name == "input_ids" else [[constant[name]] * len(window) for window in ids]
        for name in tokenizer.model_input_names
        if name == "input_ids" or name in constant
    }
    return Windows(columns=columns, counts=tuple(len(one.windows) for one in encoded))
