"""The classifier service: every protocol calls it, and it answers all of them through one path."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hybrid.errors import BundleError, GoldenError
from hybrid.runtime.bundle import Bundle
from hybrid.runtime.engines import DEFAULT_ENGINE
from hybrid.types import Precision
from serving.bundle_loading import BundleLoader, LoadedBundle, load
from serving.errors import EngineDownError, ItemError, ServingError, StoppingError, UnanswerableError
from serving.interfaces import Escalator, Observer
from serving.replica import InFlight, Replica
from serving.scheduler.admission import Backlog
from serving.settings import Settings
from serving.tokenization import open_pool
from serving.types import Answer, Deadline, Options, Timings

log = logging.getLogger(__name__)

OnBundle = Callable[[Bundle, str, str, Precision], None]
"""Called with a bundle, its id, the engine that runs it, and what that computes in."""
STOPPING_S = 1.0
"""How long the decoder and the review store get to stop, beside what a drain has left of its time."""


class ClassifierService:
    """Implements `serving.interfaces.Service`. Lives on one event loop from `start` to `stop`."""

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        observer: Observer,
        escalator: Escalator | None = None,
        on_bundle: OnBundle | None = None,
        on_stop: Callable[[], None] | None = None,
    ) -> None:
        """Load the bundle of a folder.

        `on_bundle` is called with it now, at the start and at each swap; `on_stop` once everything has stopped.

        Raises:
            BundleError: the folder is no sound bundle, or has no graph that the engine runs.
            ConfigError: the engine's package is not installed.
        """
        self._settings = settings
        self._observer = observer
        self._escalator = escalator
        self._on_bundle = on_bundle
        self._on_stop = on_stop
        self._pool = open_pool()
        self._backlog = Backlog(settings.limits)
        self._folder = folder
        self._loaded = load(folder, settings.engine.backend)
        self._loader = BundleLoader(settings.swap.timeout_s, settings.engine.backend)
        self._replica: Replica | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._swapping = asyncio.Lock()
        self._in_flight = InFlight()
        self._stopping = self._stopped = False
        self._stop_by: float | None = None
        """When everything must have stopped, in seconds of `time.monotonic`; None before a drain."""
        self._announce_bundle()

    @property
    def bundle(self) -> Bundle:
        """The manifest of the bundle that serves now."""
        return self._loaded.bundle

    @property
    def bundle_id(self) -> str:
        """The first 12 hex digits of the SHA-256 of its `bundle.json`."""
        return self._loaded.bundle_id

    @property
    def engine(self) -> str:
        """The library that runs the encoder."""
        return self._settings.engine.backend

    @property
    def precision(self) -> Precision:
        """What the encoder computes in; before the start, the precision of its graph."""
        return self._replica.precision if self._replica else self.bundle.precision

    @property
    def folder(self) -> Path:
        """The folder of the bundle that serves now."""
        return self._folder

    @property
    def ready(self) -> bool:
        """Whether a request would be accepted now."""
        return self._replica is not None and self._replica.ready and not self._stopping

    @property
    def engine_pid(self) -> int | None:
        """The process id of the engine; None while there is none."""
        return self._replica.engine_pid if self._replica else None

    async def start(self) -> None:
        """Start the engine; the service is ready once this returns.

        Raises:
            BundleError: the graph cannot be run, or computes something else than it should.
        """
        async with self._swapping:
            self._loaded, self._replica = await self._start(self._loaded)
            self._announce_bundle()
        if self.engine != DEFAULT_ENGINE:
            log.info("%s: the engine %s computes it in %s", self._loaded.folder, self.engine, self.precision)
        self._observer.bundle_changed(self.bundle_id)

    async def drain(self) -> bool:
        """Accept no new request, and wait for those in progress, `drain_s` at most; return whether all were answered."""
        self._stopping = True
        self._stop_by = time.monotonic() + self._settings.drain_s + STOPPING_S
        try:
            await asyncio.wait_for(self._in_flight.none(), self._settings.drain_s)
        except TimeoutError:
            log.warning("drained for %g s, and %d requests are unanswered", self._settings.drain_s, self._in_flight.n)
            return False
        return True

    async def stop(self) -> None:
        """Stop the engines and the decoder; waiting requests fail. No process is left behind.

        It ends `STOPPING_S` after the time of a drain at the latest.
        """
        self._stopping = True
        if self._stopped:
            return
        self._stopped = True
        async with asyncio.TaskGroup() as stopping:
            stopping.create_task(self._stop_replicas())
            if self._escalator:
                left_s = STOPPING_S if self._stop_by is None else self._stop_by - time.monotonic()
                stopping.create_task(self._escalator.close(max(STOPPING_S / 2, left_s)))
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._on_stop:
            self._on_stop()

    async def _stop_replicas(self) -> None:
        for task in self._retiring:
            task.cancel()
        if self._retiring:
            await asyncio.wait(self._retiring)
        if self._replica:
            await self._replica.stop()

    async def classify(
        self,
        texts: Sequence[str],
        *,
        options: Options,
        deadline: Deadline,
        route: str,
        timings: Timings | None = None,
    ) -> list[Answer | ItemError]:
        """Return one answer per text, in order; an `ItemError` where the engine fails on that text alone.

        The deadline holds here for every stage. The texts are within the limits and not empty, which
        `serving.protocols.operation.check_texts` sees to.

        Raises:
            ServingError: the request cannot be answered.
        """
        began = time.perf_counter()
        timings = Timings() if timings is None else timings
        try:
            self._check_open()
            with self._in_flight.request():
                async with deadline.enforce(timings):
                    answers = await self._answers(texts, options, deadline, timings)
        except ServingError as error:
            self._observer.refused(route, error, time.perf_counter() - began)
            raise
        answered = [answer for answer in answers if isinstance(answer, Answer)]
        self._observer.answered(route, answered, timings, time.perf_counter() - began, texts)
        return answers

    async def decide(self, text: str, labels: tuple[str, ...], instructions: str, deadline: Deadline) -> Answer:
        """Return the decoder's answer to a question whose options are not the bundle's labels.

        Raises:
            ServingError: the request cannot be answered.
        """
        if self._escalator is None:
            raise UnanswerableError(
                f"the options are not the labels of this bundle ({', '.join(self.bundle.labels)}), and the service has "
                "no decoder for other questions; send these labels, or configure a decoder"
            )
        self._check_open()
        with self._in_flight.request():
            return await self._escalator.decide(text, labels, instructions, deadline)

    async def swap(self, folder: str, *, below: Path | None = None) -> str:
        """Replace the bundle that serves with the one in another folder, once that is verified; return its id.

        Where `below` is given, only a folder there is taken. Bundles are read side by side, so that one on a file
        system that does not answer keeps no other waiting; their engines are started one after the other.

        Raises:
            BundleError: the new bundle is not sound or lies elsewhere; the old one continues to serve.
            StoppingError: the service drains.
        """
        self._check_open()
        try:
            loaded = await self._loader.load(Path(folder), below=below)
            async with self._swapping:
                self._check_open()
                return await self._replace_with(Path(folder), loaded)
        except BundleError as error:
            self._observer.bundle_changed(self.bundle_id, refused=str(error))
            raise

    async def _start(self, loaded: LoadedBundle) -> tuple[LoadedBundle, Replica]:
        """Start a replica of a bundle; where its golden texts do not hold here, one of its fallback."""
        replica = Replica(loaded, self._settings, self._observer, self._pool, self._backlog)
        try:
            await replica.start()
        except GoldenError as error:
            await replica.stop()
            if loaded.fallback is None:
                raise
            log.warning("%s; its %s graph answers instead", error, loaded.fallback.bundle.precision)
            return await self._start(loaded.fallback)
        except BaseException:
            await replica.stop()
            raise
        return loaded, replica

    async def _replace_with(self, folder: Path, loaded: LoadedBundle) -> str:
        loaded, new = await self._start(loaded)
        try:
            self._check_open()
        except StoppingError:
            await new.stop()
            raise
        old, self._replica, self._loaded, self._folder = self._replica, new, loaded, folder
        self._announce_bundle()
        self._observer.bundle_changed(loaded.bundle_id)
        if old:
            task = asyncio.create_task(self._retire(old))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        return loaded.bundle_id

    async def _retire(self, old: Replica) -> None:
        try:
            await old.retire()
        except asyncio.CancelledError:
            await old.stop()
            raise

    def _check_open(self) -> None:
        if self._stopping:
            raise StoppingError("the service is stopping; send the request to another replica", retry_after_s=1)

    def _announce_bundle(self) -> None:
        if self._on_bundle:
            self._on_bundle(self.bundle, self.bundle_id, self.engine, self.precision)

    async def _answers(
        self, texts: Sequence[str], options: Options, deadline: Deadline, timings: Timings
    ) -> list[Answer | ItemError]:
        replica = self._replica
        if replica is None:
            raise EngineDownError("the engine is being started; come again in a second", retry_after_s=1)
        if not texts:
            return []
        answers = await replica.answers(texts, options, deadline, timings)
        if self._escalator is None or replica.bundle.task == "multi_label" or options.escalate == "never":
            return answers
        began = time.perf_counter()
        timings.stage = "escalation"
        answers = await _escalate(self._escalator, replica.bundle, texts, answers, options, deadline)
        timings.escalation_s += time.perf_counter() - began
        return answers


async def _escalate(
    escalator: Escalator,
    bundle: Bundle,
    texts: Sequence[str],
    answers: Sequence[Answer | ItemError],
    options: Options,
    deadline: Deadline,
) -> list[Answer | ItemError]:
    """Ask the decoder about the texts that escalate, all at once, and return the answers as it leaves them.

    Raises:
        UnanswerableError: the decoder cannot answer, and the settings make that an error.
    """
    tasks = {
        item: asyncio.ensure_future(escalator.escalate(bundle, texts[item], answer, deadline))
        for item, answer in enumerate(answers)
        if isinstance(answer, Answer) and (options.escalate == "always" or answer.status == "escalated")
    }
    if not tasks:
        return list(answers)
    try:
        await asyncio.gather(*tasks.values())
    finally:
        for task in tasks.values():
            task.cancel()
    return [tasks[item].result() if item in tasks else answer for item, answer in enumerate(answers)]
