"""A batch of drafts tried with the encoder that it is to train, before it trains the one that ships."""

import shutil
from collections.abc import Sequence

import numpy as np

from hybrid.data.training_rows import TrainingRow, training_rows
from hybrid.encoders.checkpoint import load_classifier, load_tokenizer
from hybrid.pipeline.context import RunContext
from hybrid.stages.export import checkpoint_logits
from hybrid.teacher.drafts.gate import Gate, encoder_gate
from hybrid.types import Draft


def try_drafts(story: RunContext, key: str, drafts: Sequence[Draft], minority: Sequence[str]) -> Gate:
    """Return whether the drafts help the recipe's encoder on real rows held out, trained as the recipe trains it.

    Each training has a folder that carries the key of the stage: a run that was killed goes on in the midst of it.
    """
    recipe = story.recipe
    rows = training_rows(story.rows("train"), story.decisions(), drafts, story.labels, recipe.train)
    trials = story.run.path("synthesize", "trials")

    def fit_predict(name: str, fitting: Sequence[TrainingRow], texts: Sequence[str]) -> np.ndarray:
        _, checkpoint = story.fit(f"synthesize/trials/{name}", key, recipe.train, fitting)
        model = load_classifier(checkpoint, story.labels).eval()
        logits = checkpoint_logits(model, load_tokenizer(checkpoint), texts, story.reading)
        return np.asarray(logits.argmax(axis=1))

    found = encoder_gate(
        [row for row in rows if not row.synthetic],
        [row for row in rows if row.synthetic],
        story.labels,
        minority,
        fit_predict=fit_predict,
        seed=recipe.seed,
    )
    shutil.rmtree(trials)
    return found
