"""`POST /v1/decisions` as OpenAI's clients speak it: typed questions about one input, a probability an option."""

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
    ModelsReply,
    Question,
    Verdict,
    answer_models,
    ask,
    check_model,
    choice_confidence,
    mean_position,
    score_confidence,
)


class Predicate(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="predicate"):
    """How likely is it that a statement is true?"""

    instructions: Parts
    name: str | None = None


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One option of a choice; a string and a boolean of the same text are two."""

    value: str | bool
    description: str | None = None


class Choice(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="choice"):
    """Which of the options is it?"""

    instructions: Parts
    choices: Annotated[list[Option], Meta(min_length=2, max_length=255)]
    name: str | None = None


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """One level of a scale."""

    label: str
    description: str | None = None


class Scale(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="score"):
    """Which of the ordered levels is it?"""

    instructions: Parts
    levels: Annotated[list[Level], Meta(min_length=2, max_length=255)]
    name: str | None = None


class DecisionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An input and 1 to 400 questions about it."""

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
    """The option, and how far its probability is from chance."""

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
    """The expected level."""

    name: str | None
    score: float
    confidence: float
    probabilities: list[LevelProbability]


class Refusal(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="refusal"):
    """The service abstains from this question."""

    name: str | None


class InputDetails(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is cached in this protocol's sense."""

    cache_write_tokens: int = 0
    cached_tokens: int = 0


class OutputDetails(msgspec.Struct, frozen=True, kw_only=True):
    """The encoder writes no tokens."""

    reasoning_tokens: int = 0


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens that the encoder read; the decoder's are told by the metrics."""

    input_tokens: int
    input_tokens_details: InputDetails = InputDetails()
    output_tokens: int = 0
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int


class DecisionReply(msgspec.Struct, frozen=True, kw_only=True):
    """The answers, in the order of the questions."""

    model: str
    answers: list[PredicateAnswer | ChoiceAnswer | ScoreAnswer | Refusal]
    usage: Usage


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no answer."""

    message: str
    type: str
    param: str | None = None
    code: str


class ErrorReply(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every error of this protocol."""

    error: ErrorDetail


async def answer_decisions(call: Call) -> DecisionReply:
    """Return an answer a question."""
    body: DecisionRequest = call.body
    check_model(call, body.model)
    text = read_input(body.input)
    questions = [_question(question, f"questions[{at}]") for at, question in enumerate(body.questions)]
    verdicts = await ask(call, text, questions)
    tokens = max(verdict.tokens for verdict in verdicts)
    return DecisionReply(
        model=body.model,
        answers=[_answer(question, verdict) for question, verdict in zip(body.questions, verdicts, strict=True)],
        usage=Usage(input_tokens=tokens, total_tokens=tokens),
    )


def render_error(error: ServingError, _request_id: str) -> ErrorReply:
    """Return the body of an error."""
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
        described = [(as_option(option.value), option.description) for option in question.choices]
    else:
        described = [(level.label, level.description) for level in question.levels]
    return described_question(described, instructions, where)


def described_question(described: Sequence[tuple[str, str | None]], instructions: str, where: str) -> Question:
    """Return a question whose instructions tell what its options mean, where that is told.

    Raises:
        BadRequestError: two options have the same text, or one has none.
    """
    options = tuple(name for name, _ in described)
    if len(set(options)) < len(options) or not all(option.strip() for option in options):
        raise BadRequestError(f"{where}: an option is empty, or two have the same text; expected different ones")
    meanings = [f"- {name}: {meaning}" for name, meaning in described if meaning]
    return Question(options=options, instructions="\n".join([instructions, *meanings]))


def as_option(value: str | bool) -> str:
    """Return the text of a choice's value."""
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
        listed = [OptionProbability(value=value, probability=p) for value, p in zip(values, probs, strict=True)]
        return ChoiceAnswer(
            name=question.name,
            choice=values[verdict.choice],
            confidence=choice_confidence(probs),
            probabilities=listed,
        )
    levels = [
        LevelProbability(value=at, label=level.label, probability=p)
        for at, (level, p) in enumerate(zip(question.levels, probs, strict=True))
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
            title="Answer typed questions about one input, as OpenAI's clients ask them",
            about=(
                "A question whose options are the bundle's labels is answered by the encoder; any other goes to the "
                "decoder, and is refused (422) where none is configured."
            ),
            asks=DecisionRequest,
            reply=DecisionReply,
            answer=answer_decisions,
        ),
        Operation(method="GET", path="/v1/models", title="List the model", reply=ModelsReply, answer=answer_models),
    ),
    error_type=ErrorReply,
    render_error=render_error,
)
