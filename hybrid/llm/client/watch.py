"""Watches the replies to many questions, and stops a run that gets nothing for its calls."""

from collections.abc import Sequence
from threading import Lock

from hybrid.errors import LLMError
from hybrid.llm.request import LLM, FailureKind, Reply, Request

FAILED_FROM_START = 5
"""Questions from the start that fail, before any is answered, after which a run stops."""
UNREADABLE_FROM_START = 10
"""Answers from the start that are paid for and cannot be used, before any that can, after which a run stops."""
FEWEST_FAILED = 10
"""A share of failed questions stops a run from this many failures on."""
NAMED = 3
"""The questions that the error names."""
_OF_NO_SERVER = {
    FailureKind.NOT_ASKED,
    FailureKind.NOT_RECORDED,
    FailureKind.LOCAL_ERROR,
    FailureKind.NO_PRICE,
    FailureKind.EXPIRED,
}
"""Failures that cost nothing and say nothing about a server."""
_ADVICE = "run again: every answer is kept"


class Watch:
    """The replies to the questions of one step so far, in the order in which they arrive. Safe across threads.

    One question that a server refuses, whatever the status, is the failure of that question. A step stops where its first
    questions all fail or all bring nothing that can be read, or where more than `max_failed` of them fail.
    """

    def __init__(self, model: str, max_failed: float = 1.0) -> None:
        self._model = model
        self._max_failed = max_failed
        self._n_done = 0
        self._n_answered = 0
        self._failed: list[str] = []
        self._unusable: list[str] = []
        self._stopped: LLMError | None = None
        self._lock = Lock()

    def ask(self, llm: LLM, name: str, request: Request) -> Reply:
        """Ask a question and note its reply; none is asked once the step has stopped.

        Raises:
            LLMError: it is no use to ask on.
        """
        if self._stopped is not None:
            raise self._stopped
        reply = llm.ask(request)
        self.note(name, reply)
        return reply

    def note(self, name: str, reply: Reply) -> None:
        """Take in the reply to the question that people know under `name`.

        Raises:
            LLMError: it is no use to ask on.
        """
        self.note_all([name], [reply])

    def note_all(self, names: Sequence[str], replies: Sequence[Reply]) -> None:
        """Take in replies that arrived together, in no order: none of them is the first.

        Raises:
            LLMError: it is no use to ask on.
        """
        with self._lock:
            for name, reply in zip(names, replies, strict=True):
                self._count(name, reply)
            try:
                self._check()
            except LLMError as error:
                self._stopped = error
                raise

    def _count(self, name: str, reply: Reply) -> None:
        self._n_done += 1
        if reply.status in ("ok", "refused"):
            self._n_answered += 1
        elif reply.status in ("unreadable", "cut_off") or reply.failure is FailureKind.EMPTY:
            self._unusable.append(f"{name}: {reply.reason}")
        elif reply.failure not in _OF_NO_SERVER:
            self._failed.append(f"{name}: {reply.reason}")

    def _check(self) -> None:
        n_failed, n_unusable = len(self._failed), len(self._unusable)
        if not self._n_answered and not n_unusable and n_failed >= FAILED_FROM_START:
            raise self._error(
                f"the first {n_failed} questions all failed",
                self._failed,
                "correct its section (base_url, model, key), then",
            )
        if not self._n_answered and n_unusable >= UNREADABLE_FROM_START:
            raise self._error(
                f"the first {n_unusable} answers cannot be used",
                self._unusable,
                "choose a server that supports structured output, raise max_tokens, or choose another model, then",
            )
        if n_failed >= FEWEST_FAILED and n_failed > self._max_failed * self._n_done:
            raise self._error(
                f"{n_failed} of the first {self._n_done} questions failed, more than max_failed = {self._max_failed:g}",
                self._failed,
                "correct what they name, or raise max_failed in its section, then",
            )

    def _error(self, what: str, reasons: Sequence[str], advice: str) -> LLMError:
        return LLMError(f"{self._model}: {what} ({'; '.join(reasons[:NAMED])}); {advice} {_ADVICE}")
