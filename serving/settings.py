"""Every setting of the service, read from a TOML file and the command line. Secrets come from the environment only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from hybrid.config import LLMConfig
from hybrid.llm import backend_of
from hybrid.llm.backends import check_llm
from hybrid.overrides import merge
from hybrid.runtime.engines import DEFAULT_ENGINE, ENGINES
from hybrid.toml_settings import RenamedKey, read_toml, rename_keys, to_struct

Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]
API_KEYS = "HYBRID_API_KEYS"
"""The environment variable with the accepted API keys, separated by commas; unset: no key is required."""


OnFailure = Literal["local_label_flagged", "abstain", "error"]
RENAMED = (
    RenamedKey("decoder.policy", "decoder.on_failure", values=get_args(OnFailure)),
    RenamedKey("decoder.llm", "decoder"),
    RenamedKey("decoder.timeout_ms", "decoder.deadline_ms"),
    RenamedKey("decoder.usd_an_hour", "decoder.usd_per_hour"),
    RenamedKey("decoder.usd_a_day", "decoder.usd_per_day"),
)
"""Keys of the last release. The first entry must precede the second, which moves another `policy` to its place."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section of the settings. An unknown key in it is an error."""


class Limits(Section, frozen=True, kw_only=True):
    """Limits on the size of one request, and on all waiting requests together."""

    body_bytes: Count = 1 << 20
    """The most bytes of a body, before and after decompression."""
    body_timeout_ms: Positive = 10_000
    """The longest time that a body may take to arrive."""
    items: Count = 256
    """The most texts of one request."""
    characters: Count = 1 << 20
    """The most characters of one text."""
    queued_tokens: Count = 200_000
    """The most tokens of all waiting requests together."""
    queued_bytes: Count = 64 << 20
    """The most bytes of the bodies of all requests in the service together, and of their texts."""
    wait_ms: Positive = 2_000
    """A request whose expected wait is longer is refused with 429."""
    timeout_ms: Positive = 10_000
    """The deadline of a request that states none."""
    longest_timeout_ms: Positive = 120_000
    """The longest deadline that a caller may request."""


class EngineSettings(Section, frozen=True, kw_only=True):
    """The process that runs the encoder."""

    backend: str = DEFAULT_ENGINE
    """The library that runs the encoder: onnxruntime, or for the fp32 graph of a bundle (one that is in fp32, or portable)
    openvino or cuda."""
    threads: int = 0
    """Threads of the engine; 0: one for each CPU that this process may use, within its container's quota."""
    batch_tokens: int = 0
    """The most padded tokens of a batch; 0: the runtime's default per thread, times the number of threads."""
    hung_after_s: Positive = 1.5
    """A batch that takes at least this much longer than expected counts as hung, and the engine is replaced."""
    dedicated: bool = False
    """Whether idle threads spin, for CPUs that have nothing else to do."""

    def __post_init__(self) -> None:
        """Refuse an engine that is not in the table."""
        if self.backend not in ENGINES:
            raise ValueError(f"backend = {self.backend!r:.80}: expected one of {', '.join(ENGINES)}")


SwapOverHttp = Literal["with_key", "from_this_machine", "off"]


class SwapSettings(Section, frozen=True, kw_only=True):
    """Serving another bundle without a restart, by `POST /v1/bundle` or SIGHUP."""

    over_http: SwapOverHttp = "with_key"
    """Who may change the bundle by `POST /v1/bundle`. with_key: callers with an API key, and nobody while the service
    requires none. from_this_machine: also callers without a key whose connection comes from this machine; behind a proxy
    on this machine that is everybody. off: nobody."""
    root: str = ""
    """The folder that bundles are taken from over HTTP; relative to the settings file. Empty: only the folder that the
    service was started with can be read anew."""
    timeout_s: Positive = 120.0
    """The longest time that reading a new bundle may take."""


