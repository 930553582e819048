"""Have a live teacher write drafts for rare classes: it names attributes first, then writes a text for drawn values."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from hybrid.config import SynthesizeConfig
from hybrid.llm import Usage, ask_all
from hybrid.llm.request import Request
from hybrid.llm.tasks.drafts import Attribute, attributes_request, draft_request, read_attributes, read_draft
from hybrid.teacher.drafts.parents import HALVES, halves
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


class DraftWriter:
    """Writes drafts wave by wave, each from a few training rows of one half of its class and a drawn value of each attribute.

    The teacher names the attributes in one call, before the first draft. What a draft is written from depends on seed,
    class and number alone, so that a run that is repeated asks the same, and is answered from the trace store.
    """

    def __init__(
        self,
        rows: Sequence[Example],
        labels: Sequence[str],
        config: SynthesizeConfig,
        *,
        teacher: Teacher,
        seed: int,
        on_done: OnDone,
    ) -> None:
        """Write from training rows with their decided labels."""
        self._rows = rows
        self._labels = labels
        self._config = config
        self._teacher = teacher
        self._seed = seed
        self._on_done = on_done
        self._half = halves([row.id for row in rows], [row.label for row in rows])
        self._attributes: Sequence[Attribute] = ()
        self._written: Counter[str] = Counter()

    def write(self, wanted: Mapping[str, int]) -> list[Draft]:
        """Write so many further drafts of each class; one that cannot be read is refused, with the reason."""
        if not any(wanted.values()):
            return []
        self._attributes = self._attributes or self._ask_for_attributes()
        tasks = [self._task(label, self._written[label] + i) for label, n in wanted.items() for i in range(n)]
        self._written.update(wanted)
        replies = ask_all(
            [self._request(task) for task in tasks],
            self._teacher.llm,
            self._teacher.config.workers,
            lambda done: self._on_done(done, len(tasks)),
            names=[task.id for task in tasks],
            max_failed=self._teacher.config.max_failed,
        )
        return [
            _with_attributes(read_draft(task.id, task.label, task.parents, reply), task.attributes)
            for task, reply in zip(tasks, replies, strict=True)
        ]

    def _ask_for_attributes(self) -> Sequence[Attribute]:
        shown = _drawn(self._rows, ATTRIBUTE_EXAMPLES, np.random.default_rng(self._seed))
        request = attributes_request(self._labels, shown, self._teacher.config, policy=self._teacher.policy)
        return read_attributes(self._teacher.llm.ask(request))

    def _task(self, label: str, number: int) -> _DraftTask:
        rng = np.random.default_rng([self._seed, self._labels.index(label), number])
        parents = _drawn(self._possible_parents(label, number % len(HALVES)), EXAMPLES, rng)
        attributes = {
            attribute.name: attribute.values[int(rng.integers(len(attribute.values)))] for attribute in self._attributes
        }
        return _DraftTask(f"draft/{label}/{number}", label, parents, attributes, number)

    def _possible_parents(self, label: str, half: int) -> list[Example]:
        """The rows of a class from one half, so that the other can judge the draft; of a class with a single row that row."""
        own = [(row, place) for row, place in zip(self._rows, self._half, strict=True) if row.label == label]
        return [row for row, place in own if place == half] or [row for row, _ in own]

    def _request(self, task: _DraftTask) -> Request:
        temperatures = self._config.temperatures
        return draft_request(
            task.label,
            self._labels,
            task.parents,
            self._teacher.config,
            policy=self._teacher.policy,
            attributes=task.attributes,
            temperature=temperatures[task.number % len(temperatures)] if temperatures else None,
            sample=task.number,
        )


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
