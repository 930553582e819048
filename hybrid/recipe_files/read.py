"""A recipe from its file: TOML, a profile and overrides merged in, and values that go together."""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from hybrid.config import LEAST_TOKENS_TO_THINK, CalibrateConfig, LLMConfig, Recipe
from hybrid.errors import ConfigError
from hybrid.llm import backend_of
from hybrid.overrides import merge
from hybrid.types import LABEL_SEPARATOR


def read_recipe(path: Path, *, profile: str = "", overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe at `path` with one of its profiles and then `overrides` merged in.

    Raises:
        ConfigError: the file is not TOML, a key is unknown, a value is out of range, or the
            profile does not exist.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); name a recipe or a recipe.toml that exists"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save the recipe as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}; mend that line") from error
    merged = merge(_with_profile(raw, profile, path), overrides or {})
    try:
        recipe = msgspec.convert(merged, Recipe)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_explain(str(error), merged)}") from error
    _check(recipe, path)
    return recipe


def _with_profile(raw: dict[str, Any], wanted: str, path: Path) -> dict[str, Any]:
    profiles = raw.pop("profiles", {})
    name = wanted or raw.get("profile", "")
    if name and name not in profiles:
        known = ", ".join(profiles) or "none"
        raise ConfigError(f"{path}: profile {name!r} is not in the recipe (it has: {known}); choose one of those")
    return merge(raw, profiles[name]) | {"profile": name} if name else raw


