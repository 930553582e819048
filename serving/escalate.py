"""The seam between the service and the decoder."""

from typing import Protocol

from hybrid.runtime.bundle import Bundle
from serving.answers import Answer
from serving.deadline import Deadline


class Escalates(Protocol):
    """Answers what the encoder is not sure of. Lives on the event loop; shared by all requests."""

    async def escalate(self, bundle: Bundle, text: str, answer: Answer, deadline: Deadline) -> Answer:
        """Return the answer for a text of which the encoder says `answer` and is not sure enough.

        Returns the encoder's answer flagged, or an abstention, where the decoder cannot answer and the policy
        says so.

        Raises:
            UnanswerableError: the decoder cannot answer and the policy is `error`.
            DeadlineError: the caller's deadline passed.
        """

    async def decide(self, text: str, labels: tuple[str, ...], instructions: str, deadline: Deadline) -> Answer:
        """Return the decoder's answer to a question whose options are not the bundle's labels.

        Raises:
            UnanswerableError: no decoder, or it cannot answer.
            DeadlineError: the caller's deadline passed.
        """

    async def close(self) -> None:
        """Let what is under way end, and close the store."""
