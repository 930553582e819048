"""A bundle and all that answers for it: one generation answers a request as a whole, so answers never mix."""

import asyncio
import hashlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec

from hybrid.errors import BundleError
from hybrid.runtime.bundle import MANIFEST, MODEL, TOKENIZER, Bundle, read_bundle
from hybrid.runtime.session_pool import TOKENS_A_BATCH
from hybrid.runtime.text_encoder import Encoded, TextEncoder, load_tokenizer, pad_id_of
from serving.answers import Answer, Options, Timings
from serving.deadline import Deadline
from serving.encoder_answers import encoder_answer
from serving.engine.dispatch import Dispatch
from serving.engine.ipc import Open
from serving.engine.process import EngineProcess
from serving.engine.supervisor import EngineSupervisor
from serving.errors import DeadlineError, ItemError
from serving.interfaces import Observer
from serving.scheduler.admission import Backlog, LatencyCorrection, WaitEstimate, check
from serving.scheduler.cost import BatchCost
from serving.scheduler.queue import Job
from serving.settings import Settings
from serving.tokenization import THREADS, RequestTokenizer
from serving.warmup import verify_golden, warm_up


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of a bundle's folder, its hashes checked."""

    folder: Path
    bundle: Bundle
    bundle_id: str
    reader: TextEncoder
    pad_id: int


def load(folder: Path) -> Loaded:
    """Return manifest and tokenizer of a bundle whose files are all there and unchanged.

    Raises:
        BundleError: it is no sound bundle.
    """
    bundle = read_bundle(folder)
    tokenizer = load_tokenizer(folder / TOKENIZER)
    pad_id = pad_id_of(tokenizer)
    reader = TextEncoder(tokenizer, bundle.reading)
    if reader.vocabulary > bundle.vocabulary:
        raise BundleError(
            f"{folder}: the tokenizer knows {reader.vocabulary} tokens and the encoder {bundle.vocabulary}; "
            "they are not of one model: rerun the recipe"
        )
    if MODEL not in bundle.files:
        raise BundleError(f"{folder / MANIFEST}: no SHA-256 of {MODEL}; rerun the recipe")
    bundle_id = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()[:12]
    return Loaded(folder=folder, bundle=bundle, bundle_id=bundle_id, reader=reader, pad_id=pad_id)


class Replica:
    """Reads, queues, runs and calibrates the texts of requests with one bundle. Lives on the event loop."""

    def __init__(
        self, loaded: Loaded, settings: Settings, observer: Observer, threads: ThreadPoolExecutor, held: Backlog
    ):
        self.bundle = loaded.bundle
        self.bundle_id = loaded.bundle_id
        self.folder = loaded.folder
        self._reader = loaded.reader
        self._settings = settings
        self._observer = observer
        self._held = held
        self._tokenising = RequestTokenizer(loaded.reader, threads, held)
        self._cost = BatchCost()
        self._lateness = LatencyCorrection()
        graph = Open(
            model=str(loaded.folder.resolve() / MODEL),
            sha256=loaded.bundle.files[MODEL],
            n_labels=len(loaded.bundle.labels),
            pad_id=loaded.pad_id,
            threads=settings.engine.threads,
            dedicated=settings.engine.dedicated,
        )
        self._engine = EngineSupervisor(graph, prove=self._prove, changed=self._engine_changed)
        self._dispatch = Dispatch(self._engine, self._cost, observer, hung_after_s=settings.engine.hung_after_s)
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @property
    def ready(self) -> bool:
        """Whether its engine would take a batch now."""
        return self._engine.is_up

    @property
    def engine_pid(self) -> int | None:
        """The number of its engine process; None while there is none."""
        return self._engine.pid

    async def start(self) -> None:
        """Start the engine and compare its golden texts.

        Raises:
            BundleError: the graph cannot be run, or computes something else than it should.
        """
        await self._engine.start()
        self._dispatch.start()

    async def retire(self) -> None:
        """Answer who is still in it, then end."""
        await self._unused.wait()
        await self.stop()

    async def stop(self) -> None:
        """End; requests that wait are given up."""
        await self._engine.stop()
        await self._dispatch.stop()

    async def answers(
        self, texts: Sequence[str], options: Options, deadline: Deadline, timings: Timings
    ) -> list[Answer | ItemError]:
        """Return the encoder's answer for each text.

        Raises:
            ServingError: the request gets no answer.
        """
        n_bytes = sum(map(len, texts))  # characters: near enough, and no text is copied
        with self._used(), self._held.holding(n_bytes):
            self._admit(self._held.tokens_of(n_bytes), deadline, exact=False)
            began = time.perf_counter()
            encoded = await self._tokenising.read(texts, n_bytes, options.truncate, deadline)
            timings.tokenise_s = time.perf_counter() - began
            results = await self._run(encoded, deadline, timings)
        return [
            windows
            if isinstance(windows, ItemError)
            else encoder_answer(self.bundle, self.bundle_id, one, windows, options.threshold)
            for one, windows in zip(encoded, results, strict=True)
        ]

    async def _run(
        self, encoded: Sequence[Encoded], deadline: Deadline, timings: Timings
    ) -> list[list[list[float]] | ItemError]:
        job = Job(encoded)
        try:
            ahead = self._admit(job.tokens, deadline, exact=True)
            self._dispatch.submit(job)
            began = time.perf_counter()
            async with asyncio.timeout(max(deadline.left_s(), 0)):
                await job.done
            self._lateness.learn(ahead.s, time.perf_counter() - began)
        except TimeoutError as error:
            self._lateness.learn(ahead.s, time.perf_counter() - began)
            raise DeadlineError(job.stage, deadline.timeout_s) from error
        finally:
            self._dispatch.line.forget(job)
            job.end()
            timings.queue_s, timings.inference_s = job.queue_s, job.inference_s
        return job.results()

    def _admit(self, tokens: float, deadline: Deadline, *, exact: bool) -> WaitEstimate:
        """Return what a request of so many tokens finds before it; raise where it would wait too long."""
        deadline.check("tokenise" if not exact else "queue")
        most = self._dispatch.most_tokens
        line, busy_s = self._dispatch.line, self._dispatch.busy_s()
        unread = self._held.unread_tokens
        wait_s = busy_s + self._cost.wait_s(line.tokens + unread, most) + self._held.unread_s / THREADS
        ahead = WaitEstimate(tokens=line.tokens + unread, wait_s=wait_s, own_s=self._cost.wait_s(tokens, most))
        # A guess does not refuse for its own size: the tokens are counted soon.
        check(self._lateness.corrected(ahead), tokens if exact else 0, deadline, self._settings.limits)
        return ahead

    @contextmanager
    def _used(self) -> Iterator[None]:
        self._users += 1
        self._unused.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    def _engine_changed(self, state: str, reason: str) -> None:
        self._dispatch.engine_changed(state)
        self._observer.engine_changed(state, reason)

    async def _prove(self, engine: EngineProcess) -> None:
        """Compare the golden texts, and learn from them what a batch costs.

        Raises:
            BundleError: the engine computes something else than it should.
        """
        most_tokens = self._settings.engine.batch_tokens or TOKENS_A_BATCH * engine.threads
        self._dispatch.most_tokens = most_tokens
        await verify_golden(engine, self.bundle, self._reader, self.folder)
        await warm_up(engine, self.bundle, self._reader, self._cost, most_tokens)
