"""Have a live teacher write drafts for rare classes: it names attributes first, then writes a text for drawn values."""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from hybrid.config import SynthesizeConfig
from hybrid.llm import Usage, ask_all
from hybrid.llm.tasks.drafts import Attribute, attributes_request, draft_request, read_attributes, read_draft
from hybrid.teacher.vote_collection import Teacher
from hybrid.types import Draft, Example, Report

EXAMPLES = 4
"""The number of real texts of the class in a draft's prompt."""
ATTRIBUTE_EXAMPLES = 24
"""The number of real texts in the prompt that asks for attributes."""
OnDone = Callable[[int, int], None]


class _DraftTask(msgspec.Struct, frozen=True):
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
    """Write `config.per_class` drafts of each class, each from a few training rows of that class and drawn attributes.

    `rows` are training rows with their decided labels. The teacher names the attributes in one call, and each draft is
    given a random value of each. A draft that cannot be read is refused.
    """
    if not classes:
        return []
    rng = np.random.default_rng(seed)
    shown = _drawn(rows, ATTRIBUTE_EXAMPLES, rng)
    reply = teacher.llm.ask(attributes_request(labels, shown, teacher.config, policy=teacher.policy))
    attributes = read_attributes(reply)
    tasks = [_task(rows, label, number, attributes, rng) for label in classes for number in range(config.per_class)]
    requests = [
        draft_request(
            task.label,
            labels,
            task.parents,
            teacher.config,
            policy=teacher.policy,
            attributes=task.attributes,
            temperature=config.temperatures[task.number % len(config.temperatures)] if config.temperatures else None,
            sample=task.number,
        )
        for task in tasks
    ]
    replies = ask_all(
        requests,
        teacher.llm,
        teacher.config.workers,
        lambda done: on_done(done, len(requests)),
        names=[task.id for task in tasks],
        max_failed=teacher.config.max_failed,
    )
    return [
        _with_attributes(read_draft(task.id, task.label, task.parents, reply), task.attributes)
        for task, reply in zip(tasks, replies, strict=True)
    ]


def _task(
    rows: Sequence[Example], label: str, number: int, attributes: Sequence[Attribute], rng: np.random.Generator
) -> _DraftTask:
    parents = _drawn([row for row in rows if row.label == label], EXAMPLES, rng)
    drawn = {attribute.name: attribute.values[int(rng.integers(len(attribute.values)))] for attribute in attributes}
    return _DraftTask(f"draft/{label}/{number}", label, parents, drawn, number)


def _drawn(rows: Sequence[Example], n: int, rng: np.random.Generator) -> list[Example]:
    return [rows[i] for i in rng.choice(len(rows), size=min(n, len(rows)), replace=False)]


def _with_attributes(draft: Draft, attributes: dict[str, str]) -> Draft:
    drawn = "; ".join(f"{name}: {value}" for name, value in attributes.items())
    return msgspec.structs.replace(draft, plan=f"{draft.plan} [{drawn}]".strip())


def cost_between(before: Usage | None, after: Usage | None) -> Report:
    """Report the calls, tokens and USD between two usage readings; USD is None if a price is unknown."""
    names = ("calls", "hits", "input_tokens", "output_tokens", "cost_usd")
    start, end = ({name: getattr(usage, name, 0) for name in names} for usage in (before, after))
    unknown = start["cost_usd"] is None or end["cost_usd"] is None
    return {name: None if name == "cost_usd" and unknown else end[name] - start[name] for name in names}
