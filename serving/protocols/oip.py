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
from serving.protocols.oip_binary import EXTENSION, JSON_LENGTH_HEADER, read_texts, write_floats, write_texts
from serving.protocols.operation import Call, Operation, WireProtocol, WithTail, classify_all
from serving.protocols.probes import answer_ready, probe
from serving.types import Answer, Escalate, Options, Truncate

Datatype = Literal["BYTES", "FP64"]
EXTENSIONS = (EXTENSION, "model_configuration")
BINARY_DATA_SIZE = "binary_data_size"
"""The parameter of a tensor that says how many bytes its values are, behind the JSON."""


class InferParameters(msgspec.Struct, frozen=True, kw_only=True):
    """The `parameters` of a request that the service reads; it ignores all others."""

    truncate: Truncate | None = None
    escalate: Escalate = "auto"
    threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    binary_data_output: bool = False
    """Whether outputs are sent as bytes behind the JSON, where they do not say themselves."""


class InputParameters(msgspec.Struct, frozen=True, kw_only=True):
    """The `parameters` of an input that the service reads."""

    binary_data_size: Annotated[int, Meta(ge=0, le=1 << 31)] | None = None
    """How many bytes of values follow the JSON; absent: the values are in `data`."""
    shared_memory_region: str | None = None
    """Refused: the service shares no memory with its clients."""


