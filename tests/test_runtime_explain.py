"""Words: what explain hides, one at a time."""

import pytest

from hybrid.runtime.explain import without_each, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I don't like it!!", ["I", "don't", "like", "it", "!!"]),
        ("well-made, really", ["well", "-", "made", ",", "really"]),
        ("great :-) 10/10", ["great", ":-)", "10", "/", "10"]),
        ("很好吃", ["很", "好", "吃"]),
        ("맛이 좋다", ["맛이", "좋다"]),
        ("café crème", ["café", "crème"]),
    ],
)
def test_a_word_is_what_a_reader_would_take_for_one(text: str, words: list[str]) -> None:
    assert [text[start:end] for start, end in words_of(text)] == words


def test_each_word_is_hidden_once_and_the_rest_stays() -> None:
    text = "no, thanks"
    assert list(without_each(text, words_of(text), "[MASK]")) == ["[MASK], thanks", "no[MASK] thanks", "no, [MASK]"]
    assert list(without_each(text, words_of(text), "")) == [", thanks", "no thanks", "no, "]
