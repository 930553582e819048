"""A real HTTP server that speaks /v1/messages and does as it is told."""

import json
import socket
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Act = Callable[["Handler", dict[str, Any]], None]


def answer(text: str, *, stop_reason: str = "end_turn", tokens: tuple[int, int] = (100, 20)) -> Act:
    def act(handler: "Handler", body: dict[str, Any]) -> None:
        message = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": text}] if text else [],
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": {"input_tokens": tokens[0], "output_tokens": tokens[1]},
        }
        handler.send(200, json.dumps(message))

    return act


def label(name: str, confidence: float = 0.9) -> Act:
    return answer(json.dumps({"rationale": "It says so.", "label": name, "confidence": confidence}))


def status(code: int, message: str = "no", headers: dict[str, str] | None = None) -> Act:
    def act(handler: "Handler", body: dict[str, Any]) -> None:
        error = {"type": "error", "error": {"type": "an_error", "message": message}}
        handler.send(code, json.dumps(error), headers=headers)

    return act


def raw(text: str, content_type: str) -> Act:
    return lambda handler, body: handler.send(200, text, content_type=content_type)


def reset(handler: "Handler", body: dict[str, Any]) -> None:
    """Close the connection with a RST, as a crashed server does."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


class Handler(BaseHTTPRequestHandler):
    server: "MessagesServer"
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/messages":
            self.server.act_for(body, dict(self.headers))(self, body)
        else:
            self.server.serve_other(self, body)

    def do_GET(self) -> None:
        self.server.serve_other(self, {})

    def send(
        self,
        code: int,
        text: str,
        *,
        headers: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> None:
        content = text.encode()
        self.send_response(code)
        for name, value in {"Content-Type": content_type, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class MessagesServer(ThreadingHTTPServer):
    """Does one act a request, the last one for ever, and keeps what it was asked."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *acts: Act) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self._acts = list(acts)
        self._lock = threading.Lock()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def act_for(self, body: dict[str, Any], headers: dict[str, str]) -> Act:
        with self._lock:
            self.bodies.append(body)
            self.headers.append({name.lower(): value for name, value in headers.items()})
            return self._acts.pop(0) if len(self._acts) > 1 else self._acts[0]

    def serve_other(self, handler: Handler, body: dict[str, Any]) -> None:
        """Answer what is not /v1/messages."""
        status(404, "no such path")(handler, body)

    def __enter__(self) -> "MessagesServer":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that were killed."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self.server_close()
