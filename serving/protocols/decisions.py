"""`POST /v1/decisions` for OpenAI's clients: typed questions about one input, answered with a probability per option."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from serving.errors import BadRequestError, ServingError
from serving.protocols.decision_input import Parts, read_input, read_parts
from serving.protocols.operation import Call, Operation, WireProtocol
from serving.protocols.question import (
    FALSE,
    TRUE,
    Model,
    ModelsReply,
    Question,
    Verdict,
    answer_models,
    answer_retrieve,
    ask,
    check_model,
    choice_confidence,
    mean_position,
    score_confidence,
)


class Predicate(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="predicate"):
    """A question about how likely a statement is to be true."""

    instructions: Parts
    name: str | None = None


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One option of a choice, named by a string or a boolean."""

    value: str | bool
    description: str | None = None


class Choice(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="choice"):
    """A question about which of several options applies."""

    instructions: Parts
    choices: Annotated[list[Option], Meta(min_length=2, max_length=255)]
    name: str | None = None


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """One level of an ordered scale."""

    label: str
    description: str | None = None


class Scale(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="score"):
    """A question about which of several ordered levels applies."""

    instructions: Parts
    levels: Annotated[list[Level], Meta(min_length=2, max_length=255)]
    name: str | None = None


class DecisionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a request: an input and 1 to 400 questions about it."""

    model: str
    input: str | Annotated[list[dict[str, Any]], Meta(min_length=1)]
    questions: Annotated[list[Predicate | Choice | Scale], Meta(min_length=1, max_length=400)]


class PredicateAnswer(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="predicate"):
    """The probability that the statement is true."""

    name: str | None
    probability: float


class OptionProbability(msgspec.Struct, frozen=True, kw_only=True):
    """An option and its probability."""

    value: str | bool
    probability: float


class ChoiceAnswer(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="choice"):
    """The chosen option, and how far its probability is above chance."""

    name: str | None
    choice: str | bool
    confidence: float
    probabilities: list[OptionProbability]


class LevelProbability(msgspec.Struct, frozen=True, kw_only=True):
    """A level, counted from 0, and its probability."""

    value: int
    label: str
    probability: float


class ScoreAnswer(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="score"):
    """The expected level, counted from 0, and the probability of each level."""

    name: str | None
    score: float
    confidence: float
    probabilities: list[LevelProbability]


class Refusal(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="refusal"):
    """The answer to a question from which the service abstains."""

    name: str | None


class InputDetails(msgspec.Struct, frozen=True, kw_only=True):
    """Cached input tokens, always 0: this service has no prompt cache."""

    cache_write_tokens: int = 0
    cached_tokens: int = 0


class OutputDetails(msgspec.Struct, frozen=True, kw_only=True):
    """Reasoning tokens, always 0: the encoder generates none."""

    reasoning_tokens: int = 0


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens that the encoder read. The decoder's tokens are not counted here; its cost is in the metrics."""

    input_tokens: int
    input_tokens_details: InputDetails = InputDetails()
    output_tokens: int = 0
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int


class DecisionReply(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a reply: the answers, in the order of the questions."""

    model: str
    answers: list[PredicateAnswer | ChoiceAnswer | ScoreAnswer | Refusal]
    usage: Usage


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    """Explains why a request got no answer."""

    message: str
    type: str
    param: str | None = None
    code: str


class ErrorReply(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every error of this protocol."""

    error: ErrorDetail


async def answer_decisions(call: Call) -> DecisionReply:
    """Answer each question of a request, in their order."""
    body: DecisionRequest = call.body
    check_model(call, body.model)
    text = read_input(body.input)
    questions = [_question(question, f"questions[{i}]") for i, question in enumerate(body.questions)]
    verdicts = await ask(call, text, questions)
    tokens = max(verdict.tokens for verdict in verdicts)
    return DecisionReply(
        model=body.model,
        answers=[_answer(question, verdict) for question, verdict in zip(body.questions, verdicts, strict=True)],
        usage=Usage(input_tokens=tokens, total_tokens=tokens),
    )


def render_error(error: ServingError, _request_id: str) -> ErrorReply:
    """Render an error as the body of this protocol's error replies."""
    return ErrorReply(error=ErrorDetail(message=str(error), type=_TYPES.get(error.status, _INVALID), code=error.kind))


_INVALID = "invalid_request_error"
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
    504: "server_error",
}


def _question(question: Predicate | Choice | Scale, where: str) -> Question:
    instructions = read_parts(question.instructions, f"{where}.instructions")
    if isinstance(question, Predicate):
        return Question(options=(TRUE, FALSE), instructions=instructions)
    if isinstance(question, Choice):
        options = [(as_option(option.value), option.description) for option in question.choices]
    else:
        options = [(level.label, level.description) for level in question.levels]
    return question_about(options, instructions, where)


def question_about(options: Sequence[tuple[str, str | None]], instructions: str, where: str) -> Question:
    """Build a question from options and their meanings; the meanings that are given are appended to the instructions.

    Raises:
        BadRequestError: two options have the same text, or one has none.
    """
    names = tuple(name for name, _ in options)
    if len(set(names)) < len(names) or not all(name.strip() for name in names):
        raise BadRequestError(f"{where}: an option is empty, or two have the same text; expected different texts")
    meanings = [f"- {name}: {meaning}" for name, meaning in options if meaning]
    return Question(options=names, instructions="\n".join([instructions, *meanings]))


def as_option(value: str | bool) -> str:
    """Convert the value of an option to the text that stands for it in a question."""
    if isinstance(value, bool):
        return TRUE if value else FALSE
    return value


def _answer(
    question: Predicate | Choice | Scale, verdict: Verdict
) -> PredicateAnswer | ChoiceAnswer | ScoreAnswer | Refusal:
    probs = verdict.probs
    if not probs:
        return Refusal(name=question.name)
    if isinstance(question, Predicate):
        return PredicateAnswer(name=question.name, probability=probs[0])
    if isinstance(question, Choice):
        values = [option.value for option in question.choices]
        options = [OptionProbability(value=value, probability=p) for value, p in zip(values, probs, strict=True)]
        return ChoiceAnswer(
            name=question.name,
            choice=values[verdict.choice],
            confidence=choice_confidence(probs),
            probabilities=options,
        )
    levels = [
        LevelProbability(value=i, label=level.label, probability=p)
        for i, (level, p) in enumerate(zip(question.levels, probs, strict=True))
    ]
    return ScoreAnswer(
        name=question.name,
        score=mean_position(probs),
        confidence=score_confidence(probs),
        probabilities=levels,
    )


DECISIONS = WireProtocol(
    name="decisions",
    prefixes=("/v1/decisions", "/v1/models"),
    operations=(
        Operation(
            method="POST",
            path="/v1/decisions",
            title="Answer typed questions about one input, in the format of OpenAI's clients",
            about=(
                "The encoder answers a question whose options are the bundle's labels. Any other question goes to the "
                "decoder, and is refused (422) if none is configured."
            ),
            asks=DecisionRequest,
            reply=DecisionReply,
            answer=answer_decisions,
        ),
        Operation(method="GET", path="/v1/models", title="List the model", reply=ModelsReply, answer=answer_models),
        Operation(
            method="GET", path="/v1/models/{model}", title="Describe the model", reply=Model, answer=answer_retrieve
        ),
    ),
    error_type=ErrorReply,
    render_error=render_error,
)
