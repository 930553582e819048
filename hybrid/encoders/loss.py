"""The training loss (soft targets, row weights, optional focus on hard rows), and the head's initial bias."""

from typing import Any

import numpy as np
import torch


def classification_loss(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, *, focal_gamma: float = 0.0
) -> torch.Tensor:
    """Compute the weighted mean cross-entropy of logits [n, k] against target probabilities [n, k].

    With `focal_gamma` over 0 each class's term is scaled by |target - p|^gamma: the focal loss of
    Lin et al. 2017, in the form that Li et al. 2020 (quality focal loss) give for soft targets. For
    a hard target it is (1 - p)^gamma on the true class, as in the original.
    """
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    losses = -targets * log_probs
    if focal_gamma:
        losses = losses * (targets - log_probs.exp()).abs().pow(focal_gamma)
    return (losses.sum(-1) * weights).mean()


def label_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    *,
    positive_weights: torch.Tensor,
    focal_gamma: float = 0.0,
) -> torch.Tensor:
    """Compute the binary cross-entropy of logits [n, k]: its mean over labels, then the weighted mean over rows.

    `targets` [n, k] are each label's probability, and `positive_weights` [k] multiply the part of the loss that
    asks for the label. With `focal_gamma` over 0 each term is scaled by |target - p|^gamma (Li et al. 2020).
    """
    logits = logits.float()
    losses = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, targets, pos_weight=positive_weights.to(logits.device), reduction="none"
    )
    if focal_gamma:
        losses = losses * (targets - logits.sigmoid()).abs().pow(focal_gamma)
    return (losses.mean(-1) * weights).mean()


def init_bias_from_label_frequency(model: Any, counts: np.ndarray, n_rows: int) -> None:
    """Set the head's bias to the log-odds of each label among the rows to fit on: `counts` [k] of `n_rows`.

    Lin et al. 2017 (focal loss), section 4.1: where most labels are absent from most rows, training from even odds
    spends its first epochs on learning just that.
    """
    heads = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module.out_features == len(counts) and module.bias is not None
    ]
    share = (counts + 0.5) / (n_rows + 1)
    with torch.no_grad():
        heads[-1].bias.copy_(torch.from_numpy(np.log(share / (1 - share))))
