"""Settings of the service: one [decoder] with a recipe's keys, and the keys of the last release with a line that names the new ones."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hybrid.config import LLMConfig
from hybrid.errors import ConfigError
from hybrid.overrides import parse_settings
from serving.settings import DecoderSettings, Settings, read_settings

MODEL = 'model = "judge"\nbase_url = "http://127.0.0.1:9"\n'
OLD_KEYS: dict[str, tuple[str, str, Any]] = {
    "decoder.policy": ('"abstain"', "on_failure", "abstain"),
    "decoder.timeout_ms": ("500", "deadline_ms", 500.0),
    "decoder.usd_an_hour": ("1.5", "usd_per_hour", 1.5),
    "decoder.usd_a_day": ("20", "usd_per_day", 20.0),
    "decoder.llm.model": ('"claude-opus-4-5"', "model", "claude-opus-4-5"),
    "decoder.llm.base_url": ('"http://127.0.0.1:7"', "base_url", "http://127.0.0.1:7"),
    "decoder.llm.max_tokens": ("99", "max_tokens", 99),
    "decoder.llm.temperature": ("0.5", "temperature", 0.5),
    "decoder.llm.thinking": ("2048", "thinking", 2048),
    "decoder.llm.workers": ("3", "workers", 3),
    "decoder.llm.timeout_s": ("4.5", "timeout_s", 4.5),
    "decoder.llm.cache": ("false", "cache", False),
    "decoder.llm.batch": ("true", "batch", True),
    "decoder.llm.budget_usd": ("7", "budget_usd", 7.0),
    "decoder.llm.traces": ('"/data/traces.jsonl"', "traces", "/data/traces.jsonl"),
    "decoder.llm.policy": ('"/data/rules.md"', "policy", "/data/rules.md"),
    "decoder.llm.prices": ('"/data/prices.toml"', "prices", "/data/prices.toml"),
}


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_decoder_has_every_key_of_a_recipes_and_the_same_defaults() -> None:
    in_recipe = {field.name: field.default for field in msgspec.structs.fields(LLMConfig)}
    in_service = {field.name: field.default for field in msgspec.structs.fields(DecoderSettings)}
    assert in_recipe.items() <= in_service.items()


def test_the_new_keys_are_read_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "service.toml"
    path.write_text(
        f'[decoder]\n{MODEL}policy = "rules.md"\non_failure = "error"\nusd_per_day = 2\ndeadline_ms = 300\n'
    )
    decoder = read_settings(path, {"decoder": {"votes": 3}}).decoder
    assert (decoder.model, decoder.policy, decoder.on_failure) == ("judge", str(tmp_path / "rules.md"), "error")
    assert (decoder.usd_per_day, decoder.usd_per_hour, decoder.deadline_ms, decoder.votes) == (2.0, None, 300.0, 3)
    assert lines_of(caplog) == []


@pytest.mark.parametrize("old", OLD_KEYS)
def test_an_old_key_is_read_and_one_line_names_the_new_one(
    old: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    toml, new, value = OLD_KEYS[old]
    rest = {"model": "judge", "base_url": "http://127.0.0.1:9"}
    rest.pop(new, None)
    path = tmp_path / "service.toml"
    path.write_text("".join(f'decoder.{key} = "{word}"\n' for key, word in rest.items()) + f"{old} = {toml}\n")
    assert getattr(read_settings(path).decoder, new) == value
    assert lines_of(caplog) == [f"{path}: {old} is now decoder.{new}; the old name is read until the next release"]
    caplog.clear()
    words = [*(f"decoder.{key}={word}" for key, word in rest.items()), f"{old}={toml}"]
    assert getattr(read_settings(None, parse_settings(words)).decoder, new) == value
    assert lines_of(caplog) == [f"--set: {old} is now decoder.{new}; the old name is read until the next release"]


def test_both_meanings_of_policy_in_one_old_file_go_to_their_own_keys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "service.toml"
    path.write_text(f'[decoder]\npolicy = "error"\n[decoder.llm]\n{MODEL}policy = "rules.md"\n')
    decoder = read_settings(path).decoder
    assert (decoder.on_failure, decoder.policy) == ("error", str(tmp_path / "rules.md"))
    assert len(lines_of(caplog)) == 4


def test_a_setting_under_both_of_its_names_is_an_error_and_an_override_wins_under_either(tmp_path: Path) -> None:
    path = tmp_path / "service.toml"
    path.write_text(f"[decoder]\n{MODEL}usd_a_day = 1\nusd_per_day = 2\n")
    message = (
        r"decoder\.usd_a_day is the old name of decoder\.usd_per_day, and both are set; leave decoder\.usd_a_day out"
    )
    with pytest.raises(ConfigError, match=message):
        read_settings(path)
    path.write_text(f"[decoder]\n{MODEL}usd_per_day = 2\n")
    assert read_settings(path, {"decoder": {"usd_a_day": 3}}).decoder.usd_per_day == 3
    path.write_text(f"[decoder]\n{MODEL}usd_a_day = 2\n")
    assert read_settings(path, {"decoder": {"usd_per_day": 3}}).decoder.usd_per_day == 3


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[decoder]\nmodle = 'none'", r"decoder\.modle: unknown key; did you mean 'model'\?"),
        ("[decoder.llm]\nmodle = 'none'", r"decoder\.modle: unknown key; did you mean 'model'\?"),
        (
            "[decoder]\non_failure = 'abstian'",
            r"decoder\.on_failure = 'abstian': expected 'local_label_flagged', 'abstain' or 'error'",
        ),
        ("[decoder]\nusd_per_day = 0", r"decoder\.usd_per_day = 0: expected `float` > 0"),
        ("[decoder]\nmodel = 'recorded'", r"decoder\.model = 'recorded': expected 'traces' beside it"),
        ("[decoder]\nmodel = 'judge'", r"decoder\.model = 'judge': unknown; expected 'none'"),
        ("[limits]\nitems = 0", r"limits\.items = 0: expected `int` >= 1; correct it in the settings"),
        ("port = 'x'", r"port = 'x': expected `int`, got `str`; correct it in the settings"),
        ("port = ", "not TOML"),
    ],
)
def test_a_wrong_setting_says_where_what_came_and_what_was_expected(toml: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "service.toml"
    path.write_text(toml)
    with pytest.raises(ConfigError, match=rf"service\.toml: {message}"):
        read_settings(path)


def test_without_a_file_the_defaults_hold() -> None:
    assert read_settings(None) == Settings()


def test_the_command_shows_the_line_on_standard_error(tmp_path: Path) -> None:
    words = ["--set", "decoder.llm.model=none"]
    command = [sys.executable, "-m", "serving", str(tmp_path), *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "--set: decoder.llm.model is now decoder.model; the old name is read until the next release" in ended.stderr
