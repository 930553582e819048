"""Ask many questions with a bounded number of threads, or in batches where the model has them."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Protocol, runtime_checkable

from hybrid.errors import HybridError
from hybrid.llm.request import LLM, Reply, Request


@runtime_checkable
class AsksMany(Protocol):
    """A model that takes many questions in one call."""

    def ask_many(self, requests: Sequence[Request], on_done: Callable[[int], None] | None = None) -> list[Reply]:
        """One reply per request, in their order; `on_done` is told how many are answered so far."""


def ask_all(
    requests: Iterable[Request], llm: LLM, workers: int, on_done: Callable[[int], None] | None = None
) -> list[Reply]:
    """One reply per request, in their order, from `workers` threads, or from batches where the model has them.

    `on_done` is told in the calling thread how many are answered so far.

    Raises:
        HybridError: the first error of `llm`. Requests that were not sent yet are not sent; those in flight are waited for.
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
