"""Ask many questions at once, bounded."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Protocol, runtime_checkable

from hybrid.errors import HybridError
from hybrid.llm.request import LLM, Reply, Request


@runtime_checkable
class AsksMany(Protocol):
    """A model that would rather hear many questions at once."""

    def ask_many(self, requests: Sequence[Request], on_done: Callable[[int], None] | None = None) -> list[Reply]:
        """Return one reply a request, in their order."""


def ask_all(
    requests: Iterable[Request], llm: LLM, workers: int, on_done: Callable[[int], None] | None = None
) -> list[Reply]:
    """Return one reply a request, in their order, from `workers` threads, or from batches where the model has them.

    `on_done` hears in the calling thread how many are answered so far.

    Raises:
        HybridError: what `llm` raised first; what was not yet asked is not asked, and what was is waited for.
    """
    if isinstance(llm, AsksMany):
        return llm.ask_many(list(requests), on_done)
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="llm")
    try:
        asked = [pool.submit(llm.ask, request) for request in requests]
        for n_done, future in enumerate(as_completed(asked), start=1):
            future.result()
            if on_done is not None:
                on_done(n_done)
    except HybridError:
        # Answers in flight are paid for: they are kept before the run stops.
        pool.shutdown(cancel_futures=True)
        raise
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return [future.result() for future in asked]
