"""What every protocol calls."""

from collections.abc import Sequence
from typing import Protocol

from hybrid.runtime.bundle import Bundle
from serving.answers import Answer, Options, Timings
from serving.deadline import Deadline
from serving.errors import ItemError


class Service(Protocol):
    """Answers texts, through one code path for all protocols."""

    @property
    def bundle(self) -> Bundle:
        """The manifest of the bundle that serves now."""

    @property
    def bundle_id(self) -> str:
        """The first 12 hex digits of the SHA-256 of its `bundle.json`."""

    @property
    def ready(self) -> bool:
        """Whether a request would be taken now."""

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

    async def decide(self, text: str, labels: tuple[str, ...], instructions: str, deadline: Deadline) -> Answer:
        """Return the decoder's answer to a question whose options are not the bundle's labels.

        Raises:
            ServingError: the request gets no answer.
        """

    async def swap(self, folder: str) -> str:
        """Serve the bundle of another folder from now on, once it is verified; return its id.

        Raises:
            BundleError: it is no sound bundle; the old one goes on serving.
        """
