"""A tiny real bundle that every test of the service serves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid.config import CalibrateConfig, ExportConfig, TrainConfig
from hybrid.data.training_rows import training_rows
from hybrid.encoders.checkpoint import vocabulary_of
from hybrid.encoders.exporting import export
from hybrid.encoders.training import train
from hybrid.runtime.bundle_writer import write_bundle
from hybrid.runtime.encoder import Encoder
from hybrid.runtime.text_encoder import TextLimits
from hybrid.stages.calibrate import calibrate
from hybrid.types import Example
from tests.corpus import LABELS, texts_and_gold
from tests.serving.serving_process import started


@pytest.fixture(scope="session")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory, bert: Path) -> Path:
    """The bundle of a tiny BERT that was trained for moments."""
    folder = tmp_path_factory.mktemp("served")
    texts, gold = texts_and_gold(160, seed=3)
    rows = [Example(id=str(i), text=text, label=label) for i, (text, label) in enumerate(zip(texts, gold, strict=True))]
    config = TrainConfig(labels="given", epochs=3, batch_size=16, learning_rate=5e-3, precision="fp32")
    reading = TextLimits(max_length=32)
    learned = training_rows(rows, [], [], LABELS, config, task="single_label")
    trained = train(learned, LABELS, config, encoder=bert, reading=reading, workdir=folder / "train", seed=0)
    exported = folder / "export"
    export(trained.checkpoint, rows, LABELS, ExportConfig(parity_rows=8), folder=exported, reading=reading)
    encoder = Encoder(exported, n_labels=len(LABELS), reading=reading)
    tokens, logits = [len(item) for item in encoder.encode(texts)], encoder.logits(texts)
    settings = CalibrateConfig(methods=("temperature",), folds=2)
    calibrating = calibrate(rows, LABELS, logits, settings, seed=0, tokens=tokens)
    write_bundle(
        folder / "bundle",
        exported=exported,
        name="dishes",
        recipe_hash="0" * 64,
        encoder="packaged:all-MiniLM-L6-v2",
        labels=LABELS,
        reading=reading,
        calibration=calibrating.calibration,
        threshold=calibrating.threshold,
        policy="",
        vocabulary=vocabulary_of(trained.checkpoint),
        golden_texts=texts[:3],
        reference=calibrating.reference,
    )
    return folder / "bundle"


@pytest.fixture(scope="session")
def plain_server(bundle_dir: Path) -> Iterator[str]:
    """The URL of a service without keys and without a decoder, as its command starts it."""
    settings = ("limits.characters=1000000", "limits.wait_ms=60000", "limits.timeout_ms=60000")
    local_swap = ('swap.over_http="from_this_machine"',)
    with started(bundle_dir, *(word for setting in (*settings, *local_swap) for word in ("--set", setting))) as process:
        yield process.url
        assert process.popen.poll() is None
