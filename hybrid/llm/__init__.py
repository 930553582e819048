"""The one seam to language models: the teacher's and the decoder's. Imports no SDK until one is used."""

from collections.abc import Callable
from pathlib import Path

from hybrid.config import LLMConfig
from hybrid.errors import ConfigError
from hybrid.llm.pool import ask_all
from hybrid.llm.request import LLM, Reply, Request, key
from hybrid.llm.store import Stored, Usage, usage_of

__all__ = ["LLM", "Reply", "Request", "Stored", "Usage", "ask_all", "key", "open_llm", "usage_of"]


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
        from hybrid.llm.recorded import Recorded

        return Recorded(folder / config.traces)
    live = _open_live(config, folder, gguf, role)
    return live if store is None else Stored(live, store)


def _open_live(config: LLMConfig, folder: Path, gguf: Callable[[], Path], role: str) -> LLM:
    if config.model == "local" or (config.model.endswith(".gguf") and not config.base_url):
        from hybrid.llm.embedded import Embedded
        from hybrid.llm.gguf_file import find_gguf

        path = find_gguf(config.model, folder=folder, packaged=gguf, role=role)
        return Embedded(path, workers=config.workers)
    if config.base_url or config.model.startswith("claude"):
        from hybrid.llm.messages import Messages
        from hybrid.llm.prices import packaged_prices, read_prices

        # What another server charges for a model of the same name is not ours to know.
        prices = {} if config.base_url else packaged_prices()
        own = read_prices(folder / config.prices) if config.prices else {}
        return Messages(config.model, base_url=config.base_url, timeout_s=config.timeout_s, prices=prices | own)
    raise ConfigError(
        f"{role}.model = {config.model!r}: unknown; want 'none', 'recorded', 'local', the path of a .gguf file, "
        "hf:owner/repo/file.gguf, a name that begins with 'claude', or any name together with base_url"
    )
