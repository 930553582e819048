"""Every setting of the service, from a TOML file and the command line; secrets come from the environment alone."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hybrid.config import LLMConfig
from hybrid.errors import ConfigError
from hybrid.llm import backend_of
from hybrid.overrides import merge

Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]
API_KEYS = "HYBRID_API_KEYS"
"""The environment variable with the API keys that are accepted, separated by commas; unset: none is asked for."""


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


class Decoder(Section, frozen=True, kw_only=True):
    """What answers the texts that escalate."""

    llm: LLMConfig = LLMConfig()
    """As [decoder] of a recipe; paths count from the settings file. model = "none": nothing escalates."""
    votes: Count = 1
    """Answers a text; with more than one, the share that agrees is the decoder's confidence."""
    policy: Literal["local_label_flagged", "abstain", "error"] = "local_label_flagged"
    """What a text gets that should escalate where the decoder cannot answer."""
    combine: bool = True
    """Whether the encoder's probabilities count beside the decoder's vote, where the bundle knows its reliability."""
    timeout_ms: Positive = 8_000
    """Of one escalation, within the deadline of the request."""
    retries: Annotated[int, Meta(ge=0, le=2)] = 1
    waiting: Count = 64
    """Texts that may wait for the decoder; more are answered by the policy at once."""
    breaker_failures: Count = 5
    """Failures in a row after which the decoder is left alone."""
    breaker_rest_s: Positive = 20.0
    usd_an_hour: float | None = None
    usd_a_day: float | None = None
    """The most that the decoder may cost; what could cross it is answered by the policy."""
    cached_answers: int = 10_000
    """Texts whose decoder answer is remembered; 0: none."""


class Settings(Section, frozen=True, kw_only=True):
    """A service."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    """0: any free port; the start says which."""
    limits: Limits = Limits()
    engine: EngineSettings = EngineSettings()
    decoder: Decoder = Decoder()
    reviews: str = ""
    """Where escalations are kept: an SQLAlchemy URL; empty: `escalations.sqlite` beside the bundle."""
    log_texts: bool = False
    """Whether logs may hold the texts."""
    otlp: str = ""
    """The URL of an OpenTelemetry collector (OTLP over HTTP); empty: no traces."""
    drain_s: Positive = 25.0
    """The most that SIGTERM waits for requests that were accepted."""


def read_settings(path: Path | None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings of a TOML file with `overrides` merged in; the defaults without a file.

    Raises:
        ConfigError: the file cannot be read, or a setting is unknown or impossible.
    """
    where = str(path or "settings")
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8")) if path else {}
        settings = msgspec.convert(merge(read, overrides or {}), Settings)
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read ({error.strerror}); name a file that exists") from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: {error}; correct the setting") from error
    return _located(settings, path.parent if path else Path())


def _located(settings: Settings, folder: Path) -> Settings:
    """Return the settings with the decoder's files, which count from the settings file, as whole paths."""
    llm = settings.decoder.llm
    names = ["traces", "policy", "prices", *(["model"] if backend_of(llm, "decoder.llm").model_is_path else [])]
    whole = {name: str((folder / getattr(llm, name)).resolve()) for name in names if getattr(llm, name)}
    decoder = msgspec.structs.replace(settings.decoder, llm=msgspec.structs.replace(llm, **whole))
    return msgspec.structs.replace(settings, decoder=decoder)
