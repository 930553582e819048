"""Logs as JSON, one line per event, written by a thread of their own so that a slow reader of the logs slows no request."""

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

logger = logging.getLogger("serving")
MAX_WAITING = 10_000
"""Lines that may wait to be written; more are dropped and counted."""
GATHER_S = 0.05
"""How long the first line waits for others to be written with it: waking the thread for each line costs the requests."""
CLOSE_S = 5.0
"""How long the end of the process waits for a reader, twice."""


def event(level: int, name: str, **fields: object) -> None:
    """Log an event with its fields, which JSON must be able to hold."""
    if logger.isEnabledFor(level):
        logger.handle(_record(level, name, **fields))  # without the search for the caller's line, which nobody reads


class LogRateLimit:
    """Log rate limiter: passes `most` lines a second and counts the rest."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Pass `most` lines a second; `clock` gives seconds."""
        self._most = most
        self._clock = clock
        self._second = -1
        self._n_passed = 0
        self._left_out = 0

    def passes(self) -> bool:
        """Whether one more line may be written now; if not, it is counted."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._n_passed = second, 0
        if self._n_passed >= self._most:
            self._left_out += 1
            return False
        self._n_passed += 1
        return True

    def left_out(self) -> int:
        """How many lines were not written since the last call."""
        n_left_out, self._left_out = self._left_out, 0
        return n_left_out


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time, level, logger, event, the event's fields, and the error if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without a line feed."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        } | getattr(record, "fields", {})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        try:
            return msgspec.json.encode(line, enc_hook=str).decode()
        except UnicodeEncodeError:  # a text may hold half a surrogate pair, which UTF-8 cannot
            return msgspec.json.encode(_encodable(line), enc_hook=str).decode()


class _QueueHandler(QueueHandler):
    """Hands records to the writing thread and never waits for it."""

    dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # it stays in this process, so nothing needs to be made fit to travel

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


class JsonLogs:
    """The logs of this process from its construction to `close`: the service's own and those of the web server."""

    def __init__(self, stream: IO[str] | None = None, level: int = logging.INFO) -> None:
        """Take over the root logger and write to `stream`, by default stderr; `close` restores what was set up before."""
        self._stream = stream or sys.stderr
        self._waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(MAX_WAITING)
        self._handler = _QueueHandler(self._waiting)
        self._formatter = JsonFormatter()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write, name="logs", daemon=True)
        self._thread.start()
        self._before = (logging.root.level, logging.root.handlers[:])
        logging.root.handlers[:] = [self._handler]
        logging.root.setLevel(level)

    def close(self) -> None:
        """Write what waits, if somebody reads it, and how many lines were dropped."""
        level, handlers = self._before
        logging.root.setLevel(level)
        logging.root.handlers[:] = handlers
        self._closing.set()
        try:
            self._waiting.put(None, timeout=CLOSE_S)
        except queue.Full:  # nobody reads: one line more is lost
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
        with suppress(OSError, ValueError):  # nobody reads any more
            self._stream.writelines(self._formatter.format(record) + "\n" for record in records)
            self._stream.flush()


def _record(level: int, name: str, **fields: object) -> logging.LogRecord:
    return logger.makeRecord(logger.name, level, "", 0, name, (), None, extra={"fields": fields})


def _encodable(value: Any) -> Any:
    """Replace what UTF-8 cannot encode."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(field) for key, field in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encodable(item) for item in value]
    return value
