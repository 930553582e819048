"""Questions about a text, each with its own options; shared by the two decision protocols.

The encoder answers a question whose options are the bundle's labels. The decoder answers any other.
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
    """A question about a text: the options, and the instructions that explain them."""

    options: tuple[str, ...]
    """The possible answers, all different."""
    instructions: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one question."""

    probs: tuple[float, ...]
    """The probability of each option, in their order, summing to 1; empty if there is no answer for `reason`."""
    choice: int = 0
    """The index of the option that is the answer; no other is more probable."""
    reason: str = ""
    tokens: int = 0


async def ask(call: Call, text: str, questions: Sequence[Question]) -> list[Verdict]:
    """Answer questions about a text, one verdict per question, in their order.

    The encoder reads the text once for all of its questions. Each verdict is independent of the other questions.

    Raises:
        ServingError: the request gets no answer; `UnanswerableError` if it needs a decoder and none is configured.
    """
    check_texts([text], call.settings.limits)
    bundle = call.service.bundle
    for_decoder = [question for question in questions if not is_about_labels(question, bundle)]
    if for_decoder and backend_of(call.settings.decoder).is_absent:
        raise UnanswerableError(
            f"the options {_listed(for_decoder[0].options)} are not the bundle's labels ({_listed(bundle.labels)}), and no "
            "decoder is configured that could answer; ask about the labels, or configure a decoder"
        )
    encoder_answers: list[Answer] = []
    if len(for_decoder) < len(questions):
        encoder_answers = await classify_all(call, [text])
    decoder_verdicts = iter(await _ask_decoder(call, text, for_decoder))
    return [
        _verdict(encoder_answers[0], question.options) if is_about_labels(question, bundle) else next(decoder_verdicts)
        for question in questions
    ]


def is_about_labels(question: Question, bundle: Bundle) -> bool:
    """Whether the encoder can answer a question: its options are the bundle's labels, in any order."""
    return bundle.task == "single_label" and sorted(question.options) == sorted(bundle.labels)


def mean_position(probs: Sequence[float]) -> float:
    """Compute the expected position on a scale that begins at 0."""
    return sum(i * p for i, p in enumerate(probs))


def choice_confidence(probs: Sequence[float]) -> float:
    """Compute how far the highest probability is above chance: 0 if all are equal, 1 if one option is certain."""
    chance = 1 / len(probs)
    return min(1.0, max(0.0, (max(probs) - chance) / (1 - chance)))


def score_confidence(probs: Sequence[float]) -> float:
    """Compute how closely the probability gathers around the likeliest level: 1 if it is certain, 0 if no better than chance."""
    top, n = max(range(len(probs)), key=probs.__getitem__), len(probs)
    spread = sum(p * abs(i - top) for i, p in enumerate(probs))
    by_chance = sum(abs(i - (n - 1) / 2) for i in range(n)) / n
    return min(1.0, max(0.0, 1 - spread / by_chance))


async def _ask_decoder(call: Call, text: str, questions: Sequence[Question]) -> list[Verdict]:
    """Put questions to the decoder, as many at a time as it has workers."""
    if not questions:
        return []
    started = time.perf_counter()
    workers = asyncio.Semaphore(call.settings.decoder.workers)

    async def verdict_on(question: Question) -> Verdict:
        async with workers:
            try:
                answer = await call.service.decide(text, question.options, question.instructions, call.deadline)
            except UnanswerableError as error:
                return Verdict(probs=(), reason=str(error))
        return _verdict(answer, question.options)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(verdict_on(question)) for question in questions]
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
    # A decoder of unmeasured reliability may overrule the encoder; its label then gets the highest probability.
    choice = options.index(answer.label)
    probs[choice] = max(probs) or 1.0
    total = sum(probs)
    return Verdict(probs=tuple(p / total for p in probs), choice=choice, tokens=answer.tokens)


def _listed(options: Sequence[str]) -> str:
    return ", ".join(option[:40] for option in options[:10]) + (", …" if len(options) > 10 else "")


ALIASES = ("jev-latest",)
"""Names that clients of /v1/systemone send if their user names no model."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the model list, with the fields of OpenAI's clients and of System One's."""

    id: str
    object: str = "model"
    created: int = 0
    """Always 0: a bundle does not record when it was made."""
    owned_by: str = "hybrid"
    name: str
    description: str
    release_date: str = ""


class ModelsReply(msgspec.Struct, frozen=True, kw_only=True):
    """The list of models, in the field that OpenAI's clients read (`data`) and in that of System One's (`models`)."""

    object: str = "list"
    data: list[Model]
    models: list[Model]


async def answer_models(call: Call) -> ModelsReply:
    """List the bundle that is being served, the only model of this service."""
    models = [_model(call)]
    return ModelsReply(data=models, models=models)


async def answer_retrieve(call: Call) -> Model:
    """Describe the bundle that is being served, by its name."""
    check_model(call, call.request.path_params["model"])
    return _model(call)


def _model(call: Call) -> Model:
    bundle = call.service.bundle
    about = f"{bundle.encoder}; labels: {', '.join(bundle.labels)}"
    return Model(id=bundle.name, name=bundle.name, description=about)


def check_model(call: Call, name: str) -> None:
    """Check that a request names the bundle that is being served.

    Raises:
        NotFoundError: it names another model.
    """
    names = (call.service.bundle.name, call.service.bundle_id, *ALIASES)
    if name not in names:
        raise NotFoundError(
            f"model: got {name[:80]!r}, expected {call.service.bundle.name!r}, the only model of this server"
        )
