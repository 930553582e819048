"""A Messages server that counts what it bills, knows prompt caching and Message Batches, and misbehaves on demand."""

import hashlib
import json
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.messages_server import Act, Handler, MessagesServer, status

PRICE = {"input": 100.0, "output": 500.0, "cache_write": 125.0, "cache_read": 10.0, "batch": 0.5}
PRICES_TOML = "[models]\nm = { input = 100, output = 500, cache_write = 125, cache_read = 10, batch = 0.5 }\n"
FIELDS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
Say = Callable[[str], str]
Outcome = Callable[[int, dict[str, Any]], str]


def positive(text: str) -> str:
    """Return the answer of a teacher that finds everything positive, at a length of its own for each text."""
    n_words = int(hashlib.sha256(text.encode()).hexdigest(), 16) % 7
    return json.dumps({"rationale": "word " * n_words, "label": "positive", "confidence": 0.9})


class BillingServer(MessagesServer):
    """Keeps what it billed, and what of that it delivered."""

    def __init__(self, *acts: Act, say: Say = positive) -> None:
        super().__init__(*(acts or (billed(),)))
        self.say = say
        self.billed: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        """How often each question was billed."""
        self.usd = 0.0
        self.undelivered_usd = 0.0
        self.n_undelivered = 0
        self.batches: dict[str, dict[str, Any]] = {}
        self.outcome: Outcome = lambda number, request: "succeeded"
        self.looks = 1
        """How often a batch is looked at before it has ended."""
        self.on_create: Act | None = None
        self.on_look: Act | None = None
        """Done before a batch's state or results are given."""
        self.unlisted_looks = 0
        """How often the list of batches is given without any."""
        self.result_lines: Callable[[list[dict[str, Any]]], str] = as_lines
        """Writes the results of a batch."""
        self._prefixes: set[str] = set()
        self._books = threading.Lock()

    def bill(self, params: dict[str, Any], *, delivered: bool = True, batch: bool = False) -> dict[str, Any]:
        """Return the message that answers `params`, its tokens billed."""
        user = params["messages"][0]["content"]
        text = self.say(user)
        with self._books:
            usage = self._usage(params, text)
            usd = (
                sum(
                    usage[name] * PRICE[price]
                    for name, price in zip(FIELDS, ("input", "output", "cache_write", "cache_read"), strict=True)
                )
                / 1e6
                * (PRICE["batch"] if batch else 1.0)
            )
            self.billed.update(usage)
            self.answers[user] += 1
            self.usd += usd
            if delivered:
                self.delivered.update(usage)
            else:
                self.undelivered_usd += usd
                self.n_undelivered += 1
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": params["model"],
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": usage,
        }

    def _usage(self, params: dict[str, Any], text: str) -> dict[str, int]:
        system = params["system"]
        prefix = system if isinstance(system, str) else system[0]["text"]
        n_prefix, n_user = len(prefix) // 4, len(params["messages"][0]["content"]) // 4
        n_out = min(len(text) // 4 + 1, params["max_tokens"])
        if isinstance(system, str):
            return dict(zip(FIELDS, (n_prefix + n_user, n_out, 0, 0), strict=True))
        is_cached = prefix in self._prefixes
        self._prefixes.add(prefix)
        return dict(zip(FIELDS, (n_user, n_out, 0 if is_cached else n_prefix, n_prefix * is_cached), strict=True))

    def serve_other(self, handler: Handler, body: dict[str, Any]) -> None:
        path = handler.path.partition("?")[0]
        found = re.fullmatch(r"/v1/messages/batches(?:/([^/]+))?(/results)?", path)
        if found is None:
            return super().serve_other(handler, body)
        batch_id, results = found.groups()
        if handler.command == "POST":
            return (self.on_create or take)(handler, body)
        if self.on_look is not None and batch_id is not None:
            self.on_look(handler, {"results": bool(results)})
        if batch_id is None:
            listed = [self._state(name, look=False) for name in reversed(self.batches)]
            if self.unlisted_looks:
                self.unlisted_looks -= 1
                listed = []
            page = {"data": listed, "has_more": False, "first_id": None, "last_id": None}
            return handler.send(200, json.dumps(page))
        if batch_id not in self.batches:
            return status(404, "no such batch")(handler, body)
        if results:
            lines = self.result_lines(self.batches[batch_id]["results"])
            return handler.send(200, lines, content_type="application/x-jsonl")
        return handler.send(200, json.dumps(self._state(batch_id)))

    def create(self, body: dict[str, Any]) -> str:
        """Take a batch; return its id."""
        batch_id = f"msgbatch_{len(self.batches) + 1}"
        results = []
        for number, request in enumerate(body["requests"]):
            kind = self.outcome(number, request)
            result: dict[str, Any] = {"type": kind}
            if kind == "succeeded":
                result["message"] = self.bill(request["params"], batch=True)
            elif kind != "canceled" and kind != "expired":
                result = {"type": "errored", "error": {"type": "error", "error": {"type": kind, "message": "no"}}}
            results.append({"custom_id": request["custom_id"], "result": result})
        self.batches[batch_id] = {"results": results, "looks": 0, "created": datetime.now(UTC)}
        return batch_id

    def _state(self, batch_id: str, *, look: bool = True) -> dict[str, Any]:
        batch = self.batches[batch_id]
        batch["looks"] += look
        has_ended = batch["looks"] >= self.looks
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        if has_ended:
            counts |= Counter(line["result"]["type"] for line in batch["results"])
        else:
            counts["processing"] = len(batch["results"])
        return {
            "id": batch_id,
            "type": "message_batch",
            "processing_status": "ended" if has_ended else "in_progress",
            "request_counts": counts,
            "created_at": batch["created"].isoformat(),
            "expires_at": (batch["created"] + timedelta(hours=24)).isoformat(),
            "ended_at": batch["created"].isoformat() if has_ended else None,
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": f"{self.url}/v1/messages/batches/{batch_id}/results" if has_ended else None,
        }


def as_lines(results: list[dict[str, Any]]) -> str:
    """Write one result a line."""
    return "".join(json.dumps(result) + "\n" for result in results)


def take(handler: Any, body: dict[str, Any]) -> None:
    """Take a batch and say so."""
    server: BillingServer = handler.server
    batch_id = server.create(body)
    handler.send(200, json.dumps(server._state(batch_id, look=False)))


def take_and_reset(handler: Any, body: dict[str, Any]) -> None:
    """Take a batch, and break the connection before its id is out."""
    handler.server.create(body)
    _break(handler)


def billed(**changed: Any) -> Act:
    """Return the act of answering, with some fields of the message changed."""

    def act(handler: Any, body: dict[str, Any]) -> None:
        handler.send(200, json.dumps(handler.server.bill(body) | changed))

    return act


def gateway_page(code: int, page: str = "<html>the upstream server did not answer</html>") -> Act:
    """Return the act of a gateway that gives up on a call, with a page of its own, after the provider answered and billed."""

    def act(handler: Any, body: dict[str, Any]) -> None:
        handler.server.bill(body, delivered=False)
        handler.send(code, page, content_type="text/html")

    return act


def take_behind_a_gateway(code: int) -> Act:
    """Return the act of a gateway that gives up on the creation of a batch which the provider has taken."""

    def act(handler: Any, body: dict[str, Any]) -> None:
        handler.server.create(body)
        handler.send(code, "<html>no answer</html>", content_type="text/html")

    return act


def cut_in_mid_body(handler: Any, body: dict[str, Any]) -> None:
    """Bill an answer, send half of it and break the connection."""
    said = json.dumps(handler.server.bill(body, delivered=False)).encode()
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(said)))
    handler.end_headers()
    handler.wfile.write(said[: len(said) // 2])
    handler.wfile.flush()
    _break(handler)


def not_json(handler: Any, body: dict[str, Any]) -> None:
    """Bill an answer and send it broken."""
    said = json.dumps(handler.server.bill(body, delivered=False))
    handler.send(200, said[: len(said) // 2])


def too_late(seconds: float) -> Act:
    """Return the act of billing an answer and sending it when nobody waits any more."""

    def act(handler: Any, body: dict[str, Any]) -> None:
        message = handler.server.bill(body, delivered=False)
        threading.Event().wait(seconds)
        handler.send(200, json.dumps(message))

    return act


def in_turn(*acts: Act) -> Iterator[Act]:
    """Yield acts over and over."""
    while True:
        yield from acts


def on_schedule(*acts: Act) -> Act:
    """Return the act of doing each of `acts` in turn, over and over."""
    turn, lock = in_turn(*acts), threading.Lock()

    def act(handler: Any, body: dict[str, Any]) -> None:
        with lock:
            now = next(turn)
        now(handler, body)

    return act


def _break(handler: Any) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()
