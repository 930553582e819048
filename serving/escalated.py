"""Asking the decoder about what the encoder is not sure of, all texts of a request at once."""

import asyncio
from collections.abc import Sequence

from hybrid.runtime.bundle import Bundle
from serving.answers import Answer, Options
from serving.deadline import Deadline
from serving.errors import DeadlineError, ItemError
from serving.interfaces import Escalator


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
