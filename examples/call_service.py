"""Call a running service: one text, and many at once from asyncio.

`python examples/call_service.py http://127.0.0.1:8000 < texts.txt`. Needs `hybrid-cascade[client]`; the key of a service
that asks for one comes from HYBRID_API_KEY.
"""

import asyncio
import sys

from hybrid.client import AsyncClient, Client, ClientError, Failed, OverloadedError


def one(url: str, text: str) -> None:
    with Client(url) as client:
        try:
            answer = client.classify(text, top_k=2, timeout_s=5)
        except OverloadedError as error:
            sys.exit(f"too busy; come again in {error.retry_after_s} s")
        except ClientError as error:
            sys.exit(f"no answer: {error}")
    print(f"{answer.status}: {answer.label} ({answer.confidence:.3f}) by {answer.source}; {answer.probs}")


async def many(url: str, texts: list[str]) -> None:
    # A list of any length: the client splits it into requests and keeps the order.
    async with AsyncClient(url) as client:
        for text, answer in zip(texts, await client.classify(texts, timeout_s=60), strict=True):
            label = f"failed: {answer.message}" if isinstance(answer, Failed) else answer.label
            print(f"{label}\t{text}")


if __name__ == "__main__":
    lines = [line.strip() for line in sys.stdin if line.strip()]
    one(sys.argv[1], lines[0])
    asyncio.run(many(sys.argv[1], lines))
