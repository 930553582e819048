"""The client for asyncio."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self, Unpack, overload

import httpx

from hybrid.client.connection import MAX_REPLY_BYTES, checked, connection, only_answer
from hybrid.client.exchange import PATH, Answers, ClientConfig, Send, exchange
from hybrid.client.messages import Answer, Failed, Options
from hybrid.client.replies import NoReply, Received
from hybrid.errors import ConfigError
from hybrid.network_settings import explained
from hybrid.urls import hide_user_info


class AsyncClient:
    """A connection to a service, for one event loop; close it, or use it as an asynchronous context manager."""

    def __init__(self, url: str, *, api_key: str | None = None, config: ClientConfig | None = None) -> None:
        """Connect to the service at `url`, such as http://127.0.0.1:8000, at the first call.

        `api_key`: None takes the one of the environment variable HYBRID_API_KEY, if it is set.

        Raises:
            ConfigError: it is not a URL, or the proxies or certificates of the environment cannot be used.
        """
        self._config = config or ClientConfig()
        with explained(ConfigError):
            self._http = httpx.AsyncClient(**connection(url, api_key))

    @overload
    async def classify(self, inputs: str, **options: Unpack[Options]) -> Answer: ...  # type: ignore[overload-overlap]

    @overload
    async def classify(self, inputs: Sequence[str], **options: Unpack[Options]) -> list[Answer | Failed]: ...

    async def classify(self, inputs: str | Sequence[str], **options: Unpack[Options]) -> Answer | list[Answer | Failed]:
        """Return the answer for one text, or for each text of a list, in their order.

        A long list is sent in several requests, one after the other. A text of a list that the service fails on gives
        a `Failed`, and the others have their answers.

        Raises:
            ClientError: there is no answer; each reason has a type of its own.
        """
        answers = await self._drive(checked(inputs), options)
        return only_answer(answers) if isinstance(inputs, str) else answers

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _drive(self, texts: Sequence[str], options: Options) -> Answers:
        steps = exchange(texts, options, self._config)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Send):
                    step = steps.send(await self._send(step))
                else:
                    await asyncio.sleep(step.seconds)
                    step = steps.send(None)
        except StopIteration as done:
            answers: Answers = done.value
            return answers

    async def _send(self, step: Send) -> Received | NoReply:
        try:
            async with asyncio.timeout(step.timeout_s):
                async with self._http.stream("POST", PATH, content=step.body, timeout=None) as response:
                    content = bytearray()
                    async for part in response.aiter_raw():
                        content += part
                        if len(content) > MAX_REPLY_BYTES:
                            return NoReply(f"{self._http.base_url}: the reply has over {MAX_REPLY_BYTES} bytes")
        except TimeoutError:
            return NoReply(f"no reply within {step.timeout_s:.3g} s", timed_out=True)
        except httpx.TransportError as error:
            return NoReply(
                hide_user_info(f"{self._http.base_url}: {error or type(error).__name__}; is the service there?")
            )
        return Received(response.status_code, bytes(content), response.headers.get("retry-after", ""))
