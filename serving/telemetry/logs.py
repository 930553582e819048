"""JSON logs, one line per event, written on a separate thread so that a slow reader of the logs delays no request."""

import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import QueueHandler
from typing import IO, Any

import msgspec

from hybrid.urls import hide_user_info

logger = logging.getLogger("serving")
HTTP_CLIENTS = ("anthropic", "httpcore", "httpcore2", "httpx", "httpx2", "opentelemetry", "urllib3")
"""Loggers of the clients that this process calls other servers with: they write a line for every call, with its URL."""
MAX_WAITING = 10_000
"""The most lines that may wait to be written; further lines are dropped and counted."""
GATHER_S = 0.05
"""How long the first line waits for others to be written with it: waking the thread for each line would slow requests."""
CLOSE_S = 5.0
"""How long `close` waits for a reader: once to hand over the last line, and once until all are written."""


def event(level: int, name: str, **fields: object) -> None:
    """Log an event with its fields, whose values must be serialisable as JSON."""
    if logger.isEnabledFor(level):
        logger.handle(
            _record(level, name, **fields)
        )  # skips the costly search for the caller's line, which no log shows


class LogRateLimit:
    """Log rate limiter: passes `most` lines a second and counts the rest."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Pass `most` lines a second; `clock` gives seconds."""
        self._most = most
        self._clock = clock
        self._second = -1
        self._n_passed = 0
        self._n_dropped = 0

    def passes(self) -> bool:
        """Whether one more line may be written now; if not, it is counted."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._n_passed = second, 0
        if self._n_passed >= self._most:
            self._n_dropped += 1
            return False
        self._n_passed += 1
        return True

    def take_dropped(self) -> int:
        """Return how many lines were dropped since the last call, and start counting anew."""
        n_dropped, self._n_dropped = self._n_dropped, 0
        return n_dropped


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time, level, logger, event, the event's fields, and the error if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record, without a line feed at the end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        } | getattr(record, "fields", {})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        try:
            encoded = msgspec.json.encode(line, enc_hook=str)
        except UnicodeEncodeError:  # a text may hold half a surrogate pair, which UTF-8 cannot
            encoded = msgspec.json.encode(_encodable(line), enc_hook=str)
        return hide_user_info(encoded.decode())


class _QueueHandler(QueueHandler):
    """Hands records to the writing thread and never waits for it."""

    dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # it stays in this process, so it need not be picklable

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


class JsonLogs:
    """Writes all logs of this process, the web server's included, from construction to `close`."""

    def __init__(self, stream: IO[str] | None = None, level: int = logging.INFO) -> None:
        """Take over the root logger and write to `stream` (default: stderr); `close` restores the previous handlers."""
        self._stream = stream or sys.stderr
        self._waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(MAX_WAITING)
        self._handler = _QueueHandler(self._waiting)
        self._formatter = JsonFormatter()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write, name="logs", daemon=True)
        self._thread.start()
        self._previous = (logging.root.level, logging.root.handlers[:])
        logging.root.handlers[:] = [self._handler]
        logging.root.setLevel(level)
        self._client_levels = {name: logging.getLogger(name).level for name in HTTP_CLIENTS}
        for name in HTTP_CLIENTS:
            logging.getLogger(name).setLevel(max(level, logging.WARNING))

    def close(self) -> None:
        """Write the waiting lines if the stream accepts them, and the number of dropped lines."""
        level, handlers = self._previous
        logging.root.setLevel(level)
        logging.root.handlers[:] = handlers
        for name, client_level in self._client_levels.items():
            logging.getLogger(name).setLevel(client_level)
        self._closing.set()
        try:
            self._waiting.put(None, timeout=CLOSE_S)
        except queue.Full:  # the reader is stuck: drop one more line to make room
            self._waiting.get_nowait()
            self._waiting.put_nowait(None)
            self._handler.dropped += 1
        self._thread.join(CLOSE_S)

    def _write(self) -> None:
        records: list[logging.LogRecord | None] = []
        while None not in records:
            records = [self._waiting.get()]
            self._closing.wait(GATHER_S)
            records += [self._waiting.get_nowait() for _ in range(self._waiting.qsize())]
            self._write_lines([record for record in records if record])
        if self._handler.dropped:
            self._write_lines([_record(logging.WARNING, "log lines dropped", n_lines=self._handler.dropped)])

    def _write_lines(self, records: Sequence[logging.LogRecord]) -> None:
        with suppress(OSError, ValueError):  # the reader has gone
            self._stream.writelines(self._formatter.format(record) + "\n" for record in records)
            self._stream.flush()


def _record(level: int, name: str, **fields: object) -> logging.LogRecord:
    return logger.makeRecord(logger.name, level, "", 0, name, (), None, extra={"fields": fields})


def _encodable(value: Any) -> Any:
    """Replace characters that UTF-8 cannot encode."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(field) for key, field in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encodable(item) for item in value]
    return value
