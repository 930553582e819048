"""The one seam to language models: the teacher's and the decoder's. Imports no SDK until one is used."""

from collections.abc import Callable
from pathlib import Path

from hybrid.config import LLMConfig
from hybrid.errors import ConfigError
from hybrid.llm.client.pool import ask_all
from hybrid.llm.cost.ledger import Ledger, NullLedger
from hybrid.llm.cost.prices import packaged_prices, price_of, read_prices
from hybrid.llm.cost.pricing import Pricing
from hybrid.llm.request import LLM, FailureKind, Reply, Request, key
from hybrid.llm.traces.cache import CachedLLM, Usage, usage_of
from hybrid.llm.traces.database import TraceDatabase

__all__ = [
    "LLM",
    "CachedLLM",
    "FailureKind",
    "Reply",
    "Request",
    "Usage",
    "ask_all",
    "key",
    "open_llm",
    "terms_of",
    "usage_of",
]


def open_llm(config: LLMConfig, *, folder: Path, store: Path | None, gguf: Callable[[], Path], role: str) -> LLM | None:
    """Return the model that a recipe names; None for `none`.

    Paths in `config` count from `folder`. `gguf` returns the packaged model, a file or the folder
    that holds it, and is called for `local` alone. A live model answers from the trace store at
    `store` first, where one is given. `role` is the section of the recipe, for messages.

    Raises:
        ConfigError: no such model is known, or a file that it names is not there.
        LLMError: a key, a package or a model file is missing.
    """
    if config.model == "none":
        return None
    if config.model == "recorded":
        from hybrid.llm.traces.recorded import Recorded

        return Recorded(folder / config.traces)
    file = TraceDatabase(store) if store else None
    if config.model == "local" or (config.model.endswith(".gguf") and not config.base_url):
        if config.batch:
            raise ConfigError(f"{role}.batch = true with {config.model!r}: a local model has no batches; leave it out")
        from hybrid.llm.local.embedded import Embedded
        from hybrid.llm.local.gguf_file import find_gguf

        path = find_gguf(config.model, folder=folder, packaged=gguf, role=role)
        local = Embedded(path, workers=config.workers)
        return CachedLLM(local, file) if file else local
    if config.base_url or config.model.startswith("claude"):
        return _open_server(config, pricing_of(config, folder=folder, role=role), file)
    raise ConfigError(
        f"{role}.model = {config.model!r}: unknown; want 'none', 'recorded', 'local', the path of a .gguf file, "
        "hf:owner/repo/file.gguf, a name that begins with 'claude', or any name together with base_url"
    )


def pricing_of(config: LLMConfig, *, folder: Path, role: str) -> Pricing:
    """Return on what terms a section of a recipe calls its model; prices in a file count from `folder`.

    Raises:
        ConfigError: there is a budget and a price is not known.
    """
    # What another server charges for a model of the same name is not ours to know.
    prices = {} if config.base_url else packaged_prices()
    own = read_prices(folder / config.prices) if config.prices else {}
    terms = Pricing(
        role=role,
        model=config.model,
        price=price_of(prices | own, config.model),
        cache=not config.base_url if config.cache is None else config.cache,
        batch=config.batch,
        budget_usd=config.budget_usd,
    )
    if terms.unpriced():
        raise ConfigError(
            f"{role}.budget_usd = {config.budget_usd:g}: {terms.unpriced()} ({config.model}) is not known, so the budget "
            f"could not be held; give it in a file that {role}.prices names, or leave the budget out"
        )
    return terms


def _open_server(config: LLMConfig, terms: Pricing, file: TraceDatabase | None) -> LLM:
    from hybrid.llm.client.messages import Messages

    # A budget without a store holds for this process.
    held = TraceDatabase(None) if file is None and config.budget_usd is not None else file
    ledger = Ledger(held, terms) if held else None
    model = Messages(
        config.model,
        base_url=config.base_url,
        timeout_s=config.timeout_s,
        workers=config.workers,
        books=ledger or NullLedger(terms),
    )
    if file is None or ledger is None:
        return model
    stored = CachedLLM(model, file)
    if not config.batch:
        return stored
    from hybrid.llm.batches.batched import Batched

    return Batched(stored, model, ledger)
