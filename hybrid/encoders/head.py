"""The head of a classifier before its first step."""

from typing import Any

import numpy as np
import torch


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
