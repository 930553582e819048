"""The task of labelling: the request, and the vote read from the answer, which must be a label of the set."""

from collections.abc import Sequence
from typing import Literal

from hybrid.config import LLMConfig
from hybrid.llm.answers import UnreadableAnswerError, read_answer
from hybrid.llm.request import Reply, Request
from hybrid.prompts import fence, label_list, policy_section, render, without_fences
from hybrid.types import Vote


def label_schema(labels: Sequence[str], *, reasoned: bool = True) -> dict[str, object]:
    """Build the JSON schema of an answer: rationale (if `reasoned`), then label, then confidence.

    A model writes the fields in this order, so it reasons before it decides. The schema does not bound the confidence,
    because Claude's structured output supports neither minimum nor maximum.
    """
    rationale: dict[str, object] = {"rationale": {"type": "string"}} if reasoned else {}
    return object_schema(
        rationale | {"label": {"type": "string", "enum": list(labels)}, "confidence": {"type": "number"}}
    )


def object_schema(properties: dict[str, object]) -> dict[str, object]:
    """Build the schema of an object with exactly these fields, all required."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def label_request(
    prompt: Literal["verify", "direct", "decide"],
    text: str,
    labels: Sequence[str],
    config: LLMConfig,
    *,
    policy: str = "",
    sample: int = 0,
) -> Request:
    """Build the request for the label of a text. Every prompt except `direct` asks for the reasoning first."""
    rendered = render(prompt, labels=label_list(labels), policy=policy_section(policy), text=fence(text))
    return Request(
        system=rendered.system,
        user=rendered.user,
        schema=label_schema(labels, reasoned=prompt != "direct"),
        max_tokens=config.max_tokens,
        temperature=config.temperature,
        thinking=config.thinking,
        sample=sample,
        text=text,
    )


def read_vote(row_id: str, reply: Reply, labels: Sequence[str], *, teacher: str, sample: int = 0) -> Vote:
    """Read a vote from a reply.

    A refusal is `abstained`; a failed or cut-off reply is `failed`; an answer that is not the requested JSON, or whose
    label is none of `labels` (case and white space aside), is `unreadable`. Such a vote has no label. A confidence that is
    absent or not within 0 to 1 is left out.
    """
    if reply.status not in ("ok", "unreadable"):
        status: Literal["abstained", "failed"] = "abstained" if reply.status == "refused" else "failed"
        return Vote(id=row_id, status=status, teacher=teacher, sample=sample, reason=reply.reason or reply.status)
    try:
        answer = read_answer(reply.text, label_schema(labels))
    except UnreadableAnswerError as error:
        return Vote(id=row_id, status="unreadable", teacher=teacher, sample=sample, reason=str(error))
    rationale = answer.get("rationale")
    return Vote(
        id=row_id,
        status="ok",
        label=answer["label"],
        rationale=without_fences(rationale) if isinstance(rationale, str) else "",
        confidence=_confidence(answer.get("confidence")),
        teacher=teacher,
        sample=sample,
    )


def _confidence(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)
