"""What a reason quotes of a text is found as a person would find it, and nothing else is."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.data.quotes import merged, quoted_spans, quotes_in


def quoted(text: str, reason: str) -> list[str]:
    return [text[start:end] for start, end in quoted_spans(text, reason).spans]


@pytest.mark.parametrize(
    ("text", "reason", "expected"),
    [
        ("LMAO, AMAZING day", '"lmao, amazing" is praise.', ["LMAO, AMAZING"]),
        ("I can\u2019t wait", "\u201ccan't wait\u201d is eager.", ["can\u2019t wait"]),
        ("It's a mess", "'It\u2019s a mess' complains.", ["It's a mess"]),
        ("so   very\nhappy", '"so very happy" is joy.', ["so   very\nhappy"]),
        ("The food was cold and the staff rude", '"food was cold ... staff rude"', ["food was cold", "staff rude"]),
        ("The food was cold and the staff rude", '"staff rude \u2026 food was cold"', []),
        ("well... fine", '"well... fine" is resigned.', ["well... fine"]),
        ("good food and wine", 'It has "good food," and warmth.', ["good food"]),
        ("no, no, no", '"no" thrice.', ["no", "no", "no"]),
        ("very good food", '"very good" and "good food" please.', ["very good food"]),
        ("some song", '"so" is not a word of it.', []),
        ("Yay. Supper. Yay.", 'Two "Yay"s.', ["Yay", "Yay"]),
        ("bad mood. :'(", 'The face ":\'(" cries.', [":'("]),
        ("He said \"no\" twice", '"He said "no" twice" refuses.', ['He said "no']),
        ("\u6599\u7406\u304c\u7f8e\u5473\u3057\u3044", "\u300c\u7f8e\u5473\u3057\u3044\u300d\u306f\u826f\u3044", ["\u7f8e\u5473\u3057\u3044"]),
        ("Stra\u00dfe kaputt", '"STRASSE kaputt" complains.', ["Stra\u00dfe kaputt"]),
        ("\ufb01ne work", "\u00ab fine work \u00bb praises.", ["\ufb01ne work"]),
        ("its 5\" screen", "It doesn't like the 5\" screen's size.", []),
        ("fine", "No quote at all; the writer's mood isn't clear.", []),
    ],
)  # fmt: skip
def test_a_quote_is_found_whatever_its_case_typography_and_gaps(text: str, reason: str, expected: list[str]) -> None:
    assert quoted(text, reason) == expected


def test_quotes_that_are_not_in_the_text_are_counted() -> None:
    found = quoted_spans("good food", '"good food", "great wine" and "so" please.')
    assert (found.n_quotes, found.n_missing) == (3, 2)


def test_a_text_or_a_reason_without_anything_has_no_spans() -> None:
    assert quoted_spans("", '"good"').spans == quoted_spans("good", "").spans == quoted_spans("good", '""').spans == ()


def test_a_reason_of_thousands_of_words_is_read() -> None:
    found = quoted_spans("good food", "word " * 3000 + '"good food" ends it.')
    assert found.spans == ((0, 9),)


def test_spans_that_touch_are_one() -> None:
    assert merged([(5, 7), (0, 2), (2, 3), (6, 9)]) == ((0, 3), (5, 9))


@given(st.text(max_size=40), st.text(max_size=60))
def test_whatever_text_and_reason_the_spans_are_in_the_text_in_order_and_apart(text: str, reason: str) -> None:
    spans = quoted_spans(text, reason).spans
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert all(before[1] < after[0] for before, after in pairwise(spans))


@given(st.text(alphabet="abc \u00e9", min_size=1, max_size=20).filter(lambda quote: quote == quote.strip()))
def test_what_stands_between_quotes_is_read_whole(quote: str) -> None:
    assert list(quotes_in(f'It says "{quote}".')) == [quote]
