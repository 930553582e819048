"""Bundles as earlier versions wrote them open for ever, and answer as they did."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

import hybrid
from hybrid.errors import BundleError
from hybrid.runtime.bundle import FORMAT, MANIFEST
from hybrid.types import Vote

GOLDEN = Path(__file__).parent / "golden"
FORMATS = [2, 3]
ROUNDING = 1e-3
"""Of a probability in fp32, between processors and versions of onnxruntime."""


class Judge:
    """The decoder that the bundles were measured with."""

    def decide(self, texts: Sequence[str]) -> list[Vote]:
        vote = Vote(id="0", status="ok", label="plain", teacher="judge", confidence=0.9, rationale="It says so.")
        return [vote] * len(texts)


def test_there_is_a_golden_bundle_of_the_format_that_is_written_today() -> None:
    assert FORMATS[-1] == FORMAT


@pytest.mark.parametrize("number", FORMATS)
def test_a_golden_bundle_opens_and_answers_as_it_did(number: int) -> None:
    folder = GOLDEN / f"bundle-format-{number}"
    expected = json.loads((GOLDEN / f"{folder.name}.answers.json").read_text())
    texts = [answer["text"] for answer in expected]
    alone = hybrid.load(folder).classify(texts)
    with_votes = hybrid.load(folder, decoder=Judge()).classify(texts, threshold=2.0)
    for answer, prediction, combined in zip(expected, alone, with_votes, strict=True):
        assert prediction.probs == pytest.approx(answer["probs"], abs=ROUNDING)
        assert (prediction.label, prediction.escalate) == (answer["label"], answer["escalate"])
        assert prediction.truncated == answer["truncated"]
        assert combined.source == "both"
        assert combined.label == answer["label_with_vote"]
        assert combined.probs == pytest.approx(answer["probs_with_vote"], abs=ROUNDING)


@pytest.mark.parametrize("number", FORMATS)
def test_a_golden_manifest_keeps_every_field_when_it_is_read_and_written(number: int) -> None:
    manifest = GOLDEN / f"bundle-format-{number}" / MANIFEST
    bundle = hybrid.load(manifest.parent).bundle
    written = json.loads(msgspec.json.encode(bundle))
    assert lost(json.loads(manifest.read_text()), written) == []


def lost(before: object, after: object, path: str = "") -> list[str]:
    """The paths of the values that are not in `after` as they were in `before`."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [line for key, value in before.items() for line in lost(value, after.get(key), f"{path}.{key}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [line for i, pair in enumerate(zip(before, after, strict=True)) for line in lost(*pair, f"{path}[{i}]")]
    return [] if before == after else [path]


def test_the_golden_texts_of_the_bundle_are_its_own_proof(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GOLDEN / f"bundle-format-{FORMAT}", tmp_path / "bundle"))
    golden = hybrid.load(folder).bundle.golden
    probs = hybrid.load(folder).probs([example.text for example in golden])
    np.testing.assert_allclose(probs, [example.probs for example in golden], atol=ROUNDING)


@pytest.mark.parametrize(
    ("number", "advice"), [(1, "rerun the recipe, because a bundle of that format has no golden texts"), (4, "upgrade")]
)
def test_a_bundle_of_another_format_is_refused_with_what_to_do(number: int, advice: str, tmp_path: Path) -> None:
    manifest = {"format": number, "name": "dishes", "labels": ["bad", "good"], "max_length": 32}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=f"format {number}; this version reads formats 2 and {FORMAT}: .*{advice}"):
        hybrid.load(tmp_path)
