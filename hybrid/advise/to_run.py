"""The recipe that an advice writes: the settings that its verdict needs, and for a prompt a policy with examples."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hybrid.advise.advice import Advice
from hybrid.advise.measurements import Teacher
from hybrid.advise.tree import beats_encoder
from hybrid.config import LLMConfig
from hybrid.overrides import merge

POLICY = "policy.md"
EXAMPLES_A_LABEL = 4
WORTH_CHECKING = 0.05
"""The share of wrong labels from which a teacher that is right more often is worth asking about training rows."""


def settings_of(advice: Advice, teacher: LLMConfig) -> dict[str, Any]:
    """The settings of the recipe to run, beside those of `hybrid new`."""
    verdict = advice.decision.verdict
    section = _changed(teacher)
    settings: dict[str, Any] = {}
    if verdict in ("cascade", "llm_with_examples") and section:
        settings["decoder"] = section
    if verdict == "decoder_student":
        settings["decoder"] = {"model": "student"}
    if verdict == "llm_with_examples":
        settings = merge(settings, {"decoder": {"policy": POLICY}, "teacher": {"policy": POLICY}})
    if section and (verdict != "fine_tuned_encoder" or _worth_checking(advice)):
        settings = merge(settings, {"teacher": section, "verify": {"answer": _answer(advice)}})
    return settings


def policy_of(examples: Mapping[str, Sequence[str]]) -> str:
    """A labelling policy of examples alone, for a person to complete."""
    lines = ["Examples of each label, from the training rows. Add a sentence on what decides between the labels.", ""]
    for label, texts in examples.items():
        lines += [f"## {label}", *(f"- {' '.join(text.split())}" for text in texts), ""]
    return "\n".join(lines)


def _changed(config: LLMConfig) -> dict[str, Any]:
    """The settings of a section that are not at their defaults; empty where no model is named."""
    if config.model == LLMConfig().model:
        return {}
    default = msgspec.to_builtins(LLMConfig())
    changed = {key: each for key, each in msgspec.to_builtins(config).items() if default.get(key) != each}
    changed.pop("budget_usd", None)
    return changed


def _worth_checking(advice: Advice) -> bool:
    noise = advice.measured.noise
    share = noise.counted.value if noise.counted else noise.estimated
    return share > WORTH_CHECKING and beats_encoder(advice.measured)


def _answer(advice: Advice) -> str:
    teacher = advice.measured.teacher
    return teacher.best.answer if isinstance(teacher, Teacher) else "reasoned"
