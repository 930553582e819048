"""One bundle and everything that answers with it: a request is answered by one replica, so answers never mix bundles."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import msgspec
import numpy as np

from hybrid.runtime.bundle import MODEL, Bundle
from hybrid.runtime.calibration import NOTHING_KEPT
from hybrid.runtime.decision import predict_one
from hybrid.runtime.evidence import evidence_words, no_evidence
from hybrid.runtime.text_encoder import Encoded, pool
from hybrid.types import BF16, Precision, ThresholdBasis
from serving.bundle_loading import LoadedBundle
from serving.engine.dispatch import Dispatch, batch_tokens
from serving.engine.ipc import Open
from serving.engine.process import EngineProcess
from serving.engine.supervisor import EngineSupervisor
from serving.errors import ItemError, UnanswerableError
from serving.interfaces import Observer
from serving.scheduler.admission import Admission, Backlog, BatchCost
from serving.scheduler.queue import Job
from serving.settings import Settings
from serving.tokenization import THREADS, RequestTokenizer
from serving.types import Answer, Deadline, Options, Timings
from serving.warmup import verify_golden, warm_up


class InFlight:
    """Counts the requests in progress."""

    def __init__(self) -> None:
        self.n = 0
        self._none = asyncio.Event()
        self._none.set()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count one request for as long as the block runs."""
        self.n += 1
        self._none.clear()
        try:
            yield
        finally:
            self.n -= 1
            if not self.n:
                self._none.set()

    async def none(self) -> None:
        """Wait until no request is in progress."""
        await self._none.wait()


