"""The service's own protocol: replies contain every field of an `Answer`."""

import asyncio
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request

from hybrid.errors import BundleError
from hybrid.runtime.calibration import Threshold
from hybrid.runtime.text_encoder import TextLimits
from hybrid.types import Precision, Task
from serving.errors import BadRequestError, BundleRefusedError, ForbiddenError, ItemError, ServingError
from serving.protocols.operation import TIMEOUT_HEADER, Call, Operation, WireProtocol, check_timeout, classify
from serving.settings import Limits, SwapOverHttp
from serving.types import Answer, Deadline, Escalate, Options, Truncate

LONGEST_PATH = 4096


class ClassifyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request: one text or several, and the options for answering them."""

    inputs: str | Annotated[list[str], Meta(min_length=1)]
    top_k: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    """The number of most probable labels in `probs`; absent: all."""
    truncate: Truncate | None = None
    """How to handle a text that is longer than the encoder reads; absent: as the bundle is configured."""
    escalate: Escalate = "auto"
    threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    """The confidence below which a text escalates; absent: the bundle's threshold."""
    timeout_ms: Annotated[float, Meta(gt=0)] | None = None
    evidence: bool = False
    """Whether each answer has its evidence words, `evidence`, with their places; only where the bundle has them."""


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    """Explains why a request, or one of its texts, got no answer."""

    kind: str
    """The stable name of the reason."""
    message: str
    item: int | None = None
    """The position of the text in question; absent if the error concerns the whole request."""
    request_id: str | None = None


