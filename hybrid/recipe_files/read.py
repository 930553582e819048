"""Read a recipe: its TOML with a profile and overrides merged in, then checks of values that must go together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybrid.config import CalibrateConfig, CleanConfig, Recipe
from hybrid.data.label_spellings import alike_groups, spelled
from hybrid.errors import ConfigError
from hybrid.llm import backend_of
from hybrid.llm.backends import STUDENT, check_llm
from hybrid.overrides import merge
from hybrid.toml_settings import read_toml, to_struct
from hybrid.types import LABEL_SEPARATOR


def read_recipe(path: Path, *, profile: str = "", overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read the recipe at `path`, with one of its profiles and then `overrides` merged in.

    Raises:
        ConfigError: the file is not TOML, a key is unknown, a value is out of range, the profile does not exist, or two
            values do not go together.
    """
    merged = merge(_with_profile(read_toml(path, "recipe"), profile, path), overrides or {})
    recipe = to_struct(merged, Recipe, str(path), "recipe")
    _check(recipe, path)
    return recipe


def _with_profile(raw: dict[str, Any], chosen: str, path: Path) -> dict[str, Any]:
    profiles = raw.pop("profiles", {})
    name = chosen or raw.get("profile", "")
    if not isinstance(profiles, dict) or not all(isinstance(profile, dict) for profile in profiles.values()):
        raise ConfigError(f"{path}: profiles: expected one section [profiles.NAME] for each; correct it in the recipe")
    if name and name not in list(profiles):
        known = ", ".join(profiles) or "none"
        raise ConfigError(f"{path}: profile {name!r} is not in the recipe (it has: {known}); choose one of those")
    return merge(raw, profiles[name]) | {"profile": name} if name else raw


def _check(recipe: Recipe, path: Path) -> None:
    """Raise `ConfigError` where values that are each well-formed do not go together."""
    _check_verify(recipe, path)
    _check_clean(recipe, path)
    _check_calibrate(recipe, path)
    if len(set(recipe.labels)) != len(recipe.labels):
        raise ConfigError(f"{path}: labels = {list(recipe.labels)}: a label is there twice; expected each once")
    alike = alike_groups(recipe.labels) if recipe.data.alike_labels != "keep" else []
    if alike:
        raise ConfigError(
            f"{path}: labels: labels that a reader cannot tell apart: {' and '.join(map(spelled, alike[0]))}; keep one, or "
            'set data.alike_labels = "keep" if they are different ones'
        )
    if recipe.encoder.windows != "none" and 2 * recipe.encoder.overlap > recipe.encoder.max_length:
        raise ConfigError(
            f"{path}: encoder.overlap = {recipe.encoder.overlap}: expected at most half of encoder.max_length "
            f"({recipe.encoder.max_length}); lower it"
        )
    if recipe.encoder.windows != "none" and recipe.encoder.truncate != "right":
        raise ConfigError(
            f"{path}: encoder.truncate = {recipe.encoder.truncate!r} with encoder.windows: windows cut nothing; "
            "leave one of the two out"
        )
    if len(recipe.labels) == 1:
        raise ConfigError(f"{path}: labels = {list(recipe.labels)}: expected two labels or more, got one")
    if bool(recipe.data.prepare) == bool(recipe.data.train):
        raise ConfigError(
            f"{path}: [data]: expected either 'train' (a file) or 'prepare' (a Python file), one of the two"
        )
    for section, llm in (("teacher", recipe.teacher), ("second", recipe.second), ("decoder", recipe.decoder)):
        check_llm(llm, f"{path}: {section}")
    _check_student(recipe, path)
    if recipe.task == "multi_label":
        _check_multi_label(recipe, path)