class DecoderSettings(LLMConfig, frozen=True, kw_only=True):
    """The decoder of escalated texts: every key of a recipe's [decoder], and the keys that only a service needs.

    With model = "none" nothing is put to a decoder. Paths are relative to the settings file.
    """

    votes: Count = 1
    """How many answers to request per text. With several, the share that agrees is the decoder's confidence."""
    on_failure: OnFailure = "local_label_flagged"
    """What an escalated text gets if the decoder cannot answer: the encoder's label, flagged; no label; or an error."""
    combine: bool = True
    """Whether to combine the decoder's vote with the encoder's probabilities, if the bundle has its reliability."""
    deadline_ms: Positive = 8_000
    """The longest time of one escalation, retries included, within the deadline of the request."""
    retries: Annotated[int, Meta(ge=0, le=2)] = 1
    """How often a failed call is retried, if a retry can help."""
    waiting: Count = 64
    """The most texts that may wait for the decoder; any further text is answered at once according to `on_failure`."""
    breaker_failures: Count = 5
    """After this many failures in a row the decoder gets no calls for a while."""
    breaker_rest_s: Positive = 20.0
    """How long the decoder gets no calls; then a single call tests whether it works again."""
    usd_per_hour: Positive | None = None
    """The most that the calls of any hour may cost. A text whose call could exceed it is answered per `on_failure`."""
    usd_per_day: Positive | None = None
    """The most that the calls of any 24 hours may cost; `budget_usd` limits the calls of all time."""
    cached_answers: Annotated[int, Meta(ge=0)] = 10_000
    """How many of the decoder's answers are cached; 0: none."""
    text_bytes: Annotated[int, Meta(ge=256)] = 32 << 10
    """The most bytes of a text that the decoder is sent and the review store keeps; a longer one is cut where the encoder
    cuts it, and the answer says `truncated`. Also the most bytes of the caller's own instructions and labels."""


class Settings(Section, frozen=True, kw_only=True):
    """All settings of a service."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    """The port to listen on; 0: any free port, which is printed at the start."""
    hosts: tuple[str, ...] = ()
    """Further names that requests may have as their Host, such as that of a proxy in front. Without an API key, a service
    that listens on this machine alone answers only to these and to localhost; any other service only where this is set."""
    root_path: Annotated[str, Meta(pattern=r"^(/[^/?#]+)*$")] = ""
    """The prefix, such as `/soup`, that a proxy in front leaves in the paths that it passes on. One that takes its prefix
    off needs no setting: the page, `/docs` and the OpenAPI document name paths relative to their own."""
    limits: Limits = Limits()
    engine: EngineSettings = EngineSettings()
    decoder: DecoderSettings = DecoderSettings()
    swap: SwapSettings = SwapSettings()
    reviews: str = ""
    """The SQLAlchemy URL of the review store, which keeps escalations; empty: `escalations.sqlite` beside the bundle."""
    log_texts: bool = False
    """Whether logs may contain texts."""
    otlp: str = ""
    """The URL of an OpenTelemetry collector (OTLP over HTTP); empty: no traces."""
    drain_s: Positive = 25.0
    """The longest time that a stop by SIGTERM waits for accepted requests; the process ends 2 s after that at the latest."""


def read_settings(path: Path | None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings of a TOML file with `overrides` merged in; the defaults without a file.

    Raises:
        ConfigError: the file cannot be read, a setting is unknown or out of range, or the decoder's settings contradict each other.
    """
    where = str(path or "settings")
    in_file = rename_keys(read_toml(path, "settings"), RENAMED, where) if path else {}
    merged = merge(in_file, rename_keys(overrides or {}, RENAMED, "--set"))
    settings = to_struct(merged, Settings, where, "settings")
    check_llm(settings.decoder, f"{where}: decoder")
    return _located(settings, path.parent if path else Path())


def _located(settings: Settings, folder: Path) -> Settings:
    """Resolve the paths of the swap root and of the decoder's files, which are relative to the settings file."""
    decoder, swap = settings.decoder, settings.swap
    if swap.root:
        swap = msgspec.structs.replace(swap, root=str((folder / swap.root).resolve()))
    names = ["traces", "policy", "prices", *(["model"] if backend_of(decoder).model_is_path else [])]
    paths = {name: str((folder / getattr(decoder, name)).resolve()) for name in names if getattr(decoder, name)}
    return msgspec.structs.replace(settings, decoder=msgspec.structs.replace(decoder, **paths), swap=swap)