class Replica:
    """Tokenizes, queues, runs and calibrates the texts of requests with one bundle. Lives on the event loop."""

    def __init__(
        self,
        loaded: LoadedBundle,
        settings: Settings,
        observer: Observer,
        threads: ThreadPoolExecutor,
        backlog: Backlog,
    ) -> None:
        self.bundle = loaded.bundle
        self.precision: Precision = loaded.bundle.precision
        """What its engine computes in: the precision of the graph, or bf16 where the engine lowers fp32 to it."""
        self._backend = settings.engine.backend
        self._loaded = loaded
        self._configured_batch_tokens = settings.engine.batch_tokens
        self._observer = observer
        self._backlog = backlog
        self._tokenizer = RequestTokenizer(loaded.text_encoder, threads, backlog)
        self._cost = BatchCost()
        self._admission = Admission(backlog, self._cost, settings.limits, n_tokenizer_threads=THREADS)
        graph = Open(
            model=str(loaded.folder.resolve() / MODEL),
            sha256=loaded.bundle.files[MODEL],
            n_labels=len(loaded.bundle.labels),
            pad_id=loaded.pad_id,
            threads=settings.engine.threads,
            dedicated=settings.engine.dedicated,
            engine=settings.engine.backend,
        )
        self._engine = EngineSupervisor(graph, verify=self._verify, changed=self._engine_changed)
        self._dispatch = Dispatch(
            self._engine,
            self._cost,
            observer,
            hung_after_s=settings.engine.hung_after_s,
            configured_batch_tokens=settings.engine.batch_tokens,
        )
        self._in_flight = InFlight()

    @property
    def ready(self) -> bool:
        """Whether its engine would take a batch now."""
        return self._engine.is_up

    @property
    def engine_pid(self) -> int | None:
        """The process id of its engine; None while there is none."""
        return self._engine.pid

    async def start(self) -> None:
        """Start the engine and verify that it reproduces the bundle's golden probabilities.

        Raises:
            BundleError: the graph cannot be run, or computes something else than it should.
        """
        await self._engine.start()
        self._dispatch.start()

    async def retire(self) -> None:
        """Stop once every request that it has begun is answered."""
        await self._in_flight.none()
        await self.stop()

    async def stop(self) -> None:
        """Stop at once; waiting requests fail."""
        await self._engine.stop()
        await self._dispatch.stop()

    async def answers(
        self, texts: Sequence[str], options: Options, deadline: Deadline, timings: Timings
    ) -> list[Answer | ItemError]:
        """Return the encoder's answer to each text, or the error of a text on which the engine fails.

        Raises:
            ServingError: the request cannot be answered.
        """
        if options.evidence and not self.bundle.evidence:
            raise UnanswerableError(no_evidence(self.bundle.name))
        n_bytes = sum(map(len, texts))  # characters: near enough, and no text is copied
        with self._in_flight.request(), self._backlog.holding(n_bytes):
            # A guess at the tokens does not refuse a request for its own size: they are counted soon.
            self._admission.admit(0, self._backlog.tokens_of(n_bytes), self._dispatch.load(), deadline)
            began = time.perf_counter()
            encoded = await self._tokenizer.encode(texts, n_bytes, options.truncate, offsets=options.evidence)
            timings.tokenise_s = time.perf_counter() - began
            values = await self._run(encoded, deadline, timings)
        return [
            windows if isinstance(windows, ItemError) else self._answer(text, tokens, windows, options)
            for text, tokens, windows in zip(texts, encoded, values, strict=True)
        ]

    def _answer(self, text: str, encoded: Encoded, windows: list[list[float]], options: Options) -> Answer:
        n_labels = len(self.bundle.labels)
        logits = [values[:n_labels] for values in windows]
        answer = encoder_answer(self._loaded, encoded, logits, options.threshold, precision=self.precision)
        if not options.evidence:
            return answer
        token_logits = [np.array(values[n_labels:]) for values in windows]
        return msgspec.structs.replace(answer, evidence=evidence_words(text, encoded, token_logits))

    async def _run(
        self, encoded: Sequence[Encoded], deadline: Deadline, timings: Timings
    ) -> list[list[list[float]] | ItemError]:
        """Return what the engine gives for each window of each text, or the error of a text on which it fails."""
        timings.stage = "queue"
        job = Job(encoded, timings)
        estimate = self._admission.admit(job.tokens, job.tokens, self._dispatch.load(), deadline)
        began = time.perf_counter()
        try:
            self._dispatch.submit(job)
            await job.done
        finally:
            if job.is_answered or deadline.left_s() <= 0:  # an error, or a caller that left early, is no measurement
                self._admission.learn(estimate, time.perf_counter() - began)
            self._dispatch.withdraw(job)
        return job.results()

    def _engine_changed(self, state: str, reason: str) -> None:
        self._dispatch.engine_changed(state)
        self._observer.engine_changed(state, reason)

    async def _verify(self, engine: EngineProcess) -> None:
        """Compare the golden texts, and learn from them what a batch costs.

        Raises:
            BundleError: the engine computes something else than it should.
        """
        full = batch_tokens(self._configured_batch_tokens, engine.threads)
        self.precision = BF16 if engine.in_bf16 else self.bundle.precision
        await verify_golden(
            engine,
            self.bundle,
            self._loaded.text_encoder,
            self._loaded.folder,
            backend=self._backend,
            precision=self.precision,
        )
        await warm_up(engine, self.bundle, self._loaded.text_encoder, self._cost, full)


def encoder_answer(
    loaded: LoadedBundle,
    encoded: Encoded,
    windows: Sequence[list[float]],
    threshold: float | None,
    *,
    precision: Precision,
) -> Answer:
    """Answer one text from the logits [n_labels] of each of its windows; `threshold` is the bundle's where None."""
    bundle = loaded.bundle
    logits = windows[0] if len(windows) == 1 else _pooled(bundle, windows)
    prediction = predict_one(bundle, logits, truncated=encoded.truncated, threshold=threshold)
    return Answer(
        label=prediction.label,
        labels=prediction.labels,
        probs=prediction.probs,
        confidence=prediction.confidence,
        encoder_label=prediction.label,
        encoder_confidence=prediction.confidence,
        threshold=bundle.threshold.value if threshold is None else threshold,
        threshold_basis=_basis(bundle, threshold),
        status=prediction.status,
        source="encoder",
        truncated=prediction.truncated,
        tokens=len(encoded),
        bundle_id=loaded.bundle_id,
        precision=precision,
    )


def _basis(bundle: Bundle, requested: float | None) -> ThresholdBasis:
    if requested is not None:
        return "request"
    return "nothing_kept" if bundle.threshold.value == NOTHING_KEPT else "bundle"


def _pooled(bundle: Bundle, windows: Sequence[list[float]]) -> list[float]:
    pooled: list[float] = pool(np.array(windows, dtype=np.float32), [len(windows)], bundle.reading)[0].tolist()
    return pooled
