"""Sends many requests with a bounded number of threads, or in batches if the model supports them."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Protocol, runtime_checkable

from hybrid.errors import HybridError
from hybrid.llm.request import LLM, Reply, Request


@runtime_checkable
class AsksMany(Protocol):
    """A model that takes many requests in one call."""

    def ask_many(self, requests: Sequence[Request], on_done: Callable[[int], None] | None = None) -> list[Reply]:
        """Answer each request, in their order; `on_done` gets the number answered so far."""


def ask_all(
    requests: Iterable[Request], llm: LLM, workers: int, on_done: Callable[[int], None] | None = None
) -> list[Reply]:
    """Get a reply to each request, in their order, with `workers` threads, or in batches if the model supports them.

    `on_done` is called in the calling thread with the number of requests answered so far.

    Raises:
        HybridError: the first error of `llm`. Requests not yet sent are dropped; those in flight are waited for.
    """
    if isinstance(llm, AsksMany):
        return llm.ask_many(list(requests), on_done)
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="llm")
    try:
        futures = [pool.submit(llm.ask, request) for request in requests]
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