class ErrorReply(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every error of this protocol."""

    error: ErrorDetail


class ClassifyReply(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a reply: the answers, in the order of the texts."""

    answers: list[Answer | None]
    """null if the engine failed on that text alone; `failed` has the reason. `probs` starts with the most probable."""
    failed: list[ErrorDetail]
    bundle_id: str


class BundleReply(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle that is being served, and the limits of the service."""

    bundle_id: str
    name: str
    labels: tuple[str, ...]
    task: Task
    encoder: str
    precision: Precision
    """What the engine computes in: the precision of the graph, or bf16 where the engine lowers fp32 to it."""
    threshold: Threshold
    reading: TextLimits
    limits: Limits
    engine: str
    """The library that runs the graph."""
    evidence: bool
    """Whether answers can have their evidence words."""


class SwapRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The folder of the bundle to serve instead, on the machine of the service: in `swap.root`, and relative to it."""

    folder: Annotated[str, Meta(min_length=1, max_length=LONGEST_PATH)]


class SwapReply(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle that is served from now on."""

    bundle_id: str


async def answer_classify(call: Call) -> ClassifyReply:
    """Classify the texts of a request, one answer per text."""
    body: ClassifyRequest = call.body
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    options = Options(truncate=body.truncate, escalate=body.escalate, threshold=body.threshold, evidence=body.evidence)
    results = await classify(call, texts, options, _deadline(call, body.timeout_ms))
    errors = {item: result for item, result in enumerate(results) if isinstance(result, ItemError)}
    if len(errors) == len(results):
        raise errors[0]
    answers = [None if isinstance(result, ItemError) else _with_top(result, body.top_k) for result in results]
    return ClassifyReply(
        answers=answers,
        failed=[_detail(error, item=item) for item, error in errors.items()],
        bundle_id=next(answer.bundle_id for answer in answers if answer),
    )


async def answer_bundle(call: Call) -> BundleReply:
    """Describe the bundle that is being served."""
    bundle = call.service.bundle
    return BundleReply(
        bundle_id=call.service.bundle_id,
        name=bundle.name,
        labels=bundle.labels,
        task=bundle.task,
        encoder=bundle.encoder,
        precision=call.service.precision,
        threshold=bundle.threshold,
        reading=bundle.reading,
        limits=call.settings.limits,
        engine=call.service.engine,
        evidence=bool(bundle.evidence),
    )


async def answer_swap(call: Call) -> SwapReply:
    """Replace the bundle that is being served.

    Raises:
        ForbiddenError: the settings do not let this caller change the bundle, or it is a page in a browser.
        BundleRefusedError: the new bundle is not valid; the old one continues to serve.
    """
    body: SwapRequest = call.body
    swap = call.settings.swap
    _check_may_swap(call.request, swap.over_http)
    if "\0" in body.folder:
        raise BadRequestError("folder: got a path with a NUL character; expected the path of a folder")
    try:
        # Shielded, so that a caller who disconnects does not stop a swap half-way.
        folder = Path(swap.root) / body.folder
        swapping = call.service.swap(str(folder), below=Path(swap.root) if swap.root else call.service.folder)
        return SwapReply(bundle_id=await asyncio.shield(swapping))
    except BundleError as error:
        raise BundleRefusedError(f"{error}; the old bundle continues to serve") from error


def render_error(error: ServingError, request_id: str) -> ErrorReply:
    """Render an error as the body of this protocol's error replies."""
    return ErrorReply(error=_detail(error, item=error.item, request_id=request_id))


def _detail(error: ServingError, *, item: int | None, request_id: str | None = None) -> ErrorDetail:
    return ErrorDetail(kind=error.kind, message=str(error), item=item, request_id=request_id)


def _deadline(call: Call, timeout_ms: float | None) -> Deadline:
    """Choose the deadline: the body's `timeout_ms` or else the request's, both counted from the arrival of the request."""
    if timeout_ms is None:
        return call.deadline
    timeout_s = check_timeout(timeout_ms, call.settings.limits, "timeout_ms")
    arrived = call.deadline.at - call.deadline.timeout_s
    requested = Deadline(at=arrived + timeout_s, timeout_s=timeout_s)
    if TIMEOUT_HEADER not in call.request.headers:
        return requested
    return min(requested, call.deadline, key=lambda deadline: deadline.at)


def _with_top(answer: Answer, k: int | None) -> Answer:
    ranked = sorted(answer.probs.items(), key=lambda pair: -pair[1])
    return msgspec.structs.replace(answer, probs=dict(ranked[:k]))


def _check_may_swap(request: Request, allowed: SwapOverHttp) -> None:
    """Allow programs with an API key and, if the settings say so, programs on this machine.

    A page of another site can make a browser on this machine send requests; the header `Origin` reveals it. Behind a
    proxy on this machine every caller appears to be local; where the proxy adds `Forwarded` or `X-Forwarded-For`, they
    reveal it.
    """
    if allowed == "off":
        raise ForbiddenError('the bundle cannot be changed over HTTP (swap.over_http = "off"); send SIGHUP instead')
    if "origin" in request.headers:
        raise ForbiddenError("a page in a browser may not change the bundle; send the request from a program")
    if request.state.has_key:
        return
    if allowed != "from_this_machine":
        raise ForbiddenError(
            "the bundle cannot be changed over HTTP while the service requires no API key; set HYBRID_API_KEYS, or send "
            'SIGHUP, or, where no proxy is on this machine, set swap.over_http = "from_this_machine"'
        )
    forwarded = "forwarded" in request.headers or "x-forwarded-for" in request.headers
    if request.client is None or forwarded or not ip_address(request.client.host).is_loopback:
        raise ForbiddenError(
            "without API keys the bundle can be changed from this machine only; set HYBRID_API_KEYS to change it from "
            "elsewhere"
        )


_ABOUT_CLASSIFY = (
    "`inputs` is one text or a list of texts. Every answer has the label, calibrated probabilities, the confidence that "
    "was compared with `threshold`, and whether that was high enough (`accepted`) or not (`escalated`, `abstained`)."
)
NATIVE = WireProtocol(
    name="native",
    prefixes=("/",),
    operations=(
        Operation(
            method="POST",
            path="/v1/classify",
            title="Classify texts",
            about=_ABOUT_CLASSIFY,
            asks=ClassifyRequest,
            reply=ClassifyReply,
            answer=answer_classify,
        ),
        Operation(
            method="GET",
            path="/v1/bundle",
            title="Describe the bundle that is being served",
            reply=BundleReply,
            answer=answer_bundle,
        ),
        Operation(
            method="POST",
            path="/v1/bundle",
            title="Serve another bundle",
            about=(
                "The new bundle is verified while the old one continues to serve, and replaces it only if it is valid "
                "(otherwise 422). Allowed with an API key; the settings `swap.over_http` and `swap.root` say from where, "
                "and which folders."
            ),
            asks=SwapRequest,
            reply=SwapReply,
            answer=answer_swap,
        ),
    ),
    error_type=ErrorReply,
    render_error=render_error,
)
