"""A decoder that asks a language model about the texts on which the encoder is not sure."""

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hybrid.config import LLMConfig
from hybrid.errors import HybridError
from hybrid.llm import LLM, FailureKind, Reply, Request, ask_all
from hybrid.llm.client.pool import AsksMany
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

        Raises nothing of its own: where the model cannot be used, from the start or from some text on, the votes without
        an answer are `failed` with the reason, so that the encoder's answers stand.
        """
        requests = [label_request("decide", text, self._labels, self._config, policy=self._policy) for text in texts]
        llm = self._llm if isinstance(self._llm, AsksMany) else _UntilItFails(self._llm)
        try:
            replies = ask_all(requests, llm, self._config.workers, on_done)
        except HybridError as error:
            return [Vote(id=str(i), status="failed", teacher=self.name, reason=str(error)) for i in range(len(texts))]
        return [read_vote(str(i), reply, self._labels, teacher=self.name) for i, reply in enumerate(replies)]


class _UntilItFails:
    """A model that is not asked any more once it cannot be used (no budget is left, a wrong key): what it answered stays."""

    def __init__(self, llm: LLM) -> None:
        self.name = llm.name
        self._llm = llm
        self._reason = ""

    def ask(self, request: Request) -> Reply:
        """Answer a request, or say why no request is answered any longer."""
        if not self._reason:
            try:
                return self._llm.ask(request)
            except HybridError as error:
                self._reason = str(error)
        return Reply(status="failed", failure=FailureKind.NOT_ASKED, reason=self._reason, model=self.name, cost_usd=0.0)


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
