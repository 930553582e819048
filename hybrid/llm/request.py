"""The question to a language model, and its reply: the one seam to all of them."""

from enum import StrEnum
from typing import Literal, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from hybrid.config import Thinking
from hybrid.files.hashing import sha256_of

ReplyStatus = Literal["ok", "unreadable", "refused", "cut_off", "failed"]
"""unreadable: a whole answer, but not the JSON object that was asked for (`hybrid.llm.answers`)."""


class FailureKind(StrEnum):
    """Why a call brought no answer. `Reply.reason` says the same in words, for people alone."""

    TIMED_OUT = "timed_out"
    """The time that the caller gave it was over, before it was sent or after."""
    NETWORK = "network"
    """No connection came about, or it broke before the answer was whole."""
    RATE_LIMITED = "rate_limited"
    """The server has too much to do, or this client asks too much (HTTP 429 and 529)."""
    SERVER_ERROR = "server_error"
    """The server failed (HTTP 500 and above)."""
    REJECTED = "rejected"
    """The server does not take such a request: a wrong key, an unknown model, a text too long (other HTTP 4xx)."""
    UNREADABLE = "unreadable"
    """The answer is not one of the Messages protocol."""
    EMPTY = "empty"
    """The answer holds no text."""
    NO_PRICE = "no_price"
    """It was not sent: there is a budget, and no price is known for a prompt that may be so long."""
    NOT_ASKED = "not_asked"
    """It was not sent: the model cannot be used, or no budget is left."""
    NOT_RECORDED = "not_recorded"
    """The file of recorded answers has none for this request."""
    LOCAL_ERROR = "local_error"
    """The model in the process could not answer, for example because the prompt is longer than its context."""
    EXPIRED = "expired"
    """The batch ended before the provider came to it, was canceled, or has no result for it."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One question to a language model. Equal requests share one stored answer."""

    system: str
    user: str
    schema: dict[str, object]
    """The JSON schema that the answer keeps to."""
    max_tokens: int
    """The longest answer, thinking left out."""
    temperature: float | None = None
    """None: the model's default."""
    sample: int = 0
    """The number of this answer where the same question is asked several times, from 0."""
    text: str = ""
    """The row's text alone; empty where the request is not about a row."""
    thinking: Thinking | UnsetType = UNSET
    """Tokens to think in, on top of `max_tokens`, or how hard to think; unset: the model's default. An unset value is no
    part of the key, so that answers which were stored before this field existed are found again."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, or why there is none. Only an `ok` reply is an answer that can be read."""

    status: ReplyStatus
    text: str = ""
    reason: str = ""
    """Why the status is not ok, in words for people. Programs read `failure` and `http_status`."""
    failure: FailureKind | UnsetType = UNSET
    """Set where the status is failed, and only there."""
    http_status: int | UnsetType = UNSET
    """The HTTP status of the server's error; unset where the server stated none."""
    model: str
    """The model that answered, as the provider names it."""
    thinking: str = ""
    """The model's reasoning before the answer, where the provider returns it."""
    input_tokens: int = 0
    """Tokens of the prompt that were neither written to a cache nor read from one."""
    output_tokens: int = 0
    """Tokens of the answer, thinking included."""
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0
    odd_usage: str | UnsetType = UNSET
    """What the server stated in the place of token counts that a call can have; the cost is then the most that the call
    could cost."""
    cost_usd: float | None = None
    """None where the price is not known; 0 for a reply without an answer: what may have been billed for it is in the
    ledger alone."""
    seconds: float = 0.0
    """Wall-clock time, retries and the waits between them included."""


class LLM(Protocol):
    """A language model. `ask` may be called from several threads at once."""

    @property
    def name(self) -> str:
        """The model's name, as votes, reports and the keys of stored answers carry it."""

    def ask(self, request: Request) -> Reply:
        """Answer one request. A failure of this request alone is a status of the reply, not an error.

        Raises:
            LLMError: the model cannot be used at all (no key, no such model).
        """


def key(name: str, request: Request) -> str:
    """The key of a stored answer: the SHA-256 of the model's name and the whole request."""
    return sha256_of({"model": name, "request": request})
