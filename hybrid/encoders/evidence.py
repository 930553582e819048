"""A second head of an encoder that tells which tokens are evidence: those that a teacher's reasons quote.

One linear map of a token's hidden state to a logit. It reads what enters the last layer, not what leaves it: the last
layer of a served graph works for the first token alone, which is all that the label needs, and so the head costs one
product of a vector. The label's loss and this one meet in all the layers before.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from hybrid.encoders.batches import NO_TOKEN, Windows
from hybrid.types import Span

HEAD = "evidence_head"
"""The name of the head among the modules of a classifier, and so of its weights in a checkpoint."""
BEFORE_LAST_LAYER = -2
"""The place of the hidden states that the head reads, among those that transformers gives out."""
WEIGHTS = "model.safetensors"


def add_head(model: Any) -> None:
    """Give a classifier a fresh evidence head."""
    model.add_module(HEAD, torch.nn.Linear(_width(model), 1))


def load_head(model: Any, folder: Path) -> None:
    """Give a classifier the evidence head of its checkpoint, if that has one."""
    path = folder / WEIGHTS
    if not path.is_file():
        return
    with safe_open(path, framework="pt") as weights:
        tensors = {name: weights.get_tensor(name) for name in weights.keys() if name.startswith(f"{HEAD}.")}  # noqa: SIM118
    if tensors:
        add_head(model)
        head_of(model).load_state_dict({name.removeprefix(f"{HEAD}."): values for name, values in tensors.items()})


def head_of(model: Any) -> Any:
    """The evidence head of a classifier; None where it has none."""
    return getattr(model, HEAD, None)


def evidence_logits(model: Any, hidden_states: Sequence[torch.Tensor]) -> torch.Tensor:
    """Compute the logits of the tokens [n, length] from all hidden states of the encoder, each [n, length, width]."""
    logits: torch.Tensor = head_of(model)(hidden_states[BEFORE_LAST_LAYER]).squeeze(-1)
    return logits


def evidence_loss(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Compute the binary cross-entropy of token logits [n, length]: its mean over a row's tokens, then over the rows.

    `targets` [n, length] are probabilities, `NO_TOKEN` where there is nothing to learn; `weights` [n] are 0 for rows
    without quotes, which count in the mean over the rows, so that a batch with few quotes teaches as little as it has.
    """
    real = targets != NO_TOKEN
    losses = torch.nn.functional.binary_cross_entropy_with_logits(
        logits.float(), targets.clamp(min=0.0), reduction="none"
    )
    by_row = (losses * real).sum(-1) / real.sum(-1).clamp(min=1)
    return (by_row * weights).mean()


def token_targets(
    windows: Windows, quotes: Sequence[Sequence[Sequence[Span]]]
) -> tuple[list[list[float]], list[float]]:
    """Compute the target of each token of each window, and the weight of each window; `quotes` are those of each text.

    A token's target is the share of the reasons that quote it. The weights of a text's windows add up to 1, and are 0
    where no reason quotes the text.
    """
    targets, weights = [], []
    for of_text, share, offsets in zip(windows.each(quotes), windows.shares, windows.offsets, strict=True):
        targets.append(_targets(offsets, of_text))
        weights.append(share if of_text else 0.0)
    return targets, weights


def _targets(offsets: Sequence[Span], reasons: Sequence[Sequence[Span]]) -> list[float]:
    places = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)
    quoted = np.zeros(len(places), dtype=np.float32)
    for spans in reasons:
        for_reason = np.zeros(len(places), dtype=bool)
        for start, end in spans:
            for_reason |= (places[:, 0] < end) & (places[:, 1] > start)
        quoted += for_reason
    targets = quoted / max(1, len(reasons))
    targets[places[:, 0] == places[:, 1]] = NO_TOKEN
    return [float(target) for target in targets]


def _width(model: Any) -> int:
    config: Mapping[str, Any] = model.config.to_dict()
    return int(config["hidden_size"] if "hidden_size" in config else config["dim"])
