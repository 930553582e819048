"""From a TOML file and overrides to a typed struct: a message names the key, what came, what was expected and what to do."""

import difflib
import logging
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from hybrid.errors import ConfigError

S = TypeVar("S", bound=msgspec.Struct)
_log = logging.getLogger(__name__)


class RenamedKey(msgspec.Struct, frozen=True):
    """A setting, or a whole section, that had another name in the last release."""

    old: str
    """The dotted key, such as `decoder.usd_a_day`."""
    new: str
    values: tuple[str, ...] = ()
    """Where the old name means something else today: the values by which the old setting is told. Empty: any value."""


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Read a TOML file; `what` names the kind of file in messages, such as "recipe".

    Raises:
        ConfigError: the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a {what} that exists") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save the {what} as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}; correct that line") from error


def rename_keys(raw: Mapping[str, Any], renamed: Iterable[RenamedKey], where: str) -> dict[str, Any]:
    """Return a copy of `raw` with old keys under their new names; each one found logs a line that names the new one.

    Raises:
        ConfigError: a setting is there under both names.
    """
    copy = _copy(raw)
    for key in renamed:
        value = _get(copy, key.old)
        if isinstance(value, dict):
            for name in tuple(value):
                _move(copy, f"{key.old}.{name}", f"{key.new}.{name}", where)
            _pop(copy, key.old)
        elif value is not None and _may_move(copy, key, value):
            _move(copy, key.old, key.new, where)
    return copy


def to_struct(raw: Mapping[str, Any], struct: type[S], where: str, what: str) -> S:
    """Convert to a typed struct; `where` (a file) and `what` ("recipe") stand in the message.

    Raises:
        ConfigError: a key is unknown or missing, or a value is of another type or out of range.
    """
    try:
        return msgspec.convert(raw, struct)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_explain(str(error), raw, struct, what)}") from error


def _explain(message: str, raw: Mapping[str, Any], struct: type[msgspec.Struct], what: str) -> str:
    """Turn msgspec's `... - at `$.verify.votes`` into a dotted key with the value that came."""
    problem, _, location = message.partition(" - at `$")
    keys = [key for key in location.rstrip("`").replace("[...]", "").split(".") if key]
    if problem.startswith("Object contains unknown field"):
        unknown = problem.split("`")[1]
        known = [field.name for field in msgspec.structs.fields(_type_of(struct, keys))]
        near = difflib.get_close_matches(unknown, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"{'.'.join([*keys, unknown])}: unknown key; {hint}known here: {', '.join(known)}"
    if problem.startswith("Invalid enum value"):
        *choices, last = [repr(choice) for choice in _choices(_type_of(struct, keys))]
        problem = f"expected {', '.join(choices)} or {last}" if choices else f"expected {last}"
    value = _get(raw, ".".join(keys)) if keys else raw
    shown_value = "" if isinstance(value, Mapping) else f" = {value!r}"
    return f"{'.'.join(keys) or what}{shown_value}: {problem[:1].lower()}{problem[1:]}; correct it in the {what}"


def _type_of(struct: Any, keys: list[str]) -> Any:
    """The annotation of a dotted key."""
    for key in keys:
        struct = next(field.type for field in msgspec.structs.fields(struct) if field.name == key)
    return struct


def _choices(annotation: Any) -> list[Any]:
    """The values of every `Literal` in an annotation."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [choice for part in get_args(annotation) for choice in _choices(part)]


def _copy(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in raw.items()}


def _get(raw: Mapping[str, Any], dotted: str) -> Any:
    """The value of a dotted key; None where there is none, which TOML cannot write."""
    value: Any = raw
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _pop(raw: dict[str, Any], dotted: str) -> Any:
    parent, _, name = dotted.rpartition(".")
    return (_get(raw, parent) if parent else raw).pop(name)


def _may_move(raw: dict[str, Any], key: RenamedKey, value: Any) -> bool:
    """Whether this is the old setting. A value in the place of a section is left to the types, whose message says so."""
    section = _get(raw, key.new.rpartition(".")[0])
    is_section = key.old.startswith(f"{key.new}.")
    return not is_section and (section is None or isinstance(section, dict)) and value in (key.values or (value,))


def _move(raw: dict[str, Any], old: str, new: str, where: str) -> None:
    if _get(raw, new) is not None:
        raise ConfigError(f"{where}: {old} is the old name of {new}, and both are set; leave {old} out")
    value = _pop(raw, old)
    *sections, name = new.split(".")
    target = raw
    for section in sections:
        target = target.setdefault(section, {})
    target[name] = value
    _log.warning("%s: %s is now %s; the old name is read until the next release", where, old, new)
