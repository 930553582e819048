"""The `/predict` of text-embeddings-inference: scores by label, the highest first."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hybrid import __version__
from serving.errors import BadRequestError, ServingError, UnanswerableError
from serving.protocols.operation import Call, Operation, WireProtocol, classify_all
from serving.protocols.probes import probe
from serving.types import Answer, Options


class PredictRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A text; a text in a list; or a list of such lists. Two texts in a list are a pair, which no bundle reads."""

    inputs: str | Annotated[list[str | Annotated[list[str], Meta(min_length=1)]], Meta(min_length=1)]
    truncate: bool | None = None
    """Whether a longer text is cut; absent: as the bundle says."""
    truncation_direction: Literal["right", "left", "Right", "Left"] = "right"
    raw_scores: bool = False


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """A label and its calibrated probability."""

    score: float
    label: str


class Classifier(msgspec.Struct, frozen=True, kw_only=True):
    """The labels by their number, and back."""

    id2label: dict[str, str]
    label2id: dict[str, int]


class ModelType(msgspec.Struct, frozen=True, kw_only=True):
    """A classifier, always."""

    classifier: Classifier


class InfoReply(msgspec.Struct, frozen=True, kw_only=True):
    """What serves now, in the words of this protocol."""

    model_id: str
    model_sha: str
    """The id of the bundle."""
    model_dtype: str
    model_type: ModelType
    max_input_length: int
    """Tokens."""
    max_client_batch_size: int
    auto_truncate: bool
    version: str


class ErrorReply(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every error of this protocol."""

    error: str
    error_type: str
    """Validation, Tokenizer, Overloaded, Unhealthy or Backend."""


async def answer_predict(call: Call) -> list[Score] | list[list[Score]]:
    """Return the scores of one text, or a list of them for a list of lists."""
    body: PredictRequest = call.body
    if body.raw_scores:
        raise UnanswerableError("raw_scores: this service returns calibrated probabilities; leave it out")
    texts, batch = _texts(body.inputs)
    scores = [_scores(answer) for answer in await classify_all(call, texts, _options(body))]
    return scores if batch else scores[0]


async def answer_info(call: Call) -> InfoReply:
    """Return what serves now."""
    bundle = call.service.bundle
    labels = {name: number for number, name in enumerate(bundle.labels)}
    return InfoReply(
        model_id=bundle.name,
        model_sha=call.service.bundle_id,
        model_dtype=bundle.precision,
        model_type=ModelType(
            classifier=Classifier(id2label={str(at): name for name, at in labels.items()}, label2id=labels)
        ),
        max_input_length=bundle.reading.max_length,
        max_client_batch_size=call.settings.limits.items,
        auto_truncate=True,
        version=__version__,
    )


def render_error(error: ServingError, _request_id: str) -> ErrorReply:
    """Return the body of an error."""
    return ErrorReply(error=str(error), error_type=_TYPES.get(error.kind, "Validation"))


_TYPES = {
    "overloaded": "Overloaded",
    "engine_down": "Unhealthy",
    "stopping": "Unhealthy",
    "not_ready": "Unhealthy",
    "internal": "Backend",
    "item_failed": "Backend",
    "deadline_passed": "Overloaded",
}


def _texts(inputs: str | list[str | list[str]]) -> tuple[list[str], bool]:
    """Return the texts, and whether they came as a batch."""
    if isinstance(inputs, str):
        return [inputs], False
    if all(isinstance(item, str) for item in inputs):
        return [_single([str(item) for item in inputs])], False
    if all(isinstance(item, list) for item in inputs):
        return [_single(list(item)) for item in inputs], True
    raise BadRequestError("inputs: strings and lists side by side; expected a string, or a list of lists of one string")


def _single(texts: list[str]) -> str:
    if len(texts) != 1:
        raise UnanswerableError(
            f"inputs: {len(texts)} strings in one list, which this protocol reads as a pair, and the bundle reads one "
            "text at a time; send several texts as [[first], [second]]"
        )
    return texts[0]


def _options(body: PredictRequest) -> Options:
    if body.truncate is None:
        return Options()
    if not body.truncate:
        return Options(truncate="error")
    return Options(truncate="left" if body.truncation_direction.lower() == "left" else "right")


def _scores(answer: Answer) -> list[Score]:
    ranked = sorted(answer.probs.items(), key=lambda pair: -pair[1])
    return [Score(score=p, label=label) for label, p in ranked]


TEI = WireProtocol(
    name="text-embeddings-inference",
    prefixes=("/predict", "/info", "/health"),
    operations=(
        Operation(
            method="POST",
            path="/predict",
            title="Classify texts, as text-embeddings-inference does",
            asks=PredictRequest,
            reply=list[Score | list[Score]],
            answer=answer_predict,
        ),
        Operation(method="GET", path="/info", title="Tell what serves now", reply=InfoReply, answer=answer_info),
        probe("/health", "Whether a request would be taken", ready=True),
    ),
    error_type=ErrorReply,
    render_error=render_error,
)
