"""Near-duplicates: found whatever the numbers, links and handles in them."""

from hybrid.data.duplicates import NearIndex, near_duplicate_groups

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
