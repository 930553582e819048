"""The task of drafting: requests for the attributes in which texts differ and for a new text of a class, and their answers."""

from collections.abc import Mapping, Sequence

import msgspec

from hybrid.config import LLMConfig
from hybrid.errors import DataError
from hybrid.llm.answers import UnreadableAnswerError, read_answer
from hybrid.llm.request import Reply, Request
from hybrid.llm.tasks.label import object_schema
from hybrid.prompts import fence, label_list, policy_section, render
from hybrid.types import Draft, Example

ATTRIBUTE_TOKENS = 1000
"""The most tokens of an answer that lists attributes."""


class _Answer(msgspec.Struct, frozen=True):
    plan: str
    text: str


class Attribute(msgspec.Struct, frozen=True):
    """An attribute in which texts of the same label differ, with its possible values."""

    name: str
    values: tuple[str, ...]


class _Attributes(msgspec.Struct, frozen=True):
    attributes: tuple[Attribute, ...]


GENERIC = (
    Attribute("length", ("a few words", "one short sentence", "one long sentence", "two or three sentences")),
    Attribute("register", ("casual, with the spelling of a quick message", "plain", "formal", "playful")),
    Attribute("form", ("a statement", "a question", "a reply to somebody", "a report of what happened", "a request")),
    Attribute("cue", ("an explicit word", "only what is described", "contrast with another label", "a side remark")),
    Attribute("distance", ("a clear case of its label", "close to the border to another label")),
)
"""Attributes that apply to any kind of text, for a teacher whose answer named none."""
DRAFT_SCHEMA = object_schema({"plan": {"type": "string"}, "text": {"type": "string"}})
ATTRIBUTES_SCHEMA = object_schema(
    {
        "attributes": {
            "type": "array",
            "items": object_schema(
                {"name": {"type": "string"}, "values": {"type": "array", "items": {"type": "string"}}}
            ),
        }
    }
)


def attributes_request(
    labels: Sequence[str], examples: Sequence[Example], config: LLMConfig, *, policy: str = ""
) -> Request:
    """Build the request for the attributes in which texts of this data set vary.

    Raises:
        DataError: an example is not a training row.
    """
    rendered = render(
        "attributes", labels=label_list(labels), policy=policy_section(policy), examples=_fenced(examples)
    )
    return Request(
        system=rendered.system,
        user=rendered.user,
        schema=ATTRIBUTES_SCHEMA,
        max_tokens=max(config.max_tokens, ATTRIBUTE_TOKENS),
        temperature=config.temperature,
        thinking=config.thinking,
    )


def read_attributes(reply: Reply) -> tuple[Attribute, ...]:
    """Read the attributes with two or more values from a reply; the generic ones if it has none."""
    if reply.status != "ok":
        return GENERIC
    try:
        attributes = msgspec.convert(read_answer(reply.text, ATTRIBUTES_SCHEMA), _Attributes).attributes
    except (UnreadableAnswerError, msgspec.ValidationError):
        return GENERIC
    cleaned = [
        Attribute(attribute.name.strip(), tuple(dict.fromkeys(v.strip() for v in attribute.values if v.strip())))
        for attribute in attributes
    ]
    return tuple(attribute for attribute in cleaned if attribute.name and len(attribute.values) > 1) or GENERIC


def draft_request(
    label: str,
    labels: Sequence[str],
    examples: Sequence[Example],
    config: LLMConfig,
    *,
    policy: str = "",
    attributes: Mapping[str, str] | None = None,
    temperature: float | None = None,
    sample: int = 0,
) -> Request:
    """Build the request for a new text of `label`, written from a plan that respects `attributes`.

    Raises:
        DataError: an example is not a training row; no other row may influence what the encoder trains on.
    """
    rendered = render(
        "synthesize",
        label=label,
        labels=label_list(labels),
        policy=policy_section(policy),
        examples=_fenced(examples),
        attributes="\n".join(f"- {name}: {value}" for name, value in (attributes or {}).items()) or "- as you see fit",
        number=str(sample + 1),
    )
    return Request(
        system=rendered.system,
        user=rendered.user,
        schema=DRAFT_SCHEMA,
        max_tokens=config.max_tokens,
        temperature=config.temperature if temperature is None else temperature,
        thinking=config.thinking,
        sample=sample,
    )


def _fenced(examples: Sequence[Example]) -> str:
    for row in examples:
        if row.part != "train":
            raise DataError(f"synthesize: row {row.id}: expected a training row as an example, got a {row.part} row")
    return "\n\n".join(fence(row.text) for row in examples)


def read_draft(draft_id: str, label: str, parents: Sequence[Example], reply: Reply) -> Draft:
    """Read a draft from a reply; without a readable text its status is `no_answer`, with the reason."""
    ids = tuple(row.id for row in parents)
    if reply.status != "ok":
        reason = f"the teacher's answer {reply.status}: {reply.reason}"
        return Draft(id=draft_id, text="", label=label, parents=ids, status="no_answer", reason=reason)
    try:
        answer = msgspec.convert(read_answer(reply.text, DRAFT_SCHEMA), _Answer)
    except (UnreadableAnswerError, msgspec.ValidationError) as error:
        reason = f"the teacher's answer unreadable: {error}"
        return Draft(id=draft_id, text="", label=label, parents=ids, status="no_answer", reason=reason)
    if not answer.text.strip():
        reason = "the teacher's answer unreadable: an empty text"
        return Draft(
            id=draft_id, text="", label=label, plan=answer.plan, parents=ids, status="no_answer", reason=reason
        )
    return Draft(id=draft_id, text=answer.text.strip(), label=label, plan=answer.plan, parents=ids)
