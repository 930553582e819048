"""Short names of encoders, each with the settings that suit it."""

from collections.abc import Mapping
from typing import Any

ENCODERS: dict[str, dict[str, dict[str, Any]]] = {
    "minilm": {"encoder": {"model": "packaged:all-MiniLM-L6-v2"}},
    "mpnet": {"encoder": {"model": "packaged:all-mpnet-base-v2"}, "train": {"learning_rate": 3e-5}},
    "multilingual": {"encoder": {"model": "packaged:multilingual-e5-small"}},
    "deberta": {
        "encoder": {"model": "hf:microsoft/deberta-v3-base"},
        "train": {"learning_rate": 2e-5, "batch_size": 16},
    },
}
"""Settings by name. A model of DeBERTa's depth forgets what it knows at a small encoder's learning rate."""


def encoder_settings(name: str) -> Mapping[str, Any]:
    """Return the settings of a short name; any other name is that of a model, as `encoder.model` takes it."""
    return ENCODERS.get(name, {"encoder": {"model": name}})
