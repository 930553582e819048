"""The training losses: soft targets, a weight a row, and focus on what is still wrong."""

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


def label_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    *,
    positive_weights: torch.Tensor,
    focal_gamma: float = 0.0,
) -> torch.Tensor:
    """Return the weighted mean over rows of the mean over labels of the binary cross-entropy, logits [n, k].

    `targets` [n, k] are each label's probability, and `positive_weights` [k] multiply the part of the loss that
    asks for the label. With `focal_gamma` over 0 each term is scaled by |target - p|^gamma (Li et al. 2020).
    """
    logits = logits.float()
    terms = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, targets, pos_weight=positive_weights.to(logits.device), reduction="none"
    )
    if focal_gamma:
        terms = terms * (targets - logits.sigmoid()).abs().pow(focal_gamma)
    return (terms.mean(-1) * weights).mean()
