"""Keys of an earlier release go under their new names, all of them and nothing else."""

import logging
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.errors import ConfigError
from hybrid.toml_settings import RenamedKey, rename_keys
from tests.test_overrides import names, sections, values

TABLE = (
    RenamedKey("decoder.policy", "decoder.on_failure", values=("abstain", "error")),
    RenamedKey("decoder.llm", "decoder"),
    RenamedKey("decoder.usd", "decoder.usd_per_day"),
    RenamedKey("port", "listen.port"),
)


@given(sections)
def test_settings_without_old_keys_stay_as_they_are(raw: dict[str, Any]) -> None:
    raw.pop("port", None)
    raw.pop("decoder", None)
    assert rename_keys(raw, TABLE, "file") == raw


@given(st.dictionaries(names.map("new_".__add__), values, max_size=4))
def test_every_key_of_a_renamed_section_moves_and_the_section_is_gone(section: dict[str, Any]) -> None:
    raw = {"decoder": {"llm": section, "votes": 3}}
    before = deepcopy(raw)
    assert rename_keys(raw, TABLE, "file") == {"decoder": {**section, "votes": 3}}
    assert raw == before


def test_a_key_may_move_to_a_section_that_is_not_there_yet() -> None:
    assert rename_keys({"port": 1}, TABLE, "file") == {"listen": {"port": 1}}


def test_a_name_that_has_another_meaning_today_is_renamed_for_the_old_values_alone() -> None:
    assert rename_keys({"decoder": {"policy": "error"}}, TABLE, "file") == {"decoder": {"on_failure": "error"}}
    for policy in ("rules.md", 3, ["abstain"]):
        assert rename_keys({"decoder": {"policy": policy}}, TABLE, "file") == {"decoder": {"policy": policy}}


def test_each_old_key_logs_one_line_that_names_the_new_one(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        rename_keys({"decoder": {"usd": 1, "llm": {"model": "m"}}}, TABLE, "file")
    assert [record.getMessage() for record in caplog.records] == [
        "file: decoder.llm.model is now decoder.model; the old name is read until the next release",
        "file: decoder.usd is now decoder.usd_per_day; the old name is read until the next release",
    ]


def test_both_names_at_once_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"file: decoder\.usd is the old name of decoder\.usd_per_day, and both are set"
    ):
        rename_keys({"decoder": {"usd": 1, "usd_per_day": 1}}, TABLE, "file")


@pytest.mark.parametrize(
    "raw",
    [{"port": 1, "listen": 2}, {"decoder": 3}, {"decoder": {"llm": 3}}, {"decoder": {"llm": {}}}, {"decoder": {}}, {}],
)
def test_what_is_no_section_is_left_to_the_types(raw: dict[str, Any]) -> None:
    renamed = rename_keys(raw, TABLE, "file")
    assert renamed in (raw, {"decoder": {}})
