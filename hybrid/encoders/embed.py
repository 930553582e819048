"""Frozen embeddings: the pretrained encoder without fine-tuning, mean-pooled."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from hybrid.encoders.checkpoint import load_encoder, load_tokenizer
from hybrid.encoders.device import training_device

BATCH = 64


def embed(
    folder: Path, texts: Sequence[str], *, max_length: int, on_done: Callable[[int, int], None] | None = None
) -> np.ndarray:
    """Embed texts as unit vectors, float32 of shape [n, d]: the mean of each text's last hidden states."""
    tokenizer, model = load_tokenizer(folder), load_encoder(folder)
    order = np.argsort([len(text) for text in texts], kind="stable")
    vectors = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    device = training_device()
    model.to(device)
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            inputs = tokenizer(
                [texts[i] for i in rows], padding=True, truncation=True, max_length=max_length, return_tensors="pt"
            ).to(device)
            hidden = model(**inputs).last_hidden_state.float()
            mask = inputs["attention_mask"].unsqueeze(-1)
            mean = (hidden * mask).sum(1) / mask.sum(1)
            vectors[rows] = torch.nn.functional.normalize(mean).cpu().numpy()
            if on_done:
                on_done(min(start + BATCH, len(order)), len(order))
    return vectors
