"""What a live teacher writes for the rare classes: attributes first, then a text from a plan that keeps to them."""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from hybrid.config import SynthesizeConfig
from hybrid.llm import Usage, ask_all
from hybrid.llm.tasks.drafts import Attribute, attributes_request, draft_request, read_attributes, read_draft
from hybrid.teacher.vote_collection import Teacher
from hybrid.types import Draft, Example, Report

EXAMPLES = 4
"""Real texts of the class that a draft's prompt shows."""
ATTRIBUTE_EXAMPLES = 24
"""Real texts from which the attributes are read."""
OnDone = Callable[[int, int], None]


class _Asked(msgspec.Struct, frozen=True):
    id: str
    label: str
    parents: list[Example]
    attributes: dict[str, str]
    number: int


def write_drafts(
    rows: Sequence[Example],
    classes: Sequence[str],
    labels: Sequence[str],
    config: SynthesizeConfig,
    *,
    teacher: Teacher,
    seed: int,
    on_done: OnDone,
) -> list[Draft]:
    """Return `config.per_class` drafts of each class, each from a few training rows that carry it and from attributes.

    `rows` are training rows with their decided labels. The teacher names the attributes in one call; each draft draws
    a value of each. A draft that could not be read is refused.
    """
    if not classes:
        return []
    rng = np.random.default_rng(seed)
    seen = _drawn(rows, ATTRIBUTE_EXAMPLES, rng)
    reply = teacher.llm.ask(attributes_request(labels, seen, teacher.config, policy=teacher.policy))
    attributes = read_attributes(reply)
    asked = [_asked(rows, label, number, attributes, rng) for label in classes for number in range(config.per_class)]
    requests = [
        draft_request(
            one.label,
            labels,
            one.parents,
            teacher.config,
            policy=teacher.policy,
            attributes=one.attributes,
            temperature=config.temperatures[one.number % len(config.temperatures)] if config.temperatures else None,
            sample=one.number,
        )
        for one in asked
    ]
    replies = ask_all(requests, teacher.llm, teacher.config.workers, lambda done: on_done(done, len(requests)))
    return [
        _with_attributes(read_draft(one.id, one.label, one.parents, reply), one.attributes)
        for one, reply in zip(asked, replies, strict=True)
    ]


def _asked(
    rows: Sequence[Example], label: str, number: int, attributes: Sequence[Attribute], rng: np.random.Generator
) -> _Asked:
    parents = _drawn([row for row in rows if row.label == label], EXAMPLES, rng)
    drawn = {one.name: one.values[int(rng.integers(len(one.values)))] for one in attributes}
    return _Asked(f"draft/{label}/{number}", label, parents, drawn, number)


def _drawn(rows: Sequence[Example], n: int, rng: np.random.Generator) -> list[Example]:
    return [rows[i] for i in rng.choice(len(rows), size=min(n, len(rows)), replace=False)]


def _with_attributes(draft: Draft, attributes: dict[str, str]) -> Draft:
    drawn = "; ".join(f"{name}: {value}" for name, value in attributes.items())
    return msgspec.structs.replace(draft, plan=f"{draft.plan} [{drawn}]".strip())


def cost_between(before: Usage | None, after: Usage | None) -> Report:
    """Return the calls, tokens and USD that a model's use grew by; USD is None where a price is not known."""
    names = ("calls", "hits", "input_tokens", "output_tokens", "cost_usd")
    was, now = ({name: getattr(used, name, 0) for name in names} for used in (before, after))
    unknown = was["cost_usd"] is None or now["cost_usd"] is None
    return {name: None if name == "cost_usd" and unknown else now[name] - was[name] for name in names}
