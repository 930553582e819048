"""Where the demo's encoder starts: a BERT of one layer that knows what all-MiniLM-L6-v2 knows of single word pieces.

The vector of a word piece is what the whole of MiniLM says of it alone (mean of the last hidden states), reduced to its
principal components: static embeddings distilled from a sentence encoder, as in Model2Vec (van Dongen and Tulkens 2024).
The layer starts as a mean over the text: every token is attended to alike, and values pass as they are.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer

PIECES = 16_000
"""The most frequent word pieces, in the order of MiniLM's vocabulary; what is left out is spelled with shorter ones."""
HIDDEN = 128
POSITIONS = 128
BATCH = 512


def build(fetch: Callable[[str], Path], folder: Path) -> None:
    """Write config.json, model.safetensors and the tokenizer of the starting encoder into `folder`."""
    source = fetch("all-MiniLM-L6-v2")
    content = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    old_ids = _cut(content)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)),
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=POSITIONS,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    tokenizer.save_pretrained(folder)
    _encoder(_principal(_vectors(source, old_ids))).save_pretrained(folder)


def _cut(content: dict[str, Any]) -> list[int]:
    """Leave the first pieces in a tokenizer.json, without those that were never used; return their former ids."""
    vocabulary = content["model"]["vocab"]
    pieces = [piece for piece in sorted(vocabulary, key=vocabulary.__getitem__) if not piece.startswith("[unused")]
    kept = pieces[:PIECES]
    content["model"]["vocab"] = {piece: new for new, piece in enumerate(kept)}
    new_ids = content["model"]["vocab"]
    for token in content["added_tokens"]:
        token["id"] = new_ids[token["content"]]
    for token in content["post_processor"].get("special_tokens", {}).values():
        token["ids"] = [new_ids[name] for name in token["tokens"]]
    for name in ("sep", "cls"):  # where the processor is BERT's own, it names the ids
        if name in content["post_processor"]:
            text, _ = content["post_processor"][name]
            content["post_processor"][name] = [text, new_ids[text]]
    content["truncation"] = content["padding"] = None
    return [vocabulary[piece] for piece in kept]


def _vectors(source: Path, ids: list[int]) -> np.ndarray:
    """What MiniLM says of each word piece alone, float32 of shape [n, 384]."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModel.from_pretrained(source).eval()
    cls, sep = 101, 102
    vectors = []
    with torch.inference_mode():
        for start in range(0, len(ids), BATCH):
            rows = torch.tensor([[cls, piece, sep] for piece in ids[start : start + BATCH]])
            vectors.append(model(rows).last_hidden_state.mean(dim=1).numpy())
    return np.concatenate(vectors)


def _principal(vectors: np.ndarray) -> np.ndarray:
    """Reduce vectors to their principal components, with the sign of each fixed, at a scale of one."""
    centred = (vectors - vectors.mean(axis=0)).astype(np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :HIDDEN]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(HIDDEN)])
    reduced = centred @ axes
    return (reduced / reduced.std()).astype(np.float32)


def _encoder(vectors: np.ndarray) -> transformers.BertModel:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(vectors),
        hidden_size=HIDDEN,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=2 * HIDDEN,
        max_position_embeddings=POSITIONS,
        type_vocab_size=1,
        pad_token_id=0,
    )
    model = transformers.BertModel(config)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.copy_(torch.from_numpy(vectors))
        model.embeddings.position_embeddings.weight.zero_()
        model.embeddings.token_type_embeddings.weight.zero_()
        layer = model.encoder.layer[0].attention
        for linear in (layer.self.value, layer.output.dense, model.pooler.dense):
            torch.nn.init.eye_(linear.weight)
    return model
