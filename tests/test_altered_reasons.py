"""Reasons altered on purpose: what each alteration takes away, and what it leaves."""

from collections import Counter

import pytest

from hybrid.student.altered_reasons import FILLER, MASK, altered, word_importance
from hybrid.student.training_data import TrainedRow

LABELS = ("negative", "positive")
REASONS = {
    "negative": ('"{}" is clearly negative, a complaint', "the writer is sad about {} today"),
    "positive": ('"{}" is positively glad praise', "the writer is glad about {} today"),
}
ROWS = [
    TrainedRow(
        id=f"r{i}",
        text=f"text {i}",
        label=label,
        weight=1.0,
        status="with_reason",
        reasons=tuple(reason.format(f"thing{i}") for reason in REASONS[label][: 1 + i % 2]),
        labels=(label,) * (1 + i % 2),
    )
    for i, label in enumerate(LABELS * 10)
] + [TrainedRow(id="none", text="t", label="negative", weight=1.0, status="label_only")]


def reasons_of(how: str, seed: int = 0) -> list[tuple[str, ...]]:
    return [row.reasons for row in altered(ROWS, how, LABELS, seed=seed)]


def test_nothing_but_the_reasons_changes_and_every_reason_stays_one() -> None:
    for how in ("shuffled", "masked:0.3", "masked_keywords:0.3", "keywords:3", "padded", "wrong_row", "label_removed"):
        rows = altered(ROWS, how, LABELS, seed=0)
        assert [(r.id, r.text, r.label, r.labels) for r in rows] == [(r.id, r.text, r.label, r.labels) for r in ROWS]
        assert [len(r.reasons) for r in rows] == [len(r.reasons) for r in ROWS]
        assert all(reason for r in rows for reason in r.reasons)
        assert reasons_of(how) == [r.reasons for r in rows], "a seed alters the same again"


def test_shuffled_words_are_the_same_words() -> None:
    changed = reasons_of("shuffled")
    pairs = [(a, b) for row, own in zip(ROWS, changed, strict=True) for a, b in zip(row.reasons, own, strict=True)]
    assert all(Counter(a.split()) == Counter(b.split()) for a, b in pairs)
    assert sum(a != b for a, b in pairs) > 0.9 * len(pairs)
    assert reasons_of("shuffled", seed=1) != changed


def test_masks_stand_for_their_share_of_the_words() -> None:
    for how in ("masked:0.5", "masked_keywords:0.5"):
        for row, own in zip(ROWS, reasons_of(how), strict=True):
            for before, after in zip(row.reasons, own, strict=True):
                assert after.split().count(MASK) == round(0.5 * len(before.split()))
                assert all(b in (a, MASK) for a, b in zip(before.split(), after.split(), strict=True))


def test_keywords_are_the_words_that_tell_the_labels_apart() -> None:
    importance = word_importance(ROWS)
    assert importance["glad", "positive"] > 0 > importance["glad", "negative"]
    kept = reasons_of("keywords:2")
    assert all("glad" in own[0] for row, own in zip(ROWS, kept, strict=True) if row.label == "positive")
    assert all(len(reason.split()) <= 2 for own in kept for reason in own)
    hidden = reasons_of("masked_keywords:0.2")
    assert not any("glad" in own[0] for row, own in zip(ROWS, hidden, strict=True) if row.label == "positive")


def test_filler_is_as_long_and_says_nothing() -> None:
    for row, own in zip(ROWS, reasons_of("padded"), strict=True):
        for before, after in zip(row.reasons, own, strict=True):
            assert set(after.split()) == {FILLER}
            assert len(after.split()) == len(before.split())


def test_each_row_gets_the_reasons_of_other_rows_alone() -> None:
    dealt = reasons_of("wrong_row")
    for row, own in zip(ROWS, dealt, strict=True):
        assert not set(row.reasons) & set(own)


def test_the_words_of_the_labels_are_gone_and_what_else_was_said_stays() -> None:
    gone = reasons_of("label_removed+shuffled")
    words = [word for own in gone for reason in own for word in reason.lower().split()]
    assert not any(word.startswith(("negativ", "positiv")) for word in words)
    assert any("complaint" in word for word in words)


@pytest.mark.parametrize("labels", [("negative",) * 20, ()])
def test_with_one_label_no_word_is_important(labels: tuple[str, ...]) -> None:
    rows = [row for row in ROWS if row.label == "negative" and labels]
    assert word_importance(rows) == {}
