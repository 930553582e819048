"""The task of writing a labelling policy, one page of rules, from labelled rows: the request, and the policy it returns."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from hybrid.config import LLMConfig
from hybrid.errors import DataError, LLMError
from hybrid.llm.answers import UnreadableAnswerError, read_answer
from hybrid.llm.request import Reply, Request
from hybrid.llm.tasks.label import object_schema
from hybrid.prompts import fence, label_list, render
from hybrid.types import Example, Row

TOKENS = 1500
"""The most tokens of a policy, without those that each label adds."""
TOKENS_A_LABEL = 100
"""The tokens that each label adds to that."""
LONGEST_TEXT = 1000
"""The most characters of a text in the prompt: many shortened texts teach a policy better than a few whole ones."""
SOURCES = {
    "trusted": "Careful people checked these labels. Where an earlier annotator had given another label, that stands "
    "beside it: such slips show where the border is hard to see.",
    "given": "Annotators in a hurry gave these labels and some are wrong: follow what most of them agree on.",
}


class Shown(Row, frozen=True, kw_only=True):
    """A training row for the prompt with its decided label; the prompt also shows the given label if it differs."""

    row: Example
    label: str


class Definition(msgspec.Struct, frozen=True):
    """The definition of a label."""

    label: str
    definition: str


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A labelling policy in the parts that the teacher's answer has."""

    observations: str = ""
    rule: str
    definitions: list[Definition]
    borderline: list[str] = []


def _schema(labels: Sequence[str]) -> dict[str, object]:
    definition = object_schema({"label": {"type": "string", "enum": list(labels)}, "definition": {"type": "string"}})
    return object_schema(
        {
            "observations": {"type": "string"},
            "rule": {"type": "string"},
            "definitions": {"type": "array", "items": definition},
            "borderline": {"type": "array", "items": {"type": "string"}},
        }
    )


def policy_request(
    shown: Sequence[Shown], labels: Sequence[str], config: LLMConfig, *, source: Literal["trusted", "given"]
) -> Request:
    """Build the request for a policy.

    Raises:
        DataError: a row is not a training row; the teacher must not see any other.
    """
    for example in shown:
        if example.row.part != "train":
            raise DataError(f"policy: row {example.row.id}: expected a training row, got a {example.row.part} row")
    rendered = render(
        "policy", labels=label_list(labels), source=SOURCES[source], examples="\n\n".join(map(_example, shown))
    )
    return Request(
        system=rendered.system,
        user=rendered.user,
        schema=_schema(labels),
        max_tokens=max(config.max_tokens, TOKENS + TOKENS_A_LABEL * len(labels)),
        temperature=config.temperature,
    )


def read_policy(reply: Reply, labels: Sequence[str]) -> Policy:
    """Read a reply as a policy, with its definitions in the order of `labels`.

    Raises:
        LLMError: the answer is incomplete, or does not define every label exactly once.
    """
    if reply.status not in ("ok", "unreadable"):
        raise LLMError(
            f"policy: {reply.model}: expected a whole answer, got one that is {reply.status} ({reply.reason}); run again, or "
            "write the file yourself"
        )
    try:
        policy = msgspec.convert(read_answer(reply.text, _schema(labels)), Policy)
    except (UnreadableAnswerError, msgspec.ValidationError) as error:
        raise LLMError(
            f"policy: {reply.model} did not answer with the requested JSON ({error}); choose a stronger teacher"
        ) from error
    defined = {entry.label: entry for entry in policy.definitions}
    if sorted(entry.label for entry in policy.definitions) != sorted(labels):
        missing = ", ".join(label for label in labels if label not in defined) or "none, but one is defined twice"
        raise LLMError(
            f"policy: {reply.model} did not define each label once (missing: {missing}); choose a stronger teacher"
        )
    return msgspec.structs.replace(policy, definitions=[defined[label] for label in labels])


def policy_text(policy: Policy) -> str:
    """Render the policy as the Markdown page that users edit and prompts contain."""
    parts = ["# Labelling policy", policy.rule.strip()]
    parts += [f"## {entry.label}\n\n{entry.definition.strip()}" for entry in policy.definitions]
    if policy.borderline:
        parts.append("## Borderline cases\n\n" + "\n".join(f"- {case.strip()}" for case in policy.borderline))
    return "\n\n".join(parts) + "\n"


def _example(shown: Shown) -> str:
    text = shown.row.text
    shortened = text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + " …"
    note = "" if shown.row.label == shown.label else f' (an annotator had said "{shown.row.label}")'
    return f'{fence(shortened)}\nlabel: "{shown.label}"{note}'
