"""Every setting of the service, from a TOML file and the command line; secrets come from the environment alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from hybrid.config import LLMConfig
from hybrid.llm import backend_of
from hybrid.llm.backends import check_llm
from hybrid.overrides import merge
from hybrid.toml_settings import RenamedKey, read_toml, rename_keys, to_struct

Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]
API_KEYS = "HYBRID_API_KEYS"
"""The environment variable with the API keys that are accepted, separated by commas; unset: none is asked for."""


OnFailure = Literal["local_label_flagged", "abstain", "error"]
RENAMED = (
    RenamedKey("decoder.policy", "decoder.on_failure", values=get_args(OnFailure)),
    RenamedKey("decoder.llm", "decoder"),
    RenamedKey("decoder.timeout_ms", "decoder.deadline_ms"),
    RenamedKey("decoder.usd_an_hour", "decoder.usd_per_hour"),
    RenamedKey("decoder.usd_a_day", "decoder.usd_per_day"),
)
"""Keys of the last release. The first stands before the second, which moves another `policy` to its place."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the settings; an unknown key is an error."""


class Limits(Section, frozen=True, kw_only=True):
    """What one request, and all that wait together, may be."""

    body_bytes: Count = 1 << 20
    """Of a body, after it is unpacked too."""
    body_timeout_ms: Positive = 10_000
    """The most that a body may take to arrive."""
    items: Count = 256
    """Texts of one request."""
    characters: Count = 1 << 20
    """Of one text."""
    queued_tokens: Count = 200_000
    queued_bytes: Count = 64 << 20
    wait_ms: Positive = 2_000
    """The expected wait over which a request is refused with 429."""
    timeout_ms: Positive = 10_000
    """The deadline of a request that names none."""
    longest_timeout_ms: Positive = 120_000
    """The most that a caller may ask for."""


class EngineSettings(Section, frozen=True, kw_only=True):
    """The process that runs the encoder."""

    threads: int = 0
    """0: the processors that this process may use and is paid for."""
    batch_tokens: int = 0
    """Padded tokens of a batch; 0: what the runtime gives a thread, for each of the threads."""
    hung_after_s: Positive = 1.5
    """A batch that takes this much longer than expected, and not less, is hung, and the engine is replaced."""
    dedicated: bool = False
    """Whether idle threads spin."""


class DecoderSettings(LLMConfig, frozen=True, kw_only=True):
    """What answers the texts that escalate: every key of a recipe's [decoder], and the keys that only a service needs.

    With model = "none" nothing escalates. Paths count from the settings file.
    """

    votes: Count = 1
    """Answers asked for per text. With more than one, the share that agrees is the decoder's confidence."""
    on_failure: OnFailure = "local_label_flagged"
    """What a text gets that should escalate where the decoder cannot answer: the encoder's label, marked; no label; or an
    error."""
    combine: bool = True
    """Whether the encoder's probabilities count beside the decoder's vote, where the bundle knows its reliability."""
    deadline_ms: Positive = 8_000
    """The most that one escalation may take, retries included, within the deadline of the request."""
    retries: Annotated[int, Meta(ge=0, le=2)] = 1
    """How often a call that failed is tried again, where that can help."""
    waiting: Count = 64
    """Texts that may wait for the decoder; a further one is answered at once, as `on_failure` says."""
    breaker_failures: Count = 5
    """Failures in a row after which the decoder gets no calls for a while."""
    breaker_rest_s: Positive = 20.0
    """How long it gets none; then one call finds out whether it works again."""
    usd_per_hour: Positive | None = None
    """The most that the calls of any hour may cost; a text whose call could cross it is answered as `on_failure` says."""
    usd_per_day: Positive | None = None
    """The same for any 24 hours. `budget_usd` is the same over all time."""
    cached_answers: Annotated[int, Meta(ge=0)] = 10_000
    """Texts whose decoder answer is remembered; 0: none."""


class Settings(Section, frozen=True, kw_only=True):
    """A service."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    """0: any free port; the start says which."""
    limits: Limits = Limits()
    engine: EngineSettings = EngineSettings()
    decoder: DecoderSettings = DecoderSettings()
    reviews: str = ""
    """Where escalations are kept: an SQLAlchemy URL; empty: `escalations.sqlite` beside the bundle."""
    log_texts: bool = False
    """Whether logs may hold the texts."""
    otlp: str = ""
    """The URL of an OpenTelemetry collector (OTLP over HTTP); empty: no traces."""
    drain_s: Positive = 25.0
    """The most that SIGTERM waits for requests that were accepted."""


def read_settings(path: Path | None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings of a TOML file with `overrides` merged in; the defaults without a file.

    Raises:
        ConfigError: the file cannot be read, a setting is unknown or out of range, or the decoder's do not go together.
    """
    where = str(path or "settings")
    in_file = rename_keys(read_toml(path, "settings"), RENAMED, where) if path else {}
    merged = merge(in_file, rename_keys(overrides or {}, RENAMED, "--set"))
    settings = to_struct(merged, Settings, where, "settings")
    check_llm(settings.decoder, f"{where}: decoder")
    return _located(settings, path.parent if path else Path())


def _located(settings: Settings, folder: Path) -> Settings:
    """Return the settings with the decoder's files, which count from the settings file, as whole paths."""
    decoder = settings.decoder
    names = ["traces", "policy", "prices", *(["model"] if backend_of(decoder).model_is_path else [])]
    whole = {name: str((folder / getattr(decoder, name)).resolve()) for name in names if getattr(decoder, name)}
    return msgspec.structs.replace(settings, decoder=msgspec.structs.replace(decoder, **whole))
