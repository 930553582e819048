"""Language models, for the teacher and the decoder alike. No SDK is imported before a model needs it."""

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
