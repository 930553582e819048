"""The Open Inference Protocol, version 2, as implemented by KServe, Triton and OpenVINO: tensors in JSON.

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
    """The `parameters` of a request that the service reads; it ignores all others."""

    truncate: Truncate | None = None
    escalate: Escalate = "auto"
    threshold: Annotated[float, Meta(ge=0, le=1)] | None = None


class InputTensor(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor of texts of shape [n] or [n, 1], its data flat or nested."""

    name: str
    shape: list[Annotated[int, Meta(ge=0, le=1 << 31)]]
    datatype: str
    data: list[str | list[str]]


class RequestedOutput(msgspec.Struct, frozen=True, kw_only=True):
    """The name of a requested output."""

    name: str


class InferRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a request: one input of texts, and the requested outputs (none: all)."""

    id: str | None = None
    inputs: list[InputTensor]
    outputs: list[RequestedOutput] | None = None
    parameters: InferParameters = InferParameters()


class OutputTensor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One output for all texts, its data flat."""

    name: str
    shape: list[int]
    datatype: Datatype
    data: list[str | float]
    parameters: dict[str, str] = {}


class InferReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of a reply: the outputs, in the order of the request."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class TensorMetadata(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tensor that the model takes or returns; a dimension of -1 is the number of texts."""

    name: str
    datatype: Datatype
    shape: list[int]
    parameters: dict[str, str] = {}


class ModelMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle that is being served, described as a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Name and version of this server."""

    name: str
    version: str
    extensions: list[str]


class ModelReady(msgspec.Struct, frozen=True, kw_only=True):
    """Reports whether the model accepts requests."""

    name: str
    ready: bool


class ErrorReply(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every error of this protocol."""

    error: str


async def answer_server(_call: Call) -> ServerMetadata:
    """Describe this server."""
    return ServerMetadata(name="hybrid", version=__version__, extensions=[])


async def answer_model(call: Call) -> ModelMetadata:
    """Describe the model's inputs and outputs."""
    _check_model(call)
    labels = call.service.bundle.labels
    return ModelMetadata(
        name=call.service.bundle.name,
        versions=[call.service.bundle_id],
        platform="onnx_onnxruntime",
        inputs=[TensorMetadata(name="text", datatype="BYTES", shape=[-1])],
        outputs=[_metadata(name, labels) for name in OUTPUTS],
    )


async def answer_model_ready(call: Call) -> ModelReady:
    """Report that the model accepts requests."""
    _check_model(call)
    await answer_ready(call)
    return ModelReady(name=call.service.bundle.name, ready=True)


async def answer_infer(call: Call) -> InferReply:
    """Classify the texts of a request and answer with the requested outputs."""
    body: InferRequest = call.body
    _check_model(call)
    requested = [output.name for output in body.outputs] if body.outputs else list(OUTPUTS)
    unknown = [name for name in requested if name not in OUTPUTS]
    if unknown:
        raise BadRequestError(f"outputs: got {unknown[0][:80]!r}, expected some of {', '.join(OUTPUTS)}")
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
    """Render an error as the body of this protocol's error replies."""
    return ErrorReply(error=str(error))


OUTPUTS: dict[str, Callable[[Answer], Any]] = {
    "label": lambda answer: answer.label or "",
    "probabilities": lambda answer: list(answer.probs.values()),
    "confidence": lambda answer: answer.confidence,
    "status": lambda answer: answer.status,
}
"""Each output, computed from the answer to a text; `label` is empty if the service abstains."""


def _tensor(name: str, answers: Sequence[Answer]) -> OutputTensor:
    values = [OUTPUTS[name](answer) for answer in answers]
    metadata = _metadata(name, tuple(answers[0].probs))
    shape = [len(answers), *metadata.shape[1:]]
    flat = [value for row in values for value in row] if name == "probabilities" else values
    return OutputTensor(name=name, shape=shape, datatype=metadata.datatype, data=flat, parameters=metadata.parameters)


def _metadata(name: str, labels: Sequence[str]) -> TensorMetadata:
    if name == "probabilities":
        parameters = {"labels": LABEL_SEPARATOR.join(labels)}
        return TensorMetadata(name=name, datatype="FP64", shape=[-1, len(labels)], parameters=parameters)
    return TensorMetadata(name=name, datatype="FP64" if name == "confidence" else "BYTES", shape=[-1])


def _texts(body: InferRequest) -> list[str]:
    if len(body.inputs) != 1:
        raise BadRequestError(f"inputs: expected one tensor of datatype BYTES, got {len(body.inputs)} tensors")
    tensor = body.inputs[0]
    if tensor.datatype != "BYTES":
        raise BadRequestError(f"inputs[0].datatype: expected BYTES, got {tensor.datatype[:20]!r}")
    nested = all(isinstance(row, list) and len(row) == 1 for row in tensor.data)
    shape = [len(tensor.data), 1] if nested and tensor.data else [len(tensor.data)]
    flat = [row if isinstance(row, str) else row[0] for row in tensor.data] if nested else list(tensor.data)
    if not all(isinstance(text, str) for text in flat):
        raise BadRequestError("inputs[0].data: expected strings, or lists of one string each")
    if tensor.shape not in (shape, [len(flat), 1]):
        raise BadRequestError(
            f"inputs[0].shape: got {tensor.shape[:8]} for data of shape {shape}; expected [n] or [n, 1]"
        )
    return [str(text) for text in flat]


def _check_model(call: Call) -> None:
    name = call.request.path_params["name"]
    if name != call.service.bundle.name:
        raise NotFoundError(
            f"model: got {name[:80]!r}, expected {call.service.bundle.name!r}, the only model of this server"
        )
    _check_version(call, call.service.bundle_id)


def _check_version(call: Call, bundle_id: str) -> None:
    version = call.request.path_params.get("version", bundle_id)
    if version != bundle_id:
        raise NotFoundError(f"version: got {version[:80]!r}, expected {bundle_id}, the only version of this server")


def _model_operations(path: str, of: str) -> tuple[Operation, ...]:
    return (
        Operation(method="GET", path=path, title=f"Describe {of}", reply=ModelMetadata, answer=answer_model),
        Operation(
            method="GET",
            path=f"{path}/ready",
            title=f"Check whether {of} accepts requests",
            reply=ModelReady,
            answer=answer_model_ready,
        ),
        Operation(
            method="POST",
            path=f"{path}/infer",
            title=f"Classify texts with {of}",
            about=(
                "One input of datatype BYTES. Outputs: label (empty if the service abstains), probabilities (in the "
                "order of its parameter `labels`), confidence and status."
            ),
            asks=InferRequest,
            reply=InferReply,
            answer=answer_infer,
            untyped_body=True,  # tritonclient
        ),
    )


OIP = WireProtocol(
    name="open inference protocol",
    prefixes=("/v2",),
    operations=(
        Operation(method="GET", path="/v2", title="Describe this server", reply=ServerMetadata, answer=answer_server),
        probe("/v2/health/live", "Check whether the process answers", ready=False),
        probe("/v2/health/ready", "Check whether a request would be accepted", ready=True),
        *_model_operations("/v2/models/{name}", "the model"),
        *_model_operations("/v2/models/{name}/versions/{version}", "one version of the model"),
    ),
    error_type=ErrorReply,
    render_error=render_error,
)
