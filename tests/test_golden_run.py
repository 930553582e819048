"""What version 0.1.0 wrote into a run is read for ever, and the keys of its summary stay."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hybrid.pipeline.requantize import RunManifest

GOLDEN = Path(__file__).parent / "golden" / "run-0.1.0"
BY_NAME = ("ms_a_text", "versions")
"""Levels whose keys are names of things, not documented keys."""


def keys_of(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Every key of a JSON document with the kind of its value; of a list the first element stands for all."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield f"{path}.{name}", kind_of(inner)
            if name not in BY_NAME:
                yield from keys_of(inner, f"{path}.{name}")
    elif isinstance(value, list) and value:
        yield from keys_of(value[0], f"{path}[]")


def kind_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else type(value).__name__


@pytest.mark.slow
def test_every_key_of_an_earlier_summary_is_in_todays_with_the_same_kind_of_value(finished: Path) -> None:
    earlier = dict(keys_of(json.loads((GOLDEN / "summary.json").read_text())))
    today = dict(keys_of(json.loads((finished / "summary.json").read_text())))
    assert len(earlier) > 100
    gone = [key for key in earlier if key not in today]
    assert not gone
    # Null is a figure that cannot be known: which ones these are depends on the run.
    other = {
        key: today[key] for key in earlier if "null" not in (earlier[key], today[key]) and today[key] != earlier[key]
    }
    assert not other


def test_the_recipe_that_an_earlier_run_was_started_with_is_read() -> None:
    manifest = msgspec.json.decode((GOLDEN / "recipe.json").read_bytes(), type=RunManifest)
    assert manifest.recipe.name == "dishes"
    assert manifest.recipe.labels == ("bad", "good", "plain")
    assert manifest.recipe.train.epochs == 1
