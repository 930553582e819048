"""The tensors of the Open Inference Protocol: what a request's are, the texts in them, and the outputs made of answers."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hybrid.types import LABEL_SEPARATOR
from serving.errors import BadRequestError
from serving.protocols.oip_binary import JSON_LENGTH_HEADER, read_texts, write_floats, write_texts
from serving.types import Answer, Escalate, Truncate

Datatype = Literal["BYTES", "FP64"]
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


OUTPUTS: dict[str, Callable[[Answer], Any]] = {
    "label": lambda answer: answer.label or "",
    "probabilities": lambda answer: list(answer.probs.values()),
    "confidence": lambda answer: answer.confidence,
    "status": lambda answer: answer.status,
}
"""Each output, computed from the answer to a text; `label` is empty if the service abstains."""


def output_tensors(body: InferRequest, answers: Sequence[Answer]) -> tuple[list[OutputTensor], bytes]:
    """Build the outputs that a request asks for, and the bytes of those whose values follow the JSON."""
    outputs, tail = [], b""
    for output in requested_outputs(body):
        tensor = _tensor(output.name, answers)
        is_binary = output.parameters.binary_data
        if body.parameters.binary_data_output if is_binary is None else is_binary:
            tensor, data = _as_binary(tensor)
            tail += data
        outputs.append(tensor)
    return outputs, tail


def _tensor(name: str, answers: Sequence[Answer]) -> OutputTensor:
    values = [OUTPUTS[name](answer) for answer in answers]
    metadata = output_metadata(name, tuple(answers[0].probs))
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


def requested_outputs(body: InferRequest) -> list[RequestedOutput]:
    """List the outputs that a request asks for: all, where it names none."""
    return body.outputs or [RequestedOutput(name=name) for name in OUTPUTS]


def check_outputs(body: InferRequest) -> None:
    """Refuse outputs that the model does not have, or that are requested in a form that it does not support.

    Raises:
        BadRequestError: of one of them.
    """
    for number, output in enumerate(requested_outputs(body)):
        _check_output(output, f"outputs[{number}]")


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


def output_metadata(name: str, labels: Sequence[str]) -> TensorMetadata:
    """Describe an output."""
    if name == "probabilities":
        parameters = {"labels": LABEL_SEPARATOR.join(labels)}
        return TensorMetadata(name=name, datatype="FP64", shape=[-1, len(labels)], parameters=parameters)
    return TensorMetadata(name=name, datatype="FP64" if name == "confidence" else "BYTES", shape=[-1])


def texts_of(body: InferRequest, tail: bytes) -> list[str]:
    """Read the texts of a request, from its JSON or from the bytes behind it.

    Raises:
        BadRequestError: it does not have one tensor of texts, or its shape or size is another than it says.
    """
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
