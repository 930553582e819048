"""A decoder for foreign questions: the real one, asked once a question, of a real server that speaks Messages."""

import asyncio
import json
from pathlib import Path
from typing import Any

from hybrid.config import LLMConfig
from hybrid.llm import open_llm
from hybrid.runtime.bundle import Bundle
from hybrid.runtime.decoder import Decoder
from serving.answers import Answer
from serving.deadline import Deadline
from serving.errors import UnanswerableError
from tests.messages_server import Handler, answer


def first_option(handler: Handler, body: dict[str, Any]) -> None:
    """Answer with the first option that the request's schema allows."""
    name = enum_in(body)[0]
    answer(json.dumps({"rationale": "It is the first.", "label": name, "confidence": 0.75}))(handler, body)


def nothing(handler: Handler, body: dict[str, Any]) -> None:
    """Answer what is no answer."""
    answer("I would rather not say.")(handler, body)


def enum_in(value: Any) -> list[str]:
    """Return the labels that a JSON schema anywhere in the request allows."""
    if isinstance(value, dict):
        if isinstance(value.get("enum"), list):
            return list(value["enum"])
        value = list(value.values())
    for one in value if isinstance(value, list) else []:
        found = enum_in(one)
        if found:
            return found
    return []


class AsksOnce:
    """Implements `Escalates`; escalates nothing."""

    def __init__(self, url: str) -> None:
        self.config = LLMConfig(model="any", base_url=url, timeout_s=20)
        llm = open_llm(self.config, folder=Path(), store=None, gguf=Path, role="decoder")
        assert llm is not None
        self._llm = llm

    async def escalate(self, bundle: Bundle, text: str, answer: Answer, deadline: Deadline) -> Answer:
        return answer

    async def decide(self, text: str, labels: tuple[str, ...], instructions: str, deadline: Deadline) -> Answer:
        decoder = Decoder(self._llm, labels, policy=instructions, config=self.config)
        vote = (await asyncio.to_thread(decoder.decide, [text]))[0]
        if vote.label is None:
            raise UnanswerableError(f"the decoder gives no label: {vote.reason}")
        sure = vote.confidence or 1.0
        rest = (1 - sure) / (len(labels) - 1)
        return Answer(
            label=vote.label,
            labels=(vote.label,),
            probs={name: sure if name == vote.label else rest for name in labels},
            confidence=sure,
            encoder_label="",
            encoder_confidence=0.0,
            threshold=1.0,
            status="escalated",
            source="decoder",
            escalation="answered",
            rationale=vote.rationale,
            truncated=False,
            tokens=0,
            bundle_id="",
        )

    async def close(self) -> None:
        """Nothing is kept open."""
