"""Near-duplicates: found whatever the numbers, links and handles in them."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from datasketch import MinHash, MinHashLSH
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hybrid.config import SplitConfig
from hybrid.data import duplicates, links, minhash
from hybrid.data.duplicates import NearIndex, fold, jaccard, near_duplicate_groups, shingles
from hybrid.data.source_rows import SourceRow
from hybrid.stages.split import split
from tests.corpus import texts_and_gold

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


def reviews() -> list[str]:
    """Return texts of one pattern, many of them alike, with copies and near-copies and texts of hardly any letters."""
    texts, _ = texts_and_gold(250)
    copies = [*texts[:20], *(f"{text} Again!" for text in texts[20:40]), *(text.upper() for text in texts[40:50])]
    return [*texts, *copies, "C#", "c#", "😠🙄", "😠🙄 ", "好吃", "好吃!", "难吃", "", "12", "13", LONG]


def groups_of(n: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    rows, columns = np.array(pairs, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(n, n))
    return connected_components(graph, directed=False)[1].tolist()


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.9])
def test_the_pairs_are_those_of_datasketch_that_are_alike(threshold: float) -> None:
    texts = reviews()
    sets = [shingles(text) for text in texts]
    signatures = MinHash.bulk([[shingle.encode() for shingle in of_text] for of_text in sets], num_perm=128)
    lsh = MinHashLSH(threshold=threshold - 0.1, num_perm=128)
    for index, signature in enumerate(signatures):
        lsh.insert(index, signature)
    candidates = {(i, j) for i, signature in enumerate(signatures) for j in lsh.query(signature) if i < j}
    pairs = sorted((i, j) for i, j in candidates if jaccard(sets[i], sets[j]) >= threshold)
    assert len(pairs) > 30
    assert NearIndex(texts, threshold).pairs() == pairs
    assert near_duplicate_groups(texts, threshold).tolist() == groups_of(len(texts), pairs)


def test_signatures_are_those_of_datasketch() -> None:
    texts = [fold(text) for text in reviews()]
    own = minhash.signatures_of(texts, minhash.bands_for(0.8)).T
    theirs = MinHash.bulk([[shingle.encode() for shingle in minhash.windows(text)] for text in texts], num_perm=128)
    assert (own == np.array([signature.hashvalues[: own.shape[1]] for signature in theirs])).all()


def test_hardly_any_pair_is_missed_and_none_invented() -> None:
    texts = reviews()
    sets = [shingles(text) for text in texts]
    alike = {(i, j) for i, j in combinations(range(len(texts)), 2) if jaccard(sets[i], sets[j]) >= 0.8}
    pairs = set(NearIndex(texts, 0.8).pairs())
    assert pairs <= alike
    assert len(pairs) >= 0.99 * len(alike)


def test_nearest_copies_of_many_texts_are_those_of_each() -> None:
    texts = reviews()
    index = NearIndex(texts[:200], 0.7)
    assert list(index.nearest_each(texts)) == [index.nearest(text) for text in texts]
    assert list(index.nearest_each([])) == []


def test_chunks_of_texts_and_of_pairs_change_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = near_duplicate_groups(reviews(), 0.6)
    monkeypatch.setattr(minhash, "CHUNK_CHARACTERS", 200)
    monkeypatch.setattr(links, "LARGE", 3)
    monkeypatch.setattr(links, "PAIRS_TOGETHER", 7)
    assert (near_duplicate_groups(reviews(), 0.6) == whole).all()


def test_a_thousand_texts_that_are_all_alike_are_compared_a_few_times_each(monkeypatch: pytest.MonkeyPatch) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    sentence = (
        "Your parcel has left our store and will be with you by noon tomorrow, with kind regards from everyone at "
    )
    texts = [f"{sentence} {letters[i % 26]}{letters[i // 26 % 26]}{letters[i // 676]}" for i in range(1000)]
    n_compared = 0

    def counted(a: frozenset[str], b: frozenset[str]) -> float:
        nonlocal n_compared
        n_compared += 1
        return jaccard(a, b)

    monkeypatch.setattr(duplicates, "jaccard", counted)
    assert set(near_duplicate_groups(texts, 0.8)) == {0}
    assert n_compared < 3 * len(texts)
