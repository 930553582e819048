"""A decoder that asks a language model about the texts on which the encoder is not sure."""

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hybrid.config import LLMConfig
from hybrid.errors import HybridError
from hybrid.llm import LLM, ask_all
from hybrid.llm.tasks.label import label_request, read_vote
from hybrid.types import Vote


class LLMDecoder:
    """Asks a language model which label a text has: a `hybrid.Decoder`. Safe to share between threads."""

    def __init__(self, llm: LLM, labels: Sequence[str], *, policy: str = "", config: LLMConfig | None = None) -> None:
        """Ask `llm` for one of `labels`.

        `policy` is the text that tells the model what the labels mean. `config` sets tokens, temperature and workers.
        """
        self.name = llm.name
        self._llm = llm
        self._labels = tuple(labels)
        self._policy = policy
        self._config = config or LLMConfig()

    def decide(self, texts: Sequence[str], *, on_done: Callable[[int], None] | None = None) -> list[Vote]:
        """Give one vote for each text, in their order; a vote's id is the position of its text.

        Raises nothing of its own: where the model cannot be used at all, every vote is `failed` with the reason, so
        that the encoder's answers stand.
        """
        requests = [label_request("decide", text, self._labels, self._config, policy=self._policy) for text in texts]
        try:
            replies = ask_all(requests, self._llm, self._config.workers, on_done)
        except HybridError as error:
            return [Vote(id=str(i), status="failed", teacher=self.name, reason=str(error)) for i in range(len(texts))]
        return [read_vote(str(i), reply, self._labels, teacher=self.name) for i, reply in enumerate(replies)]


if not TYPE_CHECKING:  # a type checker would take any name for one that this gives

    def __getattr__(name: str) -> object:
        """Give `LLMDecoder` by its former name too."""
        if name == "Decoder":
            warnings.warn(
                "hybrid.runtime.decoder.Decoder is now LLMDecoder; hybrid.Decoder is the protocol of any decoder",
                DeprecationWarning,
                stacklevel=2,
            )
            return LLMDecoder
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
