"""The Open Inference Protocol, version 2, as KServe, Triton and OpenVINO's server speak it: tensors in JSON.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hybrid import __version__
from hybrid.types import LABEL_SEPARATOR
from serving.errors import BadRequestError, NotFoundError, ServingError
from serving.protocols.operation import Call, Operation, WireProtocol, classify_all
from serving.protocols.probes import answer_ready, probe
from serving.types import Answer, Escalate, Options, Truncate

Datatype = Literal["BYTES", "FP64"]


class InferParameters(msgspec.Struct, frozen=True, kw_only=True):
    """What the service reads of a request's `parameters`; others are passed over."""

    truncate: Truncate | None = None
    escalate: Escalate = "auto"
    threshold: Annotated[float, Meta(ge=0, le=1)] | None = None


class InputTensor(msgspec.Struct, frozen=True, kw_only=True):
    """Texts: flat, or nested as `shape` says, which is [n] or [n, 1]."""

    name: str
    shape: list[Annotated[int, Meta(ge=0, le=1 << 31)]]
    datatype: str
    data: list[str | list[str]]


class RequestedOutput(msgspec.Struct, frozen=True, kw_only=True):
    """The name of a requested output."""

    name: str


class InferRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One input of texts, and the requested outputs; all of them where none is named."""

    id: str | None = None
    inputs: list[InputTensor]
    outputs: list[RequestedOutput] | None = None
    parameters: InferParameters = InferParameters()


class OutputTensor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One output of all texts, flat."""

    name: str
    shape: list[int]
    datatype: Datatype
    data: list[str | float]
    parameters: dict[str, str] = {}


class InferReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The outputs, in the order in which they were asked for."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class TensorMetadata(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tensor that the model reads or writes; -1: as many as there are texts."""

    name: str
    datatype: Datatype
    shape: list[int]
    parameters: dict[str, str] = {}


class ModelMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle that serves now."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """This server."""

    name: str
    version: str
    extensions: list[str]


class ModelReady(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the model takes requests."""

    name: str
    ready: bool


