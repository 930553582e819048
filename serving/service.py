"""The service itself: every protocol calls it, and it answers through one path."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hybrid.errors import BundleError
from hybrid.runtime.bundle import Bundle
from serving.answers import Answer, Options, Timings
from serving.deadline import Deadline
from serving.errors import (
    DeadlineError,
    EngineDownError,
    ItemError,
    ServingError,
    StoppingError,
    UnanswerableError,
)
from serving.interfaces import Escalator, Observer
from serving.replica import Replica, load
from serving.scheduler.admission import Backlog
from serving.settings import Settings
from serving.tokenization import open_pool

log = logging.getLogger(__name__)

OnBundle = Callable[[Bundle, str], None]


class ClassifierService:
    """Implements `serving.interfaces.Service`. Made anywhere, lives on one event loop from `start` to `stop`."""

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        observer: Observer,
        escalates: Escalator | None = None,
        on_bundle: OnBundle | None = None,
        on_stop: Callable[[], None] | None = None,
    ) -> None:
        """Read the bundle of a folder; `on_bundle` is told of it now and of each that takes its place.

        `on_stop` is called when all has ended.

        Raises:
            BundleError: it is no sound bundle.
        """
        self._settings = settings
        self._observer = observer
        self._escalates = escalates
        self._on_bundle = on_bundle
        self._on_stop = on_stop
        self._pool = open_pool()
        self._held = Backlog(settings.limits)
        self._loaded = load(folder)
        self._generation: Replica | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._swapping = asyncio.Lock()
        self._accepted = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = self._stopped = False
        self._tell_bundle()

    @property
    def bundle(self) -> Bundle:
        """The manifest of the bundle that serves now."""
        return self._loaded.bundle

    @property
    def bundle_id(self) -> str:
        """The first 12 hex digits of the SHA-256 of its `bundle.json`."""
        return self._loaded.bundle_id

    @property
    def folder(self) -> Path:
        """The folder of the bundle that serves now."""
        return self._loaded.folder

    @property
    def ready(self) -> bool:
        """Whether a request would be taken now."""
        return self._generation is not None and self._generation.ready and not self._stopping

    @property
    def engine_pid(self) -> int | None:
        """The number of the engine process; None while there is none."""
        return self._generation.engine_pid if self._generation else None

    async def start(self) -> None:
        """Start the engine; ready once this returns.

        Raises:
            BundleError: the graph cannot be run, or computes something else than it should.
        """
        async with self._swapping:
            generation = Replica(self._loaded, self._settings, self._observer, self._pool, self._held)
            await generation.start()
            self._generation = generation
        self._observer.bundle_changed(self.bundle_id)

    async def drain(self) -> bool:
        """Take no new request, and return once all that were accepted are answered, or after `drain_s`.

        Returns whether all were answered.
        """
        self._stopping = True
        try:
            await asyncio.wait_for(self._idle.wait(), self._settings.drain_s)
        except TimeoutError:
            log.warning("drained for %g s, and %d requests are unanswered", self._settings.drain_s, self._accepted)
            return False
        return True

    async def stop(self) -> None:
        """End the engines and the decoder; requests that wait are given up. No process is left behind."""
        self._stopping = True
        if self._stopped:
            return
        self._stopped = True
        for task in self._retiring:
            task.cancel()
        if self._retiring:
            await asyncio.wait(self._retiring)
        if self._generation:
            await self._generation.stop()
        if self._escalates:
            await self._escalates.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._on_stop:
            self._on_stop()

    async def classify(
        self,
        texts: Sequence[str],
        *,
        options: Options,
        deadline: Deadline,
        route: str,
        timings: Timings | None = None,
    ) -> list[Answer | ItemError]:
        """Return an answer a text, in their order; an `ItemError` where the engine fails on that text alone.

        `timings`, where it is given, has the seconds of each stage filled in.

        Raises:
            ServingError: the request gets no answer.
        """
        began = time.perf_counter()
        timings = Timings() if timings is None else timings
        try:
            with self._accept():
                answers = await self._answers(texts, options, deadline, timings)
        except ServingError as error:
            self._observer.refused(route, error, time.perf_counter() - began)
            raise
        given = [answer for answer in answers if isinstance(answer, Answer)]
        self._observer.answered(route, given, timings, time.perf_counter() - began, texts)
        return answers

    async def decide(self, text: str, labels: tuple[str, ...], instructions: str, deadline: Deadline) -> Answer:
        """Return the decoder's answer to a question whose options are not the bundle's labels.

        Raises:
            ServingError: the request gets no answer.
        """
        if self._escalates is None:
            raise UnanswerableError(
                f"the options are not the labels of this bundle ({', '.join(self.bundle.labels)}), and the service has "
                "no decoder for other questions; send these labels, or configure a decoder"
            )
        with self._accept():
            return await self._escalates.decide(text, labels, instructions, deadline)

    async def swap(self, folder: str) -> str:
        """Serve the bundle of another folder from now on, once it is verified; return its id.

        Raises:
            BundleError: it is no sound bundle; the old one goes on serving.
            StoppingError: the service drains.
        """
        async with self._swapping:
            self._check_open()
            try:
                return await self._swap(Path(folder))
            except BundleError as error:
                self._observer.bundle_changed(self.bundle_id, refused=str(error))
                raise

    async def _swap(self, folder: Path) -> str:
        loaded = await asyncio.get_running_loop().run_in_executor(self._pool, load, folder)
        new = Replica(loaded, self._settings, self._observer, self._pool, self._held)
        try:
            await new.start()
            self._check_open()
        except BaseException:
            await new.stop()
            raise
        old, self._generation, self._loaded = self._generation, new, loaded
        self._tell_bundle()
        self._observer.bundle_changed(loaded.bundle_id)
        if old:
            task = asyncio.create_task(self._retire(old))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        return loaded.bundle_id

    def _check_open(self) -> None:
        if self._stopping:
            raise StoppingError("the service is stopping; send the request to another replica", retry_after_s=1)

    def _tell_bundle(self) -> None:
        if self._on_bundle:
            self._on_bundle(self.bundle, self.bundle_id)

    async def _retire(self, old: Replica) -> None:
        try:
            await old.retire()
        except asyncio.CancelledError:
            await old.stop()
            raise

    async def _answers(
        self, texts: Sequence[str], options: Options, deadline: Deadline, timings: Timings
    ) -> list[Answer | ItemError]:
        generation = self._generation
        if generation is None:
            raise EngineDownError("the engine is being started; come again in a second", retry_after_s=1)
        for item, text in enumerate(texts):
            if not text.strip():
                raise UnanswerableError(f"item {item}: an empty text; send one with a word in it", item=item)
        if not texts:
            return []
        answers = await generation.answers(texts, options, deadline, timings)
        if self._escalates is None or generation.bundle.task == "multi_label" or options.escalate == "never":
            return answers
        began = time.perf_counter()
        answers = await escalated(self._escalates, generation.bundle, texts, answers, options, deadline)
        timings.escalation_s += time.perf_counter() - began
        return answers

    @contextmanager
    def _accept(self) -> Iterator[None]:
        self._check_open()
        self._accepted += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._accepted -= 1
            if not self._accepted:
                self._idle.set()


async def escalated(
    escalates: Escalator,
    bundle: Bundle,
    texts: Sequence[str],
    answers: Sequence[Answer | ItemError],
    options: Options,
    deadline: Deadline,
) -> list[Answer | ItemError]:
    """Return the answers, those that escalate as the decoder leaves them.

    Raises:
        UnanswerableError: the decoder cannot answer and the policy is `error`.
        DeadlineError: the deadline passed first.
    """
    asked = {
        item: asyncio.ensure_future(escalates.escalate(bundle, texts[item], answer, deadline))
        for item, answer in enumerate(answers)
        if isinstance(answer, Answer) and (options.escalate == "always" or answer.status == "escalated")
    }
    if not asked:
        return list(answers)
    try:
        async with asyncio.timeout(max(deadline.left_s(), 0)):
            await asyncio.gather(*asked.values())
    except TimeoutError as error:
        raise DeadlineError("escalation", deadline.timeout_s) from error
    finally:
        for task in asked.values():
            task.cancel()
    return [asked[item].result() if item in asked else answer for item, answer in enumerate(answers)]
