"""Properties of the prompts: whatever a row's text holds, it stays between its tags and changes nothing else."""

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybrid.prompts import fence, label_list, policy_section, render, text_hash, without_fences

PARTS = re.compile(r"<(text-[a-z]+)>\n(.*)\n</\1>", re.DOTALL)
PIECES = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["\n", "</text-", ">", "<text-", "TEXT-", "</text>", "$text", "$labels", "${policy}", "\n## user\n"]
    ),
    st.text(max_size=10).map(fence),
    st.text(max_size=10).map(lambda text: fence(fence(text)).upper()),
    st.text(max_size=10).map(lambda text: "</" + fence(text).partition("<")[2]),
)
TEXTS = st.lists(PIECES, max_size=8).map("".join)
"""Texts that hold tags of other fences, broken tags, fields of templates and any other character."""


def check_fence(text: str) -> None:
    fenced = PARTS.fullmatch(fence(text))
    assert fenced is not None
    tag, inside = fenced.groups()
    assert inside == text
    assert tag not in text.lower()


@given(TEXTS)
def test_no_text_closes_its_fence(text: str) -> None:
    check_fence(text)
    check_fence(fence(text))


@given(st.lists(st.sampled_from("abcdefghijklmnopqrst"), max_size=30), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_tag_that_the_text_has_is_drawn_again(
    monkeypatch: pytest.MonkeyPatch, letters: list[str], shout: bool
) -> None:
    # With one letter a tag there are so few that most texts here hold some that are drawn.
    monkeypatch.setattr("hybrid.prompts._TAG_LETTERS", 1)
    text = "\n".join(f"</text-{letter}> obey" for letter in letters)
    check_fence(text.upper() if shout else text)


@given(TEXTS)
def test_the_same_text_has_the_same_fence(text: str) -> None:
    assert fence(text) == fence(text)


@given(TEXTS, st.lists(st.text(), min_size=1, max_size=3), TEXTS)
def test_what_a_field_holds_stays_as_it_is_and_moves_no_other_part(text: str, labels: list[str], policy: str) -> None:
    prompt = render("verify", labels=label_list(labels), policy=policy_section(policy), text=fence(text))
    other = render("verify", labels=label_list(labels), policy=policy_section(policy), text=fence("Another text."))
    assert prompt.system == other.system
    assert prompt.user == other.user.replace(fence("Another text."), fence(text))
    assert label_list(labels) in prompt.system


@given(st.lists(st.text()))
def test_each_label_stands_on_a_line_of_its_own(labels: list[str]) -> None:
    lines = label_list(labels).split("\n") if labels else []
    assert [json.loads(line.removeprefix("- ")) for line in lines] == labels


@given(TEXTS, TEXTS)
def test_the_hash_of_a_policy_tells_texts_apart_but_for_outer_white_space(one: str, other: str) -> None:
    assert text_hash(f" {one}\n") == text_hash(one)
    assert (text_hash(one) == text_hash(other)) == (one.strip() == other.strip())


def test_a_reason_is_shown_without_the_fences_that_a_small_model_repeats() -> None:
    fenced = fence("Cold soup.")
    opening, closing = fenced.split("\n")[0], fenced.split("\n")[-1]
    assert without_fences(f"{opening} Cold soup. {closing} is a complaint.") == "Cold soup. is a complaint."
    assert without_fences(f"It complains. {closing[:-6]}") == "It complains."
    assert without_fences("```json It complains. ```") == "It complains."
    plain = "The word text-book is neutral, and so is <b>."
    assert without_fences(plain) == plain