def _check_student(recipe: Recipe, path: Path) -> None:
    """Raise `ConfigError` where a run would train a student on reasons that nobody gives, or alter them in no known way."""
    if recipe.student.altered:
        # Imported here, for it needs scikit-learn.
        from hybrid.student.altered_reasons import parse_alterations

        try:
            parse_alterations(recipe.student.altered)
        except ConfigError as error:
            raise ConfigError(f"{path}: student.altered: {error}") from error
    is_reasoned = not backend_of(recipe.teacher).is_absent or recipe.verify.imports or recipe.student.traces
    if recipe.decoder.model == STUDENT and recipe.student.layout != "direct" and not is_reasoned:
        raise ConfigError(
            f"{path}: decoder.model = 'student' without reasons to learn from: set teacher.model, name files with reasons in "
            "student.traces, or set student.layout = 'direct'"
        )


def _check_verify(recipe: Recipe, path: Path) -> None:
    """Raise `ConfigError` where votes cannot make a majority, or further calls have no teacher or no question."""
    if recipe.verify.votes % 2 == 0:
        raise ConfigError(f"{path}: verify.votes = {recipe.verify.votes}: expected an odd number, 1 or more")
    if 0 < recipe.verify.max_calls < recipe.verify.votes:
        raise ConfigError(
            f"{path}: verify.max_calls = {recipe.verify.max_calls}: expected 0 (no limit) or at least the "
            f"{recipe.verify.votes} votes of one row"
        )
    if not recipe.verify.more_calls:
        return
    if recipe.verify.more == "second" and backend_of(recipe.second).is_absent:
        raise ConfigError(
            f"{path}: verify.more = 'second': expected a section [second] with the model of a second teacher"
        )
    if recipe.verify.more == "reasoned" and recipe.verify.answer == "reasoned":
        raise ConfigError(
            f"{path}: verify.more = 'reasoned' with verify.answer = 'reasoned': the first answer has its reasoning; "
            "expected verify.answer = 'direct', or verify.more = 'votes' or 'second'"
        )


def _check_clean(recipe: Recipe, path: Path) -> None:
    """Raise `ConfigError` where there is no such method of cleaning."""
    method = recipe.clean.method
    if method == CleanConfig().method:
        return  # most recipes: read without numpy
    from hybrid.labels.methods import AUTO, METHODS

    if method not in (AUTO, *METHODS):
        known = ", ".join((AUTO, *METHODS))
        raise ConfigError(f"{path}: clean.method = {method!r}: expected one of {known}; correct it in the recipe")


def _check_calibrate(recipe: Recipe, path: Path) -> None:
    """Raise `ConfigError` where a method of calibration does not exist, or where one label a text has none to try."""
    methods = recipe.calibrate.methods
    if methods == CalibrateConfig().methods:
        return  # most recipes: read without numpy
    from hybrid.runtime.calibration import CALIBRATORS

    known = [method for method, entry in CALIBRATORS.items() if entry.in_recipe]
    none_tried = not methods and recipe.task == "single_label"
    if none_tried or not set(methods) <= set(known):
        raise ConfigError(
            f"{path}: calibrate.methods = {list(methods)}: expected some of {', '.join(known)}; correct it in the recipe"
        )


def _check_multi_label(recipe: Recipe, path: Path) -> None:
    """Raise `ConfigError` where the recipe sets what works with one label a text only."""
    is_set = {
        "teacher.model": not backend_of(recipe.teacher).is_absent,
        "decoder.model": not backend_of(recipe.decoder).is_absent,
        "synthesize.use": recipe.synthesize.use is True,
        "synthesize.drafts": bool(recipe.synthesize.drafts),
        "data.annotators": bool(recipe.data.annotators),
        "data.trusted": bool(recipe.data.trusted),
        "data.audit": bool(recipe.data.audit),
        "verify.imports": bool(recipe.verify.imports),
    }
    for key, value in is_set.items():
        if value:
            raise ConfigError(
                f"{path}: {key} is set with task = 'multi_label': a teacher, a decoder, drafts, annotators and trusted "
                "rows work with one label a text only; leave it out"
            )
    for label in recipe.labels:
        if LABEL_SEPARATOR in label or recipe.data.separator in label or label != label.strip() or not label:
            raise ConfigError(
                f"{path}: labels: {label!r} with task = 'multi_label': expected a name without {LABEL_SEPARATOR!r}, without "
                f"data.separator ({recipe.data.separator!r}) and without outer white space; rename it"
            )
