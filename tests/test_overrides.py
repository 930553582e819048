"""Settings from the command line: every value that TOML can write is read as it was meant, and a section never crashes a value."""

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.errors import ConfigError
from hybrid.overrides import merge, parse_settings

names = st.from_regex(r"[a-z][a-z_]{0,4}", fullmatch=True)
keys = st.lists(names, min_size=1, max_size=3)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | texts
values = scalars | st.lists(texts, max_size=3)
settings_trees = st.recursive(values, lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=8)
sections = st.dictionaries(names, settings_trees, max_size=4)


def toml(value: Any) -> str:
    """A value as TOML writes it. JSON is TOML but for DEL, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def nested(path: list[str], value: Any) -> Any:
    return {path[0]: nested(path[1:], value)} if path else value


def at(raw: Any, path: list[str]) -> Any:
    for name in path:
        raw = raw[name]
    return raw


@given(keys, values)
def test_a_value_in_toml_is_read_as_that_value(path: list[str], value: Any) -> None:
    assert parse_settings([f"{'.'.join(path)}={toml(value)}"]) == nested(path, value)


@given(keys, texts)
def test_a_value_without_quotes_is_read_as_the_text_itself_where_it_is_not_toml(path: list[str], text: str) -> None:
    word = f"?{text}"
    assert parse_settings([f"{'.'.join(path)}={word}"]) == nested(path, word)


@pytest.mark.parametrize(
    "text", ["2026-11-30", "12:30:00", "2026-11-30T12:30:00Z", "1\nother = 2", "", "a = b", "9" * 5000]
)
def test_what_no_setting_can_be_is_a_text(text: str) -> None:
    assert parse_settings([f"data.test={text}"]) == {"data": {"test": text}}


@given(
    st.lists(st.text(max_size=20) | st.tuples(keys, values).map(lambda pair: f"{'.'.join(pair[0])}={toml(pair[1])}"))
)
def test_any_list_of_words_is_read_or_is_one_sentence(words: list[str]) -> None:
    try:
        parsed = parse_settings(words)
    except ConfigError as error:
        assert "expected KEY=VALUE" in str(error)
    else:
        assert bool(parsed) == bool(words)


@given(st.lists(st.tuples(keys, values), min_size=1, max_size=5))
def test_the_last_setting_of_a_key_is_the_one_that_holds(pairs: list[tuple[list[str], Any]]) -> None:
    path, value = pairs[-1]
    assert at(parse_settings([f"{'.'.join(key)}={toml(one)}" for key, one in pairs]), path) == value


@pytest.mark.parametrize("word", ["", "=", "=3", "train", "train.=3", ".epochs=3", "train..epochs=3"])
def test_a_word_that_is_no_setting_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=r"--set .*: expected KEY=VALUE, such as train\.epochs=6"):
        parse_settings([word])


@given(sections, sections)
def test_merging_keeps_what_only_one_has_and_takes_the_upper_value_where_both_have_one(
    under: dict[str, Any], over: dict[str, Any]
) -> None:
    merged = merge(under, over)
    assert merged.keys() == under.keys() | over.keys()
    for key, value in merged.items():
        if key not in over:
            assert value == under[key]
        elif isinstance(over[key], dict) and isinstance(under.get(key), dict):
            assert value == merge(under[key], over[key])
        else:
            assert value == over[key]


@given(sections, sections)
def test_merging_changes_neither_and_merging_again_changes_nothing(under: dict[str, Any], over: dict[str, Any]) -> None:
    before = deepcopy((under, over))
    merged = merge(under, over)
    assert (under, over) == before
    assert merge(merged, over) == merged
    assert merge(under, {}) == under
    assert merge({}, over) == over
