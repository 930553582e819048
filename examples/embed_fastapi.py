"""The bundle inside a FastAPI application of your own: no second service, no network between.

`BUNDLE=runs/sentiment/embedded/bundle uvicorn embed_fastapi:app` in this folder. Needs fastapi and uvicorn beside the
runtime. For queues, deadlines, escalation and hot swaps there is `hybrid serve`.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, Field

import hybrid
from hybrid.errors import DataError


class Asked(BaseModel):
    texts: list[str] = Field(min_length=1, max_length=256)


class Answered(BaseModel):
    label: str
    confidence: float
    escalate: bool
    probs: dict[str, float]


@asynccontextmanager
async def loaded(app: FastAPI) -> AsyncIterator[None]:
    # In each worker, and after a fork: a session belongs to the process that opened it.
    app.state.classifier = hybrid.load(os.environ["BUNDLE"])
    yield


app = FastAPI(title="Texts with labels", lifespan=loaded)


@app.post("/classify")
def classify(asked: Asked, request: Request) -> list[Answered]:
    """Not `async`: FastAPI runs it on a thread, so the event loop goes on while the encoder computes."""
    try:
        answers = request.app.state.classifier.classify(asked.texts)
    except DataError as error:
        raise HTTPException(422, str(error)) from error
    return [
        Answered(label=answer.label, confidence=answer.confidence, escalate=answer.escalate, probs=answer.probs)
        for answer in answers
    ]
