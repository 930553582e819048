"""Loads encoders and their tokenizers from a folder, and checks that the recipe suits them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
import transformers

from hybrid.encoders.evidence import load_head
from hybrid.errors import ConfigError
from hybrid.runtime.text_encoder import TextLimits, set_up


def load_tokenizer(folder: Path) -> Any:
    """Load the fast tokenizer of an encoder.

    Raises:
        ConfigError: the folder has no tokenizer that the runtime could use.
    """
    transformers.logging.set_verbosity_error()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, use_fast=True)
    except ValueError as error:
        if "TokenizersBackend" not in str(
            error
        ):  # a class of transformers 5 that transformers 4 (extra `optimum`) lacks
            raise
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    if not tokenizer.is_fast:
        raise ConfigError(
            f"{folder}: no fast tokenizer; expected one, because the runtime needs a tokenizer.json: choose another encoder"
        )
    return tokenizer


def load_classifier(folder: Path, labels: Sequence[str]) -> Any:
    """Load a sequence classifier with one logit a label; its head is new where the folder has none.

    It has the evidence head of its checkpoint, where that has one.
    """
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        ignore_mismatched_sizes=True,
    )
    load_head(model, folder)
    return model


def load_encoder(folder: Path) -> Any:
    """Load the encoder without a head, for frozen embeddings."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers.AutoModel.from_pretrained(folder).eval()


def write_tokenizer(tokenizer: Any, path: Path, reading: TextLimits) -> None:
    """Write `tokenizer.json` for the runtime, with the truncation of `reading` and the padding token."""
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.enable_padding(pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token)
    set_up(backend, reading).save(str(path))


def vocabulary_of(folder: Path) -> int:
    """Read the number of tokens for which the encoder has a vector."""
    return int(transformers.AutoConfig.from_pretrained(folder).vocab_size)


def check_length(folder: Path, max_length: int) -> None:
    """Check that the encoder has positions for `max_length` tokens.

    Raises:
        ConfigError: it has fewer.
    """
    config = transformers.AutoConfig.from_pretrained(folder)
    positions = getattr(config, "max_position_embeddings", None)
    offset = 2 if config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet") else 0
    if positions and max_length > positions - offset:
        raise ConfigError(
            f"encoder.max_length = {max_length}: expected at most {positions - offset} tokens, the most that {folder} reads; "
            "lower it in the recipe"
        )