class ErrorReply(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every error of this protocol."""

    error: str


async def answer_server(_call: Call) -> ServerMetadata:
    """Return what this server is."""
    return ServerMetadata(name="hybrid", version=__version__, extensions=[])


async def answer_model(call: Call) -> ModelMetadata:
    """Return what the model reads and writes."""
    _check_model(call)
    labels = call.service.bundle.labels
    return ModelMetadata(
        name=call.service.bundle.name,
        versions=[call.service.bundle_id],
        platform="onnx_onnxruntime",
        inputs=[TensorMetadata(name="text", datatype="BYTES", shape=[-1])],
        outputs=[_described(name, labels) for name in OUTPUTS],
    )


async def answer_model_ready(call: Call) -> ModelReady:
    """Return that the model takes requests."""
    _check_model(call)
    await answer_ready(call)
    return ModelReady(name=call.service.bundle.name, ready=True)


async def answer_infer(call: Call) -> InferReply:
    """Answer with the requested outputs."""
    body: InferRequest = call.body
    _check_model(call)
    requested = [output.name for output in body.outputs] if body.outputs else list(OUTPUTS)
    unknown = [name for name in requested if name not in OUTPUTS]
    if unknown:
        raise BadRequestError(f"outputs: {unknown[0][:80]!r}; expected some of {', '.join(OUTPUTS)}")
    parameters = body.parameters
    options = Options(truncate=parameters.truncate, escalate=parameters.escalate, threshold=parameters.threshold)
    answers = await classify_all(call, _texts(body), options)
    _check_version(call, answers[0].bundle_id)
    return InferReply(
        model_name=call.request.path_params["name"],
        model_version=answers[0].bundle_id,
        id=body.id,
        outputs=[_tensor(name, answers) for name in requested],
    )


def render_error(error: ServingError, _request_id: str) -> ErrorReply:
    """Return the body of an error."""
    return ErrorReply(error=str(error))


OUTPUTS: dict[str, Callable[[Answer], Any]] = {
    "label": lambda answer: answer.label or "",
    "probabilities": lambda answer: list(answer.probs.values()),
    "confidence": lambda answer: answer.confidence,
    "status": lambda answer: answer.status,
}
"""What a text has in each output; `label` is empty where the service abstains."""


def _tensor(name: str, answers: Sequence[Answer]) -> OutputTensor:
    values = [OUTPUTS[name](answer) for answer in answers]
    described = _described(name, tuple(answers[0].probs))
    shape = [len(answers), *described.shape[1:]]
    flat = [value for row in values for value in row] if name == "probabilities" else values
    return OutputTensor(name=name, shape=shape, datatype=described.datatype, data=flat, parameters=described.parameters)


def _described(name: str, labels: Sequence[str]) -> TensorMetadata:
    if name == "probabilities":
        named = {"labels": LABEL_SEPARATOR.join(labels)}
        return TensorMetadata(name=name, datatype="FP64", shape=[-1, len(labels)], parameters=named)
    return TensorMetadata(name=name, datatype="FP64" if name == "confidence" else "BYTES", shape=[-1])


def _texts(body: InferRequest) -> list[str]:
    if len(body.inputs) != 1:
        raise BadRequestError(f"inputs: {len(body.inputs)} tensors; expected one, of datatype BYTES")
    tensor = body.inputs[0]
    if tensor.datatype != "BYTES":
        raise BadRequestError(f"inputs[0].datatype: {tensor.datatype[:20]!r}; expected BYTES")
    nested = all(isinstance(row, list) and len(row) == 1 for row in tensor.data)
    shape = [len(tensor.data), 1] if nested and tensor.data else [len(tensor.data)]
    flat = [row if isinstance(row, str) else row[0] for row in tensor.data] if nested else list(tensor.data)
    if not all(isinstance(text, str) for text in flat):
        raise BadRequestError("inputs[0].data: expected strings, or lists of one string each")
    if tensor.shape not in (shape, [len(flat), 1]):
        raise BadRequestError(f"inputs[0].shape: {tensor.shape[:8]} and the data is {shape}; expected [n] or [n, 1]")
    return [str(text) for text in flat]


def _check_model(call: Call) -> None:
    name = call.request.path_params["name"]
    if name != call.service.bundle.name:
        raise NotFoundError(f"model {name[:80]!r}; this server has {call.service.bundle.name!r} alone")
    _check_version(call, call.service.bundle_id)


def _check_version(call: Call, bundle_id: str) -> None:
    version = call.request.path_params.get("version", bundle_id)
    if version != bundle_id:
        raise NotFoundError(f"version {version[:80]!r}; this server has {bundle_id} alone")


def _model_operations(path: str, of: str) -> tuple[Operation, ...]:
    return (
        Operation(method="GET", path=path, title=f"Describe {of}", reply=ModelMetadata, answer=answer_model),
        Operation(
            method="GET",
            path=f"{path}/ready",
            title=f"Whether {of} takes requests",
            reply=ModelReady,
            answer=answer_model_ready,
        ),
        Operation(
            method="POST",
            path=f"{path}/infer",
            title=f"Classify texts with {of}",
            about=(
                "One input of datatype BYTES. Outputs: label (empty where the service abstains), probabilities (in the "
                "order of its parameter `labels`), confidence and status."
            ),
            asks=InferRequest,
            reply=InferReply,
            answer=answer_infer,
        ),
    )


OIP = WireProtocol(
    name="open inference protocol",
    prefixes=("/v2",),
    operations=(
        Operation(method="GET", path="/v2", title="Describe this server", reply=ServerMetadata, answer=answer_server),
        probe("/v2/health/live", "Whether the process answers", ready=False),
        probe("/v2/health/ready", "Whether a request would be taken", ready=True),
        *_model_operations("/v2/models/{name}", "the model"),
        *_model_operations("/v2/models/{name}/versions/{version}", "one version of the model"),
    ),
    error_type=ErrorReply,
    render_error=render_error,
)
