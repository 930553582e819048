"""A question about a text with options of its own: to the encoder where they are the bundle's labels, or the decoder.

What the two decision protocols share.
"""

import asyncio
import time
from collections.abc import Sequence

import msgspec

from hybrid.llm import backend_of
from hybrid.runtime.bundle import Bundle
from serving.errors import EngineDownError, NotFoundError, UnanswerableError
from serving.protocols.operation import Call, check_texts, classify_all
from serving.types import Answer

TRUE, FALSE = "true", "false"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of the text."""

    options: tuple[str, ...]
    """Different from each other."""
    instructions: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one question."""

    probs: tuple[float, ...]
    """In the order of the options, summing to 1; empty where nobody answers, and `reason` says why."""
    choice: int = 0
    """The position of the option that is the answer; none is more probable."""
    reason: str = ""
    tokens: int = 0


async def ask(call: Call, text: str, questions: Sequence[Question]) -> list[Verdict]:
    """Return a verdict a question, in their order.

    The encoder reads the text once for all its questions. One question's verdict does not depend on the others.

    Raises:
        ServingError: the request gets no answer; `UnanswerableError` for a foreign question without a decoder.
    """
    check_texts([text], call.settings.limits)
    bundle = call.service.bundle
    foreign = [question for question in questions if not is_local(question, bundle)]
    if foreign and backend_of(call.settings.decoder).is_absent:
        raise UnanswerableError(
            f"the options {_shown(foreign[0].options)} are not the bundle's labels ({_shown(bundle.labels)}), and no "
            "decoder is configured that could answer; ask about the labels, or configure a decoder"
        )
    local: list[Answer] = []
    if len(foreign) < len(questions):
        local = await classify_all(call, [text])
    answered = iter(await _decided(call, text, foreign))
    return [
        _verdict(local[0], question.options) if is_local(question, bundle) else next(answered) for question in questions
    ]


def is_local(question: Question, bundle: Bundle) -> bool:
    """Return whether the encoder answers: one of the bundle's labels is asked for, in any order."""
    return bundle.task == "single_label" and sorted(question.options) == sorted(bundle.labels)


def mean_position(probs: Sequence[float]) -> float:
    """Return the expected position on a scale that begins at 0."""
    return sum(at * p for at, p in enumerate(probs))


def choice_confidence(probs: Sequence[float]) -> float:
    """Return how far the highest probability is from chance: 0 where all are equal, 1 where it is sure."""
    chance = 1 / len(probs)
    return min(1.0, max(0.0, (max(probs) - chance) / (1 - chance)))


def score_confidence(probs: Sequence[float]) -> float:
    """Return how close the levels are to the likeliest: 1 where it is sure, 0 where they lie as far as chance would."""
    top, n = max(range(len(probs)), key=probs.__getitem__), len(probs)
    spread = sum(p * abs(at - top) for at, p in enumerate(probs))
    by_chance = sum(abs(at - (n - 1) / 2) for at in range(n)) / n
    return min(1.0, max(0.0, 1 - spread / by_chance))


async def _decided(call: Call, text: str, questions: Sequence[Question]) -> list[Verdict]:
    """Return the decoder's verdicts, as many questions at a time as it has workers."""
    if not questions:
        return []
    started = time.perf_counter()
    free = asyncio.Semaphore(call.settings.decoder.workers)

    async def decided(question: Question) -> Verdict:
        async with free:
            try:
                answer = await call.service.decide(text, question.options, question.instructions, call.deadline)
            except UnanswerableError as error:
                return Verdict(probs=(), reason=str(error))
        return _verdict(answer, question.options)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(decided(question)) for question in questions]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    call.timings.escalation_s += time.perf_counter() - started
    return [task.result() for task in tasks]


def _verdict(answer: Answer, options: Sequence[str]) -> Verdict:
    if answer.label is None:
        return Verdict(probs=(), reason=answer.reason or "the service abstains", tokens=answer.tokens)
    if not {answer.label, *answer.probs} <= set(options):
        raise EngineDownError("the bundle was changed while this request ran; send it again", retry_after_s=1)
    probs = [answer.probs.get(option, 0.0) for option in options]
    # A decoder that overrules the encoder, its reliability not measured: its label is as probable as any other.
    at = options.index(answer.label)
    probs[at] = max(probs) or 1.0
    total = sum(probs)
    return Verdict(probs=tuple(p / total for p in probs), choice=at, tokens=answer.tokens)


def _shown(options: Sequence[str]) -> str:
    return ", ".join(option[:40] for option in options[:10]) + (", …" if len(options) > 10 else "")


ALIASES = ("jev-latest",)
"""What clients of /v1/systemone send where their user names no model."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of both lists: that of OpenAI's clients and that of System One's."""

    id: str
    object: str = "model"
    created: int = 0
    """A bundle does not say when it was made."""
    owned_by: str = "hybrid"
    name: str
    description: str
    release_date: str = ""


class ModelsReply(msgspec.Struct, frozen=True, kw_only=True):
    """What serves now, as OpenAI's clients read it (`data`) and as those of System One do (`models`)."""

    object: str = "list"
    data: list[Model]
    models: list[Model]


async def answer_models(call: Call) -> ModelsReply:
    """Return the one model that there is."""
    bundle = call.service.bundle
    about = f"{bundle.encoder}; labels: {', '.join(bundle.labels)}"
    models = [Model(id=bundle.name, name=bundle.name, description=about)]
    return ModelsReply(data=models, models=models)


def check_model(call: Call, name: str) -> None:
    """Raise where a request asks for a model that is not the bundle."""
    known = (call.service.bundle.name, call.service.bundle_id, *ALIASES)
    if name not in known:
        raise NotFoundError(f"model {name[:80]!r}; this server has {call.service.bundle.name!r} alone")