class InputTensor(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor of texts of shape [n] or [n, 1], its data flat or nested, or as bytes behind the JSON."""

    name: str
    shape: list[Annotated[int, Meta(ge=0, le=1 << 31)]]
    datatype: str
    data: list[str | list[str]] | None = None
    parameters: InputParameters = InputParameters()


class OutputParameters(msgspec.Struct, frozen=True, kw_only=True):
    """The `parameters` of a requested output that the service reads."""

    binary_data: bool | None = None
    """Whether it is sent as bytes behind the JSON; absent: as the request's parameters say."""
    classification: int | None = None
    """Refused: the output `probabilities` has every class."""
    shared_memory_region: str | None = None
    """Refused: the service shares no memory with its clients."""


class RequestedOutput(msgspec.Struct, frozen=True, kw_only=True):
    """The name of a requested output, and how to send it."""

    name: str
    parameters: OutputParameters = OutputParameters()


class InferRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a request: one input of texts, and the requested outputs (none: all)."""

    id: str | None = None
    inputs: list[InputTensor]
    outputs: list[RequestedOutput] | None = None
    parameters: InferParameters = InferParameters()


class OutputTensor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One output for all texts, its data flat, or as bytes behind the JSON (parameter `binary_data_size`)."""

    name: str
    shape: list[int]
    datatype: Datatype
    data: list[str | float] | None = None
    parameters: dict[str, str | int] = {}


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


class ConfiguredTensor(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor in a model's configuration; a dimension of -1 is the number of texts."""

    name: str
    data_type: Literal["TYPE_STRING", "TYPE_FP64"]
    dims: list[int]


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The model's configuration as Triton describes it (extension `model_configuration`), as far as it has a meaning here."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    """0: the number of texts is a dimension of the tensors."""
    input: list[ConfiguredTensor]
    output: list[ConfiguredTensor]


class RepositoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A model in the index (extension `model_repository`)."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


class ModelReady(msgspec.Struct, frozen=True, kw_only=True):
    """Reports whether the model accepts requests."""

    name: str
    ready: bool


class ErrorReply(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every error of this protocol."""

    error: str


async def answer_server(_call: Call) -> ServerMetadata:
    """Describe this server."""
    return ServerMetadata(name="hybrid", version=__version__, extensions=list(EXTENSIONS))


async def answer_config(call: Call) -> ModelConfig:
    """Describe the model in the terms of Triton's configuration."""
    metadata = await answer_model(call)
    return ModelConfig(
        name=metadata.name,
        platform=metadata.platform,
        backend="onnxruntime",
        max_batch_size=0,
        input=[_configured(tensor) for tensor in metadata.inputs],
        output=[_configured(tensor) for tensor in metadata.outputs],
    )


async def answer_index(call: Call) -> list[RepositoryEntry]:
    """List the one model of this server."""
    service = call.service
    state: Literal["READY", "UNAVAILABLE"] = "READY" if service.ready else "UNAVAILABLE"
    return [RepositoryEntry(name=service.bundle.name, version=service.bundle_id, state=state, reason="")]


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


async def answer_infer(call: Call) -> InferReply | WithTail:
    """Classify the texts of a request and answer with the requested outputs."""
    body: InferRequest = call.body
    _check_model(call)
    requested = body.outputs or [RequestedOutput(name=name) for name in OUTPUTS]
    for number, output in enumerate(requested):
        _check_output(output, f"outputs[{number}]")
    parameters = body.parameters
    options = Options(truncate=parameters.truncate, escalate=parameters.escalate, threshold=parameters.threshold)
    answers = await classify_all(call, _texts(body, call.tail), options)
    _check_version(call, answers[0].bundle_id)
    outputs, tail = [], b""
    for output in requested:
        tensor = _tensor(output.name, answers)
        is_binary = output.parameters.binary_data
        if parameters.binary_data_output if is_binary is None else is_binary:
            tensor, data = _as_binary(tensor)
            tail += data
        outputs.append(tensor)
    reply = InferReply(
        model_name=call.request.path_params["name"],
        model_version=answers[0].bundle_id,
        id=body.id,
        outputs=outputs,
    )
    has_tail = any(BINARY_DATA_SIZE in tensor.parameters for tensor in outputs)
    return WithTail(head=reply, tail=tail) if has_tail else reply


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
    return OutputTensor(
        name=name, shape=shape, datatype=metadata.datatype, data=flat, parameters={**metadata.parameters}
    )


def _as_binary(tensor: OutputTensor) -> tuple[OutputTensor, bytes]:
    """Take the values out of an output, and return them as bytes."""
    values: list[Any] = tensor.data or []
    data = write_texts(values) if tensor.datatype == "BYTES" else write_floats(values)
    parameters = tensor.parameters | {BINARY_DATA_SIZE: len(data)}
    return msgspec.structs.replace(tensor, data=None, parameters=parameters), data


def _configured(tensor: TensorMetadata) -> ConfiguredTensor:
    data_type: Literal["TYPE_STRING", "TYPE_FP64"] = "TYPE_STRING" if tensor.datatype == "BYTES" else "TYPE_FP64"
    return ConfiguredTensor(name=tensor.name, data_type=data_type, dims=tensor.shape)


def _check_output(output: RequestedOutput, where: str) -> None:
    if output.name not in OUTPUTS:
        raise BadRequestError(f"{where}: got {output.name[:80]!r}, expected some of {', '.join(OUTPUTS)}")
    if output.parameters.classification is not None:
        raise BadRequestError(
            f"{where}.parameters.classification: not supported; ask for the output `probabilities`, in the order of its "
            "parameter `labels`"
        )
    _check_no_shared_memory(output.parameters.shared_memory_region, where)


def _check_no_shared_memory(region: str | None, where: str) -> None:
    if region is not None:
        raise BadRequestError(f"{where}.parameters.shared_memory_region: not supported; send and receive the values")


def _metadata(name: str, labels: Sequence[str]) -> TensorMetadata:
    if name == "probabilities":
        parameters = {"labels": LABEL_SEPARATOR.join(labels)}
        return TensorMetadata(name=name, datatype="FP64", shape=[-1, len(labels)], parameters=parameters)
    return TensorMetadata(name=name, datatype="FP64" if name == "confidence" else "BYTES", shape=[-1])


def _texts(body: InferRequest, tail: bytes) -> list[str]:
    if len(body.inputs) != 1:
        raise BadRequestError(f"inputs: expected one tensor of datatype BYTES, got {len(body.inputs)} tensors")
    tensor = body.inputs[0]
    if tensor.datatype != "BYTES":
        raise BadRequestError(f"inputs[0].datatype: expected BYTES, got {tensor.datatype[:20]!r}")
    _check_no_shared_memory(tensor.parameters.shared_memory_region, "inputs[0]")
    n_bytes = tensor.parameters.binary_data_size
    if n_bytes is None:
        return _texts_in_json(tensor, tail)
    if tensor.data is not None:
        raise BadRequestError("inputs[0]: got data and binary_data_size; expected one of them")
    if n_bytes != len(tail):
        raise BadRequestError(
            f"inputs[0].parameters.binary_data_size: got {n_bytes}, and {len(tail)} bytes follow the JSON; expected the header "
            f"{JSON_LENGTH_HEADER} with the length of the JSON, and the values behind it (tritonclient: or binary_data=False)"
        )
    texts = read_texts(tail, "inputs[0]")
    if tensor.shape not in ([len(texts)], [len(texts), 1]):
        raise BadRequestError(
            f"inputs[0].shape: got {tensor.shape[:8]} for {len(texts)} values; expected [n] or [n, 1]"
        )
    return texts


def _texts_in_json(tensor: InputTensor, tail: bytes) -> list[str]:
    if tail:
        raise BadRequestError(
            f"the body: {len(tail)} bytes follow the JSON, and inputs[0] has no binary_data_size; expected the parameter, or "
            "the values in data"
        )
    if tensor.data is None:
        raise BadRequestError("inputs[0].data: missing; expected a list of strings, or the parameter binary_data_size")
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
            path=f"{path}/config",
            title=f"Describe {of} in the terms of Triton's configuration",
            reply=ModelConfig,
            answer=answer_config,
        ),
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
                "order of its parameter `labels`), confidence and status. Values may be binary, as the extension "
                f"{EXTENSION} has it: behind the JSON, whose length is in {JSON_LENGTH_HEADER}."
            ),
            asks=InferRequest,
            reply=InferReply,
            answer=answer_infer,
            untyped_body=True,  # tritonclient
            json_length_header=JSON_LENGTH_HEADER,
        ),
    )


OIP = WireProtocol(
    name="open inference protocol",
    prefixes=("/v2",),
    operations=(
        Operation(method="GET", path="/v2", title="Describe this server", reply=ServerMetadata, answer=answer_server),
        probe("/v2/health/live", "Check whether the process answers", ready=False),
        probe("/v2/health/ready", "Check whether a request would be accepted", ready=True),
        Operation(
            method="POST",
            path="/v2/repository/index",
            title="List the one model of this server",
            reply=list[RepositoryEntry],
            answer=answer_index,
        ),
        *_model_operations("/v2/models/{name}", "the model"),
        *_model_operations("/v2/models/{name}/versions/{version}", "one version of the model"),
    ),
    error_type=ErrorReply,
    render_error=render_error,
)
