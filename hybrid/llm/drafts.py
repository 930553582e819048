"""Ask for one new text of a class and read it."""

from collections.abc import Sequence

import msgspec

from hybrid.config import LLMConfig
from hybrid.errors import DataError
from hybrid.llm.answer import object_schema
from hybrid.llm.request import Reply, Request
from hybrid.prompts import fence, label_list, policy_section, render
from hybrid.types import Draft, Example


class _Answer(msgspec.Struct, frozen=True):
    plan: str
    text: str


_decode = msgspec.json.Decoder(_Answer).decode


def draft_request(
    label: str,
    labels: Sequence[str],
    examples: Sequence[Example],
    config: LLMConfig,
    *,
    policy: str = "",
    sample: int = 0,
) -> Request:
    """Return the request for one new text of `label`, written from a plan.

    Raises:
        DataError: an example is not a training row: no other row may inspire what trains.
    """
    for row in examples:
        if row.part != "train":
            raise DataError(f"synthesize: row {row.id} is a {row.part} row; want training rows alone as examples")
    written = render(
        "synthesize",
        label=label,
        labels=label_list(labels),
        policy=policy_section(policy),
        examples="\n\n".join(fence(row.text) for row in examples),
        number=str(sample + 1),
    )
    return Request(
        system=written.system,
        user=written.user,
        schema=object_schema({"plan": {"type": "string"}, "text": {"type": "string"}}),
        max_tokens=config.max_tokens,
        temperature=config.temperature,
        thinking=config.thinking,
        sample=sample,
    )


def read_draft(draft_id: str, label: str, parents: Sequence[Example], reply: Reply) -> Draft:
    """Return the draft that a reply is; refused, with the reason and no text, where it is none."""
    ids = tuple(row.id for row in parents)
    if reply.status != "ok":
        reason = f"the teacher's answer {reply.status}: {reply.reason}"
        return Draft(id=draft_id, text="", label=label, parents=ids, status="refused", reason=reason)
    try:
        answer = _decode(reply.text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        reason = "the teacher's answer unreadable: not the JSON object asked for"
        return Draft(id=draft_id, text="", label=label, parents=ids, status="refused", reason=reason)
    if not answer.text.strip():
        reason = "the teacher's answer unreadable: an empty text"
        return Draft(id=draft_id, text="", label=label, plan=answer.plan, parents=ids, status="refused", reason=reason)
    return Draft(id=draft_id, text=answer.text.strip(), label=label, plan=answer.plan, parents=ids)
