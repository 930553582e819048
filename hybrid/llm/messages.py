"""Claude, and every server that speaks the Messages protocol, through the `anthropic` SDK."""

import os
import random
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from hybrid.errors import LLMError
from hybrid.llm.prices import Price, cost_usd
from hybrid.llm.request import Reply, Request

_CAN_PASS = {408, 409, 429}


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how long a request that can still pass is tried again."""

    tries: int = 4
    first_wait_s: float = 1.0
    """Doubled with each try; up to half of it is added at random."""
    longest_wait_s: float = 60.0
    """A server that asks for a longer wait than this is not waited for."""


class Messages:
    """A model behind the Messages protocol. The SDK's own retries are off: there is one policy, ours.

    Claude's key is ANTHROPIC_API_KEY. It is never sent to another server; one that wants a key
    gets HYBRID_LLM_API_KEY.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str = "",
        timeout_s: float = 60.0,
        prices: Mapping[str, Price] | None = None,
        retry: Retry = Retry(),  # noqa: B008 a frozen struct
    ) -> None:
        """Open a client; nothing is sent yet.

        Raises:
            LLMError: the package or the key is missing.
        """
        self.name = model
        self._where = base_url or "the Claude API"
        self._prices = prices or {}
        self._retry = retry
        self._sdk = _sdk()
        self._client = self._sdk.Anthropic(
            api_key=_key_for(model, base_url), base_url=base_url or None, timeout=timeout_s, max_retries=0
        )

    def ask(self, request: Request) -> Reply:
        """Return one answer, tried again only where that can help.

        Raises:
            LLMError: the server refuses every request of this kind (no such model, a wrong key).
        """
        started = time.monotonic()
        for number in range(1, self._retry.tries + 1):
            try:
                message = self._send(request)
            except self._sdk.APIError as error:
                reason, wait_s = self._judge(error, number)
                if wait_s is None or wait_s > self._retry.longest_wait_s or number == self._retry.tries:
                    return self._failed(f"{reason} (try {number})", started)
                time.sleep(wait_s)
            else:
                return self._read(message, started)
        raise AssertionError("at least one try")

    def _send(self, request: Request) -> Any:
        # The SDK has no parameter for the temperature, and the newest models refuse it.
        extra = {} if request.temperature is None else {"temperature": request.temperature}
        try:
            return self._client.messages.create(
                model=self.name,
                max_tokens=request.max_tokens,
                system=request.system,
                messages=[{"role": "user", "content": request.user}],
                output_config={"format": {"type": "json_schema", "schema": request.schema}},
                extra_body=extra,
            )
        except ValueError as error:
            raise LLMError(self._stranger(f"an answer that is not JSON ({error})")) from error

    def _judge(self, error: Exception, number: int) -> tuple[str, float | None]:
        """Return what happened and how many seconds to wait before another try; None: do not try."""
        status: int | None = getattr(error, "status_code", None)
        if status is None and not isinstance(error, self._sdk.APIConnectionError):
            raise LLMError(self._stranger(str(error))) from error
        if status is None:
            return f"{self._where}: {_cause(error)}", self._backoff(number)
        reason = f"{self._where}: status {status}: {_said(error)}"
        if status in _CAN_PASS or status >= 500:
            asked_s = _retry_after_s(error.response.headers)  # type: ignore[attr-defined]
            return reason, max(self._backoff(number), asked_s)
        if status == 413:
            return reason, None
        raise LLMError(f"{reason}; correct the model ({self.name!r}), the key or the base_url, then run again")

    def _backoff(self, number: int) -> float:
        wait_s: float = self._retry.first_wait_s * 2 ** (number - 1)
        return min(wait_s * (1 + random.random() / 2), self._retry.longest_wait_s)

    def _read(self, message: Any, started: float) -> Reply:
        if not isinstance(message, self._sdk.types.Message) or not isinstance(message.content, list):
            raise LLMError(self._stranger(f"{str(message)[:80]!r}"))
        text = "".join(block.text for block in message.content if block.type == "text")
        used = message.usage
        tokens_in, tokens_out = (used.input_tokens or 0, used.output_tokens or 0) if used else (0, 0)
        reply = Reply(
            status="ok",
            text=text,
            model=message.model or self.name,
            input_tokens=tokens_in,
            output_tokens=tokens_out,
            cost_usd=cost_usd(self._prices, self.name, tokens_in, tokens_out) if used else None,
            seconds=time.monotonic() - started,
        )
        if message.stop_reason == "refusal":
            return msgspec.structs.replace(reply, status="refused", reason="the model refused to answer")
        if message.stop_reason in ("max_tokens", "model_context_window_exceeded"):
            reason = f"cut off after {tokens_out} tokens ({message.stop_reason}); raise max_tokens"
            return msgspec.structs.replace(reply, status="cut_off", reason=reason)
        return reply if text else msgspec.structs.replace(reply, status="failed", reason="an empty answer")

    def _failed(self, reason: str, started: float) -> Reply:
        return Reply(status="failed", reason=reason, model=self.name, cost_usd=0.0, seconds=time.monotonic() - started)

    def _stranger(self, came: str) -> str:
        return f"{self._where}: {came} came, want an answer of the Messages protocol; correct base_url"


def _sdk() -> Any:
    try:
        import anthropic
    except ImportError as error:
        raise LLMError(
            "the package 'anthropic' is missing, and a Messages server is asked through it; "
            "run: pip install 'hybrid-cascade[llm]'"
        ) from error
    return anthropic


def _key_for(model: str, base_url: str) -> str:
    if base_url:
        return os.environ.get("HYBRID_LLM_API_KEY", "none")
    found = os.environ.get("ANTHROPIC_API_KEY", "")
    if not found:
        raise LLMError(
            f"{model}: the environment variable ANTHROPIC_API_KEY is not set, want the key of the Claude API; "
            "set it, or choose the model 'recorded' or 'local', or a server with base_url"
        )
    return found


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """Return the seconds that a Retry-After header asks for (RFC 9110, 10.2.3): a number or a date; 0 without one."""
    value = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def _cause(error: Exception) -> str:
    return f"{error} ({error.__cause__})" if error.__cause__ and str(error.__cause__) else str(error)


def _said(error: Exception) -> str:
    body = getattr(error, "body", None)
    detail = body.get("error") if isinstance(body, dict) else None
    said = detail.get("message") if isinstance(detail, dict) else None
    return str(said or error)[:200]
