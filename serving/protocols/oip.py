"""The Open Inference Protocol, version 2, as implemented by KServe, Triton and OpenVINO: tensors in JSON.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

from typing import Literal

import msgspec

from hybrid import __version__
from serving.errors import NotFoundError, ServingError
from serving.protocols.oip_binary import EXTENSION, JSON_LENGTH_HEADER
from serving.protocols.oip_tensors import (
    BINARY_DATA_SIZE,
    OUTPUTS,
    InferReply,
    InferRequest,
    TensorMetadata,
    check_outputs,
    output_metadata,
    output_tensors,
    texts_of,
)
from serving.protocols.operation import Call, Operation, WireProtocol, WithTail, classify_all
from serving.protocols.probes import answer_ready, probe
from serving.types import Options

EXTENSIONS = (EXTENSION, "model_configuration")


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
        outputs=[output_metadata(name, labels) for name in OUTPUTS],
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
    check_outputs(body)
    parameters = body.parameters
    options = Options(truncate=parameters.truncate, escalate=parameters.escalate, threshold=parameters.threshold)
    answers = await classify_all(call, texts_of(body, call.tail), options)
    _check_version(call, answers[0].bundle_id)
    outputs, tail = output_tensors(body, answers)
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


def _configured(tensor: TensorMetadata) -> ConfiguredTensor:
    data_type: Literal["TYPE_STRING", "TYPE_FP64"] = "TYPE_STRING" if tensor.datatype == "BYTES" else "TYPE_FP64"
    return ConfiguredTensor(name=tensor.name, data_type=data_type, dims=tensor.shape)


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
