"""The training loss: soft targets, a weight a row, and focus on what is still wrong."""

import torch


def classification_loss(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, *, focal_gamma: float = 0.0
) -> torch.Tensor:
    """Return the weighted mean cross-entropy of logits [n, k] against target probabilities [n, k].

    With `focal_gamma` over 0 each class's term is scaled by |target - p|^gamma: the focal loss of
    Lin et al. 2017, in the form that Li et al. 2020 (quality focal loss) give for soft targets. For
    a hard target it is (1 - p)^gamma on the true class, as in the original.
    """
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    terms = -targets * log_probs
    if focal_gamma:
        terms = terms * (targets - log_probs.exp()).abs().pow(focal_gamma)
    return (terms.sum(-1) * weights).mean()
