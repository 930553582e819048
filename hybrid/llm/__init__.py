"""The one seam to language models: the teacher's and the decoder's. Imports no SDK until one is used."""

from hybrid.llm.backends import BACKENDS, Backend, backend_of, open_llm
from hybrid.llm.client.pool import ask_all
from hybrid.llm.cost.pricing import pricing_of
from hybrid.llm.request import LLM, FailureKind, Reply, Request, key
from hybrid.llm.traces.cache import CachedLLM, Usage, usage_of

__all__ = [
    "BACKENDS",
    "LLM",
    "Backend",
    "CachedLLM",
    "FailureKind",
    "Reply",
    "Request",
    "Usage",
    "ask_all",
    "backend_of",
    "key",
    "open_llm",
    "pricing_of",
    "usage_of",
]
