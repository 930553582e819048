"""Near-duplicates: found whatever the numbers, links and handles in them."""

import pytest

from hybrid.config import SplitConfig
from hybrid.data.duplicates import NearIndex, near_duplicate_groups
from hybrid.data.source_rows import SourceRow
from hybrid.stages.split import split

LONG = "Gold futures fell for a third day as the dollar gained against most of its peers"


def test_texts_that_differ_in_numbers_links_and_handles_are_twins() -> None:
    groups = near_duplicate_groups(
        [f"{LONG} 12.5 http://a.b/c @ann", f"{LONG} 99 http://x.y/z @bob", "quite another text"], 0.8
    )
    assert groups[0] == groups[1] != groups[2]


def test_chains_of_near_duplicates_share_a_group() -> None:
    words = LONG.split()
    chain = [" ".join(words + ["extra"] * 0), " ".join([*words, "today"]), " ".join([*words, "today", "again"])]
    assert len(set(near_duplicate_groups(chain, 0.85))) == 1


def test_short_and_empty_texts_do_not_break_it() -> None:
    assert len(set(near_duplicate_groups(["", "ok", "ok", "no"], 0.8))) == 3


def test_the_nearest_copy_is_named_with_its_similarity() -> None:
    index = NearIndex(["nothing alike at all here", LONG + " today", LONG], 0.8)
    assert index.nearest(LONG) == (2, 1.0)
    assert index.nearest("something new under the sun") is None


@pytest.mark.parametrize(
    "texts",
    [
        ["😠🙄😤", "😍", "👍👍", "🙂 🙃"],
        ["!!!", "???", "...", ":-)", ":-("],
        ["C", "C++", "C#", "R", "Go"],
        ["12", "2026", "3.14", "+49 30 1234", "€ 5"],
        ["@ann", "@bob", "@ann_b"],
        ["https://a.example/1", "https://b.example/2", "www.c.example"],
        ["ok 1", "ok 2", "no 1"],
        ["好吃", "难吃", "一般"],
        ["", "a", "b"],
    ],
)
def test_texts_of_hardly_any_letters_are_compared_as_they_stand(texts: list[str]) -> None:
    assert len(set(near_duplicate_groups(texts, 0.8))) == len(texts)


@pytest.mark.parametrize(
    "pair", [("Ok.", "ok!"), ("C#", " c# "), ("😠🙄😤", "😠🙄😤 "), ("@Ann", "@ann"), ("No", "no…")]
)
def test_equal_texts_of_hardly_any_letters_stay_on_one_side(pair: tuple[str, str]) -> None:
    assert len(set(near_duplicate_groups(pair, 0.8))) == 1


def test_texts_of_emoji_are_dealt_to_every_part() -> None:
    emoji = [f"{first}{second}" for first in "😠🙄😤😡👎💩🤮😒" for second in "😍👍🎉😊🥰🤩😋🙂"]
    rows = [SourceRow(id=str(i), text=text, label="ab"[i % 2]) for i, text in enumerate(emoji)]
    dealt = split(rows, ["a", "b"], SplitConfig(), seed=0)
    assert dealt.report["near_duplicates"] == 0
    assert dealt.report["parts"] == {"train": 38, "calibration": 10, "test": 16}
