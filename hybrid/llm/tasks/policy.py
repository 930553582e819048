"""Ask for a labelling policy from labelled rows, and read the answer: one page of rules."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from hybrid.config import LLMConfig
from hybrid.errors import DataError, LLMError
from hybrid.llm.request import Reply, Request
from hybrid.llm.tasks.label import object_schema
from hybrid.prompts import fence, label_list, render
from hybrid.types import Example, Row

TOKENS = 1500
"""The longest policy, in tokens, labels left out."""
TOKENS_A_LABEL = 100
"""Tokens that each label adds to it."""
LONGEST_TEXT = 1000
"""Characters of a text that the prompt shows: a policy is learnt from many texts, not from whole ones."""
SOURCES = {
    "trusted": "Careful people checked these labels. Where an earlier annotator had given another label, that stands "
    "beside it: such slips show where the border is hard to see.",
    "given": "Annotators in a hurry gave these labels and some are wrong: follow what most of them agree on.",
}


class Shown(Row, frozen=True, kw_only=True):
    """A training row in the prompt, with its label; the given label is shown where it differs."""

    row: Example
    label: str


class Definition(msgspec.Struct, frozen=True):
    """What one label means."""

    label: str
    definition: str


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a policy as a teacher answers them."""

    observations: str = ""
    rule: str
    definitions: list[Definition]
    borderline: list[str] = []


_decode = msgspec.json.Decoder(Policy).decode


def policy_request(
    shown: Sequence[Shown], labels: Sequence[str], config: LLMConfig, *, source: Literal["trusted", "given"]
) -> Request:
    """The request for a policy.

    Raises:
        DataError: a row is not a training row: no other may teach the teacher.
    """
    for example in shown:
        if example.row.part != "train":
            raise DataError(f"policy: row {example.row.id} is a {example.row.part} row; expected training rows alone")
    rendered = render(
        "policy", labels=label_list(labels), source=SOURCES[source], examples="\n\n".join(map(_example, shown))
    )
    definition = object_schema({"label": {"type": "string", "enum": list(labels)}, "definition": {"type": "string"}})
    return Request(
        system=rendered.system,
        user=rendered.user,
        schema=object_schema(
            {
                "observations": {"type": "string"},
                "rule": {"type": "string"},
                "definitions": {"type": "array", "items": definition},
                "borderline": {"type": "array", "items": {"type": "string"}},
            }
        ),
        max_tokens=max(config.max_tokens, TOKENS + TOKENS_A_LABEL * len(labels)),
        temperature=config.temperature,
    )


def read_policy(reply: Reply, labels: Sequence[str]) -> Policy:
    """Read a reply as a policy, with its definitions in the order of `labels`.

    Raises:
        LLMError: there is no whole answer, or it does not define every label exactly once.
    """
    if reply.status != "ok":
        raise LLMError(
            f"policy: {reply.model}: the answer {reply.status} ({reply.reason}); run again, or write the file"
        )
    try:
        policy = _decode(reply.text)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise LLMError(
            f"policy: {reply.model} did not answer with the JSON that was asked for ({error}); choose a stronger teacher"
        ) from error
    defined = {entry.label: entry for entry in policy.definitions}
    if sorted(entry.label for entry in policy.definitions) != sorted(labels):
        missing = ", ".join(label for label in labels if label not in defined) or "none is missing, one stands twice"
        raise LLMError(
            f"policy: {reply.model} did not define each label once (missing: {missing}); choose a stronger teacher"
        )
    return msgspec.structs.replace(policy, definitions=[defined[label] for label in labels])


def policy_text(policy: Policy) -> str:
    """The policy as the Markdown page that users edit and prompts carry."""
    parts = ["# Labelling policy", policy.rule.strip()]
    parts += [f"## {entry.label}\n\n{entry.definition.strip()}" for entry in policy.definitions]
    if policy.borderline:
        parts.append("## Borderline cases\n\n" + "\n".join(f"- {case.strip()}" for case in policy.borderline))
    return "\n\n".join(parts) + "\n"


def _example(shown: Shown) -> str:
    text = shown.row.text
    cut = text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + " …"
    given = "" if shown.row.label == shown.label else f' (an annotator had said "{shown.row.label}")'
    return f'{fence(cut)}\nlabel: "{shown.label}"{given}'
