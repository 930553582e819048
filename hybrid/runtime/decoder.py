"""The decoder: a language model that decides the texts on which the encoder is not sure."""

from collections.abc import Callable, Sequence

from hybrid.config import LLMConfig
from hybrid.errors import HybridError
from hybrid.llm import LLM, ask_all
from hybrid.llm.tasks.label import label_request, read_vote
from hybrid.types import Vote


class Decoder:
    """Asks a language model which label a text has. Safe to share between threads."""

    def __init__(self, llm: LLM, labels: Sequence[str], *, policy: str = "", config: LLMConfig | None = None) -> None:
        """Bind a model to a label set. `config` gives tokens, temperature and workers; `policy` is a text."""
        self.name = llm.name
        self._llm = llm
        self._labels = tuple(labels)
        self._policy = policy
        self._config = config or LLMConfig()

    def decide(self, texts: Sequence[str], *, on_done: Callable[[int], None] | None = None) -> list[Vote]:
        """Return one vote a text, in their order; a vote's id is the position of its text.

        Raises nothing of its own: where the model cannot be used at all, every vote is `failed` and
        says why, so that the encoder's answers stand.
        """
        requests = [label_request("decide", text, self._labels, self._config, policy=self._policy) for text in texts]
        try:
            replies = ask_all(requests, self._llm, self._config.workers, on_done)
        except HybridError as error:
            return [Vote(id=str(i), status="failed", teacher=self.name, reason=str(error)) for i in range(len(texts))]
        return [read_vote(str(i), reply, self._labels, teacher=self.name) for i, reply in enumerate(replies)]
