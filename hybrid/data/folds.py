"""Deal rows into folds, the classes spread evenly, with classes of few rows among them."""

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedKFold


def stratified_folds(classes: npt.NDArray[np.int64], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Assign each row to a fold [n]: the rows of a class are shuffled and dealt in turn.

    scikit-learn's splitter refuses a class with fewer rows than folds; a rare label must not stop a run.
    """
    order = np.lexsort((np.random.default_rng(seed).random(len(classes)), classes))
    fold = np.empty(len(classes), dtype=np.int64)
    fold[order] = np.arange(len(classes)) % folds
    return fold


def stratified_splitter(classes: npt.NDArray[np.int64], folds: int, *, seed: int) -> StratifiedKFold:
    """Make scikit-learn's splitter, with no more folds than the rarest class has rows, and two at least."""
    fewest = int(np.unique(classes, return_counts=True)[1].min())
    return StratifiedKFold(max(2, min(folds, fewest)), shuffle=True, random_state=seed)
