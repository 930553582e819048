"""Sends many requests with a bounded number of threads, or in batches if the model supports them."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Protocol, runtime_checkable

from hybrid.errors import HybridError
from hybrid.llm.client.watch import Watch
from hybrid.llm.request import LLM, Reply, Request

_MOST_CHARS = 60
"""The most characters of a text that stands for a name."""


@runtime_checkable
class AsksMany(Protocol):
    """A model that takes many requests in one call."""

    def ask_many(self, requests: Sequence[Request], on_done: Callable[[int], None] | None = None) -> list[Reply]:
        """Answer each request, in their order; `on_done` gets the number answered so far."""


def ask_all(
    requests: Iterable[Request],
    llm: LLM,
    workers: int,
    on_done: Callable[[int], None] | None = None,
    *,
    names: Sequence[str] | None = None,
    max_failed: float = 1.0,
) -> list[Reply]:
    """Get a reply to each request, in their order, with `workers` threads, or in batches if the model supports them.

    Args:
        on_done: called in the calling thread with the number of requests answered so far.
        names: what people call the requests, for messages; their texts where there are none.
        max_failed: the share of failed requests that stops the others (`hybrid.llm.client.watch`).

    Raises:
        HybridError: the first error of `llm`, or too many requests failed. Requests not yet sent are dropped; those in
            flight are waited for.
    """
    asked = list(requests)
    named = names or [_shortened(request.text or request.user) for request in asked]
    watch = Watch(llm.name, max_failed)
    if isinstance(llm, AsksMany):
        replies = llm.ask_many(asked, on_done)
        watch.note_all(named, replies)
        return replies
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="llm")
    try:
        futures = [pool.submit(watch.ask, llm, name, request) for name, request in zip(named, asked, strict=True)]
        for n_done, future in enumerate(as_completed(futures), start=1):
            future.result()
            if on_done is not None:
                on_done(n_done)
    except HybridError:
        # Answers in flight are paid for: they are stored before the run stops.
        pool.shutdown(cancel_futures=True)
        raise
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return [future.result() for future in futures]


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return f"'{line if len(line) <= _MOST_CHARS else line[: _MOST_CHARS - 3] + '...'}'"