def _explain(message: str, raw: Mapping[str, Any]) -> str:
    """Turn `... - at `$.verify`` into a dotted key with the value that came."""
    said, _, where = message.partition(" - at `$")
    keys = [key for key in where.rstrip("`").replace("[...]", "").split(".") if key]
    if "unknown field" in said:
        unknown = said.split("`")[1]
        known = _known_keys(keys)
        near = difflib.get_close_matches(unknown, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"{'.'.join([*keys, unknown])}: unknown key; {hint}known here: {', '.join(known)}"
    value: Any = raw
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else value
    came = f" = {value!r}" if keys and not isinstance(value, Mapping) else ""
    return f"{'.'.join(keys) or 'recipe'}{came}: {said[:1].lower()}{said[1:]}; correct it in the recipe"


def _known_keys(keys: list[str]) -> list[str]:
    struct: Any = Recipe
    for key in keys:
        struct = struct.__annotations__[key]
    return [field.name for field in msgspec.structs.fields(struct)]


def _check(recipe: Recipe, path: Path) -> None:
    """Raise `ConfigError` where values that are each well-formed do not go together."""
    _check_verify(recipe, path)
    _check_calibrate(recipe, path)
    if len(set(recipe.labels)) != len(recipe.labels):
        raise ConfigError(f"{path}: labels = {list(recipe.labels)}: a label stands there twice; want each once")
    if recipe.encoder.windows != "none" and 2 * recipe.encoder.overlap > recipe.encoder.max_length:
        raise ConfigError(
            f"{path}: encoder.overlap = {recipe.encoder.overlap}: want at most half of encoder.max_length "
            f"({recipe.encoder.max_length}); lower it"
        )
    if recipe.encoder.windows != "none" and recipe.encoder.truncate != "right":
        raise ConfigError(
            f"{path}: encoder.truncate = {recipe.encoder.truncate!r} with encoder.windows: windows cut nothing; "
            "leave one of the two out"
        )
    if len(recipe.labels) == 1:
        raise ConfigError(f"{path}: labels = {list(recipe.labels)}: one class only; want two labels or more")
    if bool(recipe.data.prepare) == bool(recipe.data.train):
        raise ConfigError(f"{path}: [data] wants either 'train' (a file) or 'prepare' (a Python file), one of the two")
    for section, llm in (("teacher", recipe.teacher), ("second", recipe.second), ("decoder", recipe.decoder)):
        if backend_of(llm, f"{path}: {section}").is_recorded and not llm.traces:
            raise ConfigError(f"{path}: {section}.model = 'recorded' wants {section}.traces, a JSONL file of answers")
        _check_thinking(llm, f"{path}: {section}")
    if recipe.task == "multi_label":
        _check_multi_label(recipe, path)


def _check_thinking(llm: LLMConfig, where: str) -> None:
    """Raise `ConfigError` where a model is to think in a way that its API refuses."""
    if llm.thinking is not UNSET and llm.temperature is not None:
        raise ConfigError(
            f"{where}.temperature with thinking: a model that thinks takes none; leave one of the two out"
        )
    if isinstance(llm.thinking, str) and llm.max_tokens < LEAST_TOKENS_TO_THINK:
        raise ConfigError(
            f"{where}.max_tokens = {llm.max_tokens} with thinking = {llm.thinking!r}: thinking counts within it; "
            f"want {LEAST_TOKENS_TO_THINK} or more"
        )


def _check_verify(recipe: Recipe, path: Path) -> None:
    """Raise `ConfigError` where votes cannot make a majority, or further calls have nobody or nothing to ask."""
    if recipe.verify.votes % 2 == 0:
        raise ConfigError(f"{path}: verify.votes = {recipe.verify.votes}: want an odd number, 1 or more")
    if 0 < recipe.verify.max_calls < recipe.verify.votes:
        raise ConfigError(
            f"{path}: verify.max_calls = {recipe.verify.max_calls}: not enough for the {recipe.verify.votes} votes of one "
            "row; want more calls, or 0 for no limit"
        )
    if not recipe.verify.more_calls:
        return
    if recipe.verify.more == "second" and backend_of(recipe.second).is_absent:
        raise ConfigError(f"{path}: verify.more = 'second' wants a section [second] with the model of a second teacher")
    if recipe.verify.more == "reasoned" and recipe.verify.answer == "reasoned":
        raise ConfigError(
            f"{path}: verify.more = 'reasoned' with verify.answer = 'reasoned': the first answer has its reasoning; "
            "want verify.answer = 'direct', or verify.more = 'votes' or 'second'"
        )


def _check_calibrate(recipe: Recipe, path: Path) -> None:
    """Raise `ConfigError` where a method of calibration does not exist, or where one label a text has none to try."""
    methods = recipe.calibrate.methods
    if methods == CalibrateConfig().methods:
        return  # most recipes: read without numpy
    from hybrid.runtime.calibration import CALIBRATORS

    known = [method for method in CALIBRATORS if method != "none"]
    none_tried = not methods and recipe.task == "single_label"
    if none_tried or not set(methods) <= set(known):
        raise ConfigError(
            f"{path}: calibrate.methods = {list(methods)}: expected some of {', '.join(known)}; correct it in the recipe"
        )


def _check_multi_label(recipe: Recipe, path: Path) -> None:
    """Raise `ConfigError` where the recipe asks for what several labels a text do not have yet."""
    asked = {
        "teacher.model": not backend_of(recipe.teacher).is_absent,
        "decoder.model": not backend_of(recipe.decoder).is_absent,
        "synthesize.use": recipe.synthesize.use is True,
        "synthesize.drafts": bool(recipe.synthesize.drafts),
        "data.annotators": bool(recipe.data.annotators),
        "data.trusted": bool(recipe.data.trusted),
        "data.audit": bool(recipe.data.audit),
        "verify.imports": bool(recipe.verify.imports),
    }
    for key, is_asked in asked.items():
        if is_asked:
            raise ConfigError(
                f"{path}: {key} is set with task = 'multi_label': a teacher, a decoder, drafts, annotators and trusted "
                "rows work with one label a text only; leave it out"
            )
    for label in recipe.labels:
        if LABEL_SEPARATOR in label or recipe.data.separator in label or label != label.strip() or not label:
            raise ConfigError(
                f"{path}: labels: {label!r} with task = 'multi_label': want a name without {LABEL_SEPARATOR!r}, without "
                f"data.separator ({recipe.data.separator!r}) and without outer white space; rename it"
            )
