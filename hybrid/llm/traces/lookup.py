"""What the trace store holds about rows, read for receipts: nothing is asked and nothing is written."""

import sqlite3
from collections.abc import Collection
from pathlib import Path

import msgspec

from hybrid.errors import StorageError
from hybrid.llm.request import Reply, Request


class TracedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One stored answer, with the question that it answers and the key it is stored under."""

    key: str
    model: str
    """The name that the model is asked by, as votes carry it."""
    request: Request
    reply: Reply


def traced_answers(texts: Collection[str], store: Path) -> dict[str, list[TracedAnswer]]:
    """Return the stored answers about rows with these texts, by text; empty where there is no store.

    Raises:
        StorageError: the file is not a trace store.
    """
    if not store.is_file():
        return {}
    found: dict[str, list[TracedAnswer]] = {}
    decode_request, decode_reply = msgspec.json.Decoder(Request).decode, msgspec.json.Decoder(Reply).decode
    try:
        with sqlite3.connect(f"{store.resolve().as_uri()}?mode=ro", uri=True) as db:
            for key, model, asked, said in db.execute("SELECT key, model, request, reply FROM answers"):
                request = decode_request(asked)
                if request.text in texts:
                    kept = TracedAnswer(key=key, model=model, request=request, reply=decode_reply(said))
                    found.setdefault(request.text, []).append(kept)
    except (sqlite3.Error, msgspec.DecodeError) as error:
        raise StorageError(f"{store}: not a trace store ({error}); move it away") from error
    return found
