"""The client with blocking calls."""

import time
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
from hybrid.whole_call import call_limits, limit_whole_calls


class Client:
    """A connection to a service. Threads may share it; close it, or use it as a context manager."""

    def __init__(self, url: str, *, api_key: str | None = None, config: ClientConfig | None = None) -> None:
        """Connect to the service at `url`, such as http://127.0.0.1:8000, at the first call.

        `api_key`: None takes the one of the environment variable HYBRID_API_KEY, if it is set.

        Raises:
            ConfigError: it is not a URL, or the proxies or certificates of the environment cannot be used.
        """
        self._config = config or ClientConfig()
        with explained(ConfigError):
            self._http = httpx.Client(**connection(url, api_key))
        limit_whole_calls(self._http)

    @overload
    def classify(self, inputs: str, **options: Unpack[Options]) -> Answer: ...  # type: ignore[overload-overlap]

    @overload
    def classify(self, inputs: Sequence[str], **options: Unpack[Options]) -> list[Answer | Failed]: ...

    def classify(self, inputs: str | Sequence[str], **options: Unpack[Options]) -> Answer | list[Answer | Failed]:
        """Return the answer for one text, or for each text of a list, in their order.

        A long list is sent in several requests, one after the other. A text of a list that the service fails on gives
        a `Failed`, and the others have their answers.

        Raises:
            ClientError: there is no answer; each reason has a type of its own.
        """
        answers = self._drive(checked(inputs), options)
        return only_answer(answers) if isinstance(inputs, str) else answers

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _drive(self, texts: Sequence[str], options: Options) -> Answers:
        steps = exchange(texts, options, self._config)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Send):
                    step = steps.send(self._send(step))
                else:
                    time.sleep(step.seconds)
                    step = steps.send(None)
        except StopIteration as done:
            answers: Answers = done.value
            return answers

    def _send(self, step: Send) -> Received | NoReply:
        try:
            with (
                call_limits(time.monotonic() + step.timeout_s, MAX_REPLY_BYTES),
                self._http.stream("POST", PATH, content=step.body, timeout=step.timeout_s) as response,
            ):
                content = b"".join(response.iter_raw())
        except httpx.TimeoutException:
            return NoReply(f"no reply within {step.timeout_s:.3g} s", timed_out=True)
        except httpx.TransportError as error:
            return NoReply(
                hide_user_info(f"{self._http.base_url}: {error or type(error).__name__}; is the service there?")
            )
        return Received(response.status_code, content, response.headers.get("retry-after", ""))
