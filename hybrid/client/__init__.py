"""A client for the service: `Client`, and `AsyncClient` for asyncio. Needs httpx and msgspec alone."""

try:
    import httpx as httpx
except ImportError as error:
    raise ImportError("hybrid.client: httpx is not installed; run `pip install 'hybrid-cascade[client]'`") from error

from hybrid.client.async_client import AsyncClient
from hybrid.client.errors import (
    BadRequestError,
    ClientError,
    DeadlineError,
    ForbiddenError,
    NotFoundError,
    OverloadedError,
    ServerError,
    TooLargeError,
    UnanswerableError,
    UnauthorizedError,
    UnavailableError,
    UnreachableError,
)
from hybrid.client.exchange import ClientConfig
from hybrid.client.messages import Answer, Failed
from hybrid.client.sync_client import Client

__all__ = [
    "Answer",
    "AsyncClient",
    "BadRequestError",
    "Client",
    "ClientConfig",
    "ClientError",
    "DeadlineError",
    "Failed",
    "ForbiddenError",
    "NotFoundError",
    "OverloadedError",
    "ServerError",
    "TooLargeError",
    "UnanswerableError",
    "UnauthorizedError",
    "UnavailableError",
    "UnreachableError",
]
