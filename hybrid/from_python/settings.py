"""The settings of a recipe as Python gives them: keywords by section, with shorthands for what is set most."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybrid.errors import ConfigError
from hybrid.overrides import merge
from hybrid.recipe_files.encoder_names import encoder_settings

FILES = {
    "data": ("audit",),
    "teacher": ("traces", "policy", "prices"),
    "second": ("traces", "policy", "prices"),
    "decoder": ("traces", "policy", "prices"),
    "verify": ("imports",),
    "synthesize": ("drafts",),
}
"""Settings that name files, by section. A recipe counts their paths from its own folder, Python from the working directory."""
LANGUAGE_MODELS = ("teacher", "second", "decoder")


def recipe_settings(
    sections: Mapping[str, Any],
    *,
    encoder: str | Path | Mapping[str, Any],
    teacher: str | Mapping[str, Any],
    decoder: str | Mapping[str, Any],
    budget_usd: float | None,
) -> dict[str, Any]:
    """Gather the settings by section; what `sections` sets goes before what a short name brings along.

    Raises:
        ConfigError: a budget without a language model that is paid.
    """
    settings: dict[str, Any] = {}
    if encoder:
        section = dict(encoder) if isinstance(encoder, Mapping) else {"model": str(encoder)}
        named = encoder_settings(str(section.pop("model"))) if "model" in section else {}
        settings = merge(named, {"encoder": section})
    for role, model in (("teacher", teacher), ("decoder", decoder)):
        if model:
            settings = merge(settings, {role: dict(model) if isinstance(model, Mapping) else {"model": model}})
    settings = merge(settings, sections)
    if budget_usd is not None:
        settings = merge(settings, {_paid_role(settings): {"budget_usd": budget_usd}})
    return _from_here(settings)


def _paid_role(settings: Mapping[str, Any]) -> str:
    """The language model that a budget is for: the teacher, or a decoder where there is no teacher."""
    for role in ("teacher", "decoder"):
        section = settings.get(role, {})
        if isinstance(section, Mapping) and section.get("model", "none") not in ("none", "recorded", "local"):
            return role
    raise ConfigError(
        "fit: budget_usd without a language model that is paid; name one as teacher, or leave the budget out"
    )


def _from_here(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Make the paths of files absolute, counted from the working directory."""
    located = dict(settings)
    for section, keys in FILES.items():
        if not isinstance(located.get(section), Mapping):
            continue
        values = dict(located[section])
        for key in keys:
            if key in values:
                value = values[key]
                values[key] = (
                    [_absolute(each) for each in value] if isinstance(value, list | tuple) else _absolute(value)
                )
        if section in LANGUAGE_MODELS and _is_model_file(values):
            values["model"] = _absolute(values["model"])
        located[section] = values
    encoder = located.get("encoder")
    if isinstance(encoder, Mapping) and _is_folder(encoder.get("model")):
        located["encoder"] = {**encoder, "model": _absolute(encoder["model"])}
    return located


def _is_model_file(section: Mapping[str, Any]) -> bool:
    model = section.get("model")
    return isinstance(model, str | Path) and str(model).endswith(".gguf") and not str(model).startswith("hf:")


def _is_folder(model: object) -> bool:
    return isinstance(model, str | Path) and not str(model).startswith(("packaged:", "hf:"))


def _absolute(path: object) -> object:
    is_file = isinstance(path, str | Path) and str(path) and not str(path).startswith("hf:")
    return str(Path(str(path)).expanduser().resolve()) if is_file else path
