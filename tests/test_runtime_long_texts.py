"""Long texts, from training to serving: the same tokens count all the way."""

from pathlib import Path

import numpy as np
import pytest

from hybrid.config import ExportConfig, TrainConfig
from hybrid.data.training_rows import TrainingRow
from hybrid.encoders.batches import Windows
from hybrid.encoders.checkpoint import load_classifier, load_tokenizer
from hybrid.encoders.exporting import checkpoint_logits, export
from hybrid.encoders.training import _encode, train
from hybrid.runtime.encoder import Encoder
from hybrid.runtime.text_encoder import TextLimits
from hybrid.types import Example
from tests.corpus import LABELS, texts_and_gold

SHORT, GOLD = texts_and_gold(40)
FILLER = "The table at the station was served daily at the museum and the castle. " * 2
TEXTS = [*(FILLER + text for text in SHORT), *SHORT[:5]]
EYE = np.eye(3)
ROWS = [
    TrainingRow(text=text, label=LABELS.index(gold), target=tuple(EYE[LABELS.index(gold)]), weight=1.0)
    for text, gold in zip(TEXTS, GOLD + GOLD[:5], strict=True)
]
CONFIG = TrainConfig(epochs=1, learning_rate=5e-3, batch_size=16, precision="fp32")
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("reading", "reads_the_end"),
    [
        (TextLimits(max_length=24), False),
        (TextLimits(max_length=24, truncate="both"), True),
        (TextLimits(max_length=24, windows="mean", overlap=8), True),
    ],
    ids=("right", "both", "windows"),
)
def test_a_long_text_is_served_as_it_was_trained(
    bert: Path, tmp_path: Path, reading: TextLimits, reads_the_end: bool
) -> None:
    done = train(ROWS, LABELS, CONFIG, encoder=bert, reading=reading, workdir=tmp_path / "work", seed=0)
    assert done.report["rows"] == {"fitted": 41, "validation": 4}  # texts, not windows
    examples = [Example(id=str(i), text=text, label="good") for i, text in enumerate(TEXTS)]
    found = export(done.checkpoint, examples, LABELS, ExportConfig(), folder=tmp_path / "out", reading=reading)
    assert max(row.max_abs_diff for row in found.parity) < 1e-5
    encoder = Encoder(tmp_path / "out", n_labels=3, reading=reading)
    good, bad = encoder.logits([FILLER + "It was superb and fresh.", FILLER + "It was stale and burnt."])
    assert (np.abs(good - bad).max() > 1e-3) == reads_the_end
    model, tokenizer = load_classifier(done.checkpoint, LABELS).eval(), load_tokenizer(done.checkpoint)
    theirs = checkpoint_logits(model, tokenizer, TEXTS, reading)
    assert np.abs(encoder.logits(TEXTS) - theirs).max() < 1e-5


def test_the_windows_of_a_text_weigh_together_what_a_short_text_weighs() -> None:
    windows = Windows(columns={"input_ids": [[1, 2], [1, 3], [1]]}, counts=(2, 1))
    rows = [
        TrainingRow(text=name, label=0, target=(1.0, 0.0), weight=weight) for name, weight in (("a", 1), ("b", 0.5))
    ]
    encoded = _encode(rows, windows, np.array([2.0, 1.0]))
    assert encoded["weights"] == [1.0, 1.0, 1.0]
    assert encoded["targets"] == [[1.0, 0.0]] * 3
    assert encoded["length"] == [2, 2, 1]
