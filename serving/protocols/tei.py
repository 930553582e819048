"""The `/predict` of text-embeddings-inference, and the `/` that Hugging Face's `InferenceClient` posts to.

Both answer with scores by label, the highest first. The two differ in what a list of texts means: a pair in the first, and
several texts in the second (https://huggingface.co/docs/inference-providers/tasks/text-classification).
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hybrid import __version__
from serving.errors import BadRequestError, ServingError, UnanswerableError
from serving.protocols.operation import Call, Operation, WireProtocol, classify_all
from serving.protocols.probes import probe
from serving.types import Answer, Options


class PredictRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a request: a text, a text in a list, or a list of such lists. Two texts in a list would be a pair."""

    inputs: str | Annotated[list[str | Annotated[list[str], Meta(min_length=1)]], Meta(min_length=1)]
    truncate: bool | None = None
    """Whether to truncate a text that is too long; absent: as the bundle is configured."""
    truncation_direction: Literal["right", "left", "Right", "Left"] = "right"
    raw_scores: bool = False


class PipelineParameters(msgspec.Struct, frozen=True, kw_only=True):
    """The `parameters` of a request to `/`."""

    top_k: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    """The number of most probable labels to return; absent: all."""
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = None


class PipelineRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a request to `/`: a text or several."""

    inputs: str | Annotated[list[str], Meta(min_length=1)]
    parameters: PipelineParameters | None = None


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """A label and its calibrated probability."""

    score: float
    label: str


class Classifier(msgspec.Struct, frozen=True, kw_only=True):
    """The labels by index, and the indices by label."""

    id2label: dict[str, str]
    label2id: dict[str, int]


class ModelType(msgspec.Struct, frozen=True, kw_only=True):
    """The type of the model, which is always a classifier."""

    classifier: Classifier


class InfoReply(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle that is being served, described in the terms of this protocol."""

    model_id: str
    model_sha: str
    """The id of the bundle."""
    model_dtype: str
    model_type: ModelType
    max_input_length: int
    """The most tokens of a text."""
    max_client_batch_size: int
    auto_truncate: bool
    version: str


class ErrorReply(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every error of this protocol."""

    error: str
    error_type: str
    """Validation, Tokenizer, Overloaded, Unhealthy or Backend."""


async def answer_predict(call: Call) -> list[Score] | list[list[Score]]:
    """Classify one text, or each text of a list of lists, and answer with its scores."""
    body: PredictRequest = call.body
    if body.raw_scores:
        raise UnanswerableError(
            "raw_scores: expected false, since this service has calibrated probabilities only; leave it out"
        )
    texts, batch = _texts(body.inputs)
    scores = [_scores(answer) for answer in await classify_all(call, texts, _options(body))]
    return scores if batch else scores[0]


async def answer_pipeline(call: Call) -> list[list[Score]]:
    """Classify one text or several, and answer with the scores of each."""
    body: PipelineRequest = call.body
    parameters = body.parameters or PipelineParameters()
    applied = call.service.bundle.calibration.activation
    if parameters.function_to_apply not in (None, applied):
        raise UnanswerableError(
            f"parameters.function_to_apply: got {parameters.function_to_apply!r}, expected {applied!r}, since this service "
            "has calibrated probabilities only; leave it out"
        )
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    return [_scores(answer)[: parameters.top_k] for answer in await classify_all(call, texts)]


async def answer_info(call: Call) -> InfoReply:
    """Describe the bundle that is being served."""
    bundle = call.service.bundle
    label2id = {label: i for i, label in enumerate(bundle.labels)}
    return InfoReply(
        model_id=bundle.name,
        model_sha=call.service.bundle_id,
        model_dtype=call.service.precision,
        model_type=ModelType(
            classifier=Classifier(id2label={str(i): label for label, i in label2id.items()}, label2id=label2id)
        ),
        max_input_length=bundle.reading.max_length,
        max_client_batch_size=call.settings.limits.items,
        auto_truncate=True,
        version=__version__,
    )


def render_error(error: ServingError, _request_id: str) -> ErrorReply:
    """Render an error as the body of this protocol's error replies."""
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
    """Extract the texts, and whether the request is a batch."""
    if isinstance(inputs, str):
        return [inputs], False
    if all(isinstance(item, str) for item in inputs):
        return [_single([str(item) for item in inputs])], False
    if all(isinstance(item, list) for item in inputs):
        return [_single(list(item)) for item in inputs], True
    raise BadRequestError(
        "inputs: expected a string, or a list of lists of one string; got strings and lists side by side"
    )


def _single(texts: list[str]) -> str:
    if len(texts) != 1:
        raise UnanswerableError(
            f"inputs: got {len(texts)} strings in one list, which this protocol treats as a pair; expected one string a list, "
            "because the bundle classifies single texts: send several texts as [[first], [second]]"
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
    prefixes=("/predict", "/info", "/health", "/"),
    operations=(
        Operation(
            method="POST",
            path="/predict",
            title="Classify texts, in the format of text-embeddings-inference",
            asks=PredictRequest,
            reply=list[Score | list[Score]],
            answer=answer_predict,
        ),
        Operation(
            method="POST",
            path="/",
            title="Classify texts, as Hugging Face's InferenceClient asks its base URL",
            asks=PipelineRequest,
            reply=list[list[Score]],
            answer=answer_pipeline,
        ),
        Operation(
            method="GET",
            path="/info",
            title="Describe the bundle that is being served",
            reply=InfoReply,
            answer=answer_info,
        ),
        probe("/health", "Check whether a request would be accepted", ready=True),
    ),
    error_type=ErrorReply,
    render_error=render_error,
)
