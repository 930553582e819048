"""The service's own protocol: everything that an answer knows, by its own name."""

import asyncio
from ipaddress import ip_address
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
from serving.settings import Limits
from serving.types import Answer, Deadline, Escalate, Options, Truncate

LONGEST_PATH = 4096


class ClassifyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One text or several, and how they are to be answered."""

    inputs: str | Annotated[list[str], Meta(min_length=1)]
    top_k: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    """How many of the most probable labels are in `probs`; absent: all."""
    truncate: Truncate | None = None
    """What becomes of a text that the encoder cannot read whole; absent: as the bundle says."""
    escalate: Escalate = "auto"
    threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    """The confidence below which a text escalates; absent: the bundle's."""
    timeout_ms: Annotated[float, Meta(gt=0)] | None = None


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request or one of its texts has no answer."""

    kind: str
    """A stable name."""
    message: str
    item: int | None = None
    """The position of the text that it is about."""
    request_id: str | None = None


class ErrorReply(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every error of this protocol."""

    error: ErrorDetail


class ClassifyReply(msgspec.Struct, frozen=True, kw_only=True):
    """The answers, in the order of the texts."""

    answers: list[Answer | None]
    """null where the engine fails on that text alone; `failed` says so. `probs` runs from the most probable down."""
    failed: list[ErrorDetail]
    bundle_id: str


class BundleReply(msgspec.Struct, frozen=True, kw_only=True):
    """What serves now, and within which limits."""

    bundle_id: str
    name: str
    labels: tuple[str, ...]
    task: Task
    encoder: str
    precision: Precision
    threshold: Threshold
    reading: TextLimits
    limits: Limits


class SwapRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The folder of another bundle, on the machine that serves."""

    folder: Annotated[str, Meta(min_length=1, max_length=LONGEST_PATH)]


class SwapReply(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle that serves from now on."""

    bundle_id: str


async def answer_classify(call: Call) -> ClassifyReply:
    """Answer with one answer per text."""
    body: ClassifyRequest = call.body
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    options = Options(truncate=body.truncate, escalate=body.escalate, threshold=body.threshold)
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
    """Describe the bundle that serves now."""
    bundle = call.service.bundle
    return BundleReply(
        bundle_id=call.service.bundle_id,
        name=bundle.name,
        labels=bundle.labels,
        task=bundle.task,
        encoder=bundle.encoder,
        precision=bundle.precision,
        threshold=bundle.threshold,
        reading=bundle.reading,
        limits=call.settings.limits,
    )


async def answer_swap(call: Call) -> SwapReply:
    """Serve another bundle from now on.

    Raises:
        ForbiddenError: the caller is a page in a browser, or brings no key and is not on this machine.
        BundleRefusedError: it is no sound bundle; the old one goes on serving.
    """
    body: SwapRequest = call.body
    _check_may_swap(call.request)
    if "\0" in body.folder:
        raise BadRequestError("folder: it has a NUL character; expected the path of a folder")
    try:
        # Shielded: a caller that leaves does not stop a swap half-way.
        return SwapReply(bundle_id=await asyncio.shield(call.service.swap(body.folder)))
    except BundleError as error:
        raise BundleRefusedError(f"{error}; the old bundle continues to serve") from error


def render_error(error: ServingError, request_id: str) -> ErrorReply:
    """Return the body of an error."""
    return ErrorReply(error=_detail(error, item=error.item, request_id=request_id))


def _detail(error: ServingError, *, item: int | None, request_id: str | None = None) -> ErrorDetail:
    return ErrorDetail(kind=error.kind, message=str(error), item=item, request_id=request_id)


def _deadline(call: Call, timeout_ms: float | None) -> Deadline:
    """The deadline that the body names, or else the request's; both count from the arrival of the request."""
    if timeout_ms is None:
        return call.deadline
    timeout_s = check_timeout(timeout_ms, call.settings.limits, "timeout_ms")
    arrived = call.deadline.at - call.deadline.timeout_s
    own = Deadline(at=arrived + timeout_s, timeout_s=timeout_s)
    return min(own, call.deadline, key=lambda deadline: deadline.at) if TIMEOUT_HEADER in call.request.headers else own


def _with_top(answer: Answer, k: int | None) -> Answer:
    ranked = sorted(answer.probs.items(), key=lambda pair: -pair[1])
    return msgspec.structs.replace(answer, probs=dict(ranked[:k]))


def _check_may_swap(request: Request) -> None:
    """Allow programs with a key, and where the service needs none, programs on this machine.

    A page of another site can make a browser on this machine send requests, and says so with `Origin`; behind a proxy
    on this machine every caller seems to be on it, and the proxy says so with `Forwarded` or `X-Forwarded-For`.
    """
    if "origin" in request.headers:
        raise ForbiddenError("a page in a browser may not change the bundle; send the request from a program")
    if request.state.has_key:
        return
    forwarded = "forwarded" in request.headers or "x-forwarded-for" in request.headers
    if request.client is None or forwarded or not ip_address(request.client.host).is_loopback:
        raise ForbiddenError(
            "without API keys the bundle can be changed from this machine only; set HYBRID_API_KEYS to change it from "
            "elsewhere"
        )


_ABOUT_CLASSIFY = (
    "`inputs` is one text or a list. Every answer has the label, calibrated probabilities, the confidence that was "
    "compared with `threshold`, and whether the encoder was sure enough (`accepted`) or not (`escalated`, `abstained`)."
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
            method="GET", path="/v1/bundle", title="Tell what serves now", reply=BundleReply, answer=answer_bundle
        ),
        Operation(
            method="POST",
            path="/v1/bundle",
            title="Serve another bundle",
            about=(
                "The bundle is verified beside the old one, which serves until then and goes on where it is not sound "
                "(422). Allowed with an API key; where none is asked for, to programs on the same machine."
            ),
            asks=SwapRequest,
            reply=SwapReply,
            answer=answer_swap,
        ),
    ),
    error_type=ErrorReply,
    render_error=render_error,
)
