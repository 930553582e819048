"""`POST /v1/systemone`: a state, and questions about it by id. The package `jevcompat` tests for compatibility."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from serving.errors import BadRequestError, ServingError, UnanswerableError
from serving.protocols.decision_input import as_text
from serving.protocols.decisions import question_about
from serving.protocols.operation import Call, Operation, WireProtocol
from serving.protocols.question import (
    ALIASES,
    FALSE,
    TRUE,
    Question,
    Verdict,
    ask,
    check_model,
    choice_confidence,
    mean_position,
    score_confidence,
)

Text = str | dict[str, Any] | list[Any]
"""Free text, or JSON that is read as its text."""


class NoulCriteria(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Descriptions of what counts as true and what counts as false."""

    true: Text | None = None
    false: Text | None = None


class Noul(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="noul"):
    """A question about how likely a statement is to be true."""

    instructions: Text | None = None
    criteria: NoulCriteria | None = None


class Choice(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="choice"):
    """A question about which of several options applies."""

    instructions: Text | None = None
    criteria: Annotated[dict[str, Text | None], Meta(min_length=2, max_length=255)]


class Scale(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="score"):
    """A question about which of several ordered levels applies."""

    instructions: Text | None = None
    criteria: Annotated[list[Text], Meta(min_length=2, max_length=10)]


class SystemOneRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a request: a state and the questions about it, by their ids."""

    state: Text
    questions: Annotated[dict[str, Noul | Choice | Scale], Meta(min_length=1, max_length=400)]
    model: str = ALIASES[0]


class NoulAnswer(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="noul"):
    """The probability that the statement is true."""

    noul: float


class ChoiceAnswer(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="choice"):
    """The chosen option, and how far its probability is above chance."""

    choice: str
    confidence: float
    probabilities: dict[str, float]


class ScoreAnswer(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="score"):
    """The expected level, counted from 0, and the probability of each level."""

    score: float
    legend: dict[str, str]
    confidence: float
    probabilities: dict[str, float]


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens that the encoder read; it generates none."""

    input_tokens: int
    output_tokens: int = 0


class SystemOneReply(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a reply: the answers by the ids of the questions."""

    model: str
    answers: dict[str, NoulAnswer | ChoiceAnswer | ScoreAnswer]
    usage: Usage


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A problem with the body of a request, and its place there."""

    loc: list[str]
    msg: str
    type: str


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """Explains why a request got no answer although its body is valid."""

    error_type: str
    message: str


class ErrorReply(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every error of this protocol."""

    detail: list[Problem] | Refused


async def answer_systemone(call: Call) -> SystemOneReply:
    """Answer each question of a request, by its id.

    Raises:
        UnanswerableError: a question has no answer; this protocol cannot express a refusal of one question.
    """
    body: SystemOneRequest = call.body
    check_model(call, body.model)
    questions = [_question(question, f"questions.{name[:80]}") for name, question in body.questions.items()]
    verdicts = await ask(call, as_text(body.state), questions)
    for name, verdict in zip(body.questions, verdicts, strict=True):
        if not verdict.probs:
            raise UnanswerableError(f"questions.{name[:80]}: {verdict.reason}")
    return SystemOneReply(
        model=call.service.bundle.name,
        answers={
            name: _answer(question, verdict)
            for (name, question), verdict in zip(body.questions.items(), verdicts, strict=True)
        },
        usage=Usage(input_tokens=max(verdict.tokens for verdict in verdicts)),
    )


def render_error(error: ServingError, _request_id: str) -> ErrorReply:
    """Render an error as the body of this protocol's error replies: a list of problems if the request is at fault."""
    if error.kind in ("bad_request", "unanswerable"):
        return ErrorReply(detail=[Problem(loc=["body"], msg=str(error), type=error.kind)])
    kind = {"unauthorized": "authentication_error", "overloaded": "rate_limit_error"}.get(error.kind, error.kind)
    return ErrorReply(detail=Refused(error_type=kind, message=str(error)))


def _question(question: Noul | Choice | Scale, where: str) -> Question:
    instructions = "" if question.instructions is None else as_text(question.instructions)
    if isinstance(question, Noul):
        criteria = question.criteria or NoulCriteria()
        options = [(TRUE, _meaning(criteria.true)), (FALSE, _meaning(criteria.false))]
        if not instructions and not any(meaning for _, meaning in options):
            raise BadRequestError(f"{where}: got neither instructions nor criteria; expected at least one of the two")
    elif isinstance(question, Choice):
        options = [(name, _meaning(criterion)) for name, criterion in question.criteria.items()]
    else:
        options = [(as_text(level), None) for level in question.criteria]
    return question_about(options, instructions, where)


def _meaning(text: Text | None) -> str | None:
    return None if text is None else as_text(text)


def _answer(question: Noul | Choice | Scale, verdict: Verdict) -> NoulAnswer | ChoiceAnswer | ScoreAnswer:
    probs = verdict.probs
    if isinstance(question, Noul):
        return NoulAnswer(noul=probs[0])
    if isinstance(question, Choice):
        return ChoiceAnswer(
            choice=list(question.criteria)[verdict.choice],
            confidence=choice_confidence(probs),
            probabilities=dict(zip(question.criteria, probs, strict=True)),
        )
    return ScoreAnswer(
        score=mean_position(probs),
        legend={str(i): as_text(level) for i, level in enumerate(question.criteria)},
        confidence=score_confidence(probs),
        probabilities={str(i): p for i, p in enumerate(probs)},
    )


SYSTEMONE = WireProtocol(
    name="system one",
    prefixes=("/v1/systemone",),
    operations=(
        Operation(
            method="POST",
            path="/v1/systemone",
            title="Answer typed questions about one state, by their ids",
            about=(
                "The encoder answers a question whose options are the bundle's labels. Any other question goes to the "
                "decoder, and is refused (422) if none is configured."
            ),
            asks=SystemOneRequest,
            reply=SystemOneReply,
            answer=answer_systemone,
        ),
    ),
    error_type=ErrorReply,
    render_error=render_error,
    bad_request_status=422,
)
