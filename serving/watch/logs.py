"""Logs as JSON, a line an event, written by a thread of their own: a slow reader of the logs slows no request."""

import logging
import queue
import sys
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from typing import IO, Any

import msgspec

logger = logging.getLogger("serving")
WAITING = 10_000
"""Lines that wait to be written; more are dropped, and counted."""


def event(level: int, name: str, **fields: object) -> None:
    """Log an event with its fields, which JSON must be able to hold."""
    if logger.isEnabledFor(level):
        logger.log(level, name, extra={"fields": fields})


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time, level, logger, event, the fields of the event, and the error if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        } | getattr(record, "fields", {})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        # A text may hold half a surrogate pair, which UTF-8 cannot.
        return msgspec.json.encode(_sound(line)).decode()


class _Waiting(QueueHandler):
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
    """The logs of this process from `start` to `close`: the service's own and those of the web server."""

    def __init__(self, stream: IO[str] = sys.stderr, level: int = logging.INFO) -> None:
        """Take over every logger; what was set up before is put back by `close`."""
        target = logging.StreamHandler(stream)
        target.setFormatter(JsonFormatter())
        lines: queue.Queue[logging.LogRecord] = queue.Queue(WAITING)
        self._handler = _Waiting(lines)
        self._listener = QueueListener(lines, target)
        self._before = (logging.root.level, logging.root.handlers[:])
        logging.root.handlers[:] = [self._handler]
        logging.root.setLevel(level)
        self._listener.start()

    def close(self) -> None:
        """Write what waits, and say how many lines were dropped."""
        self._listener.stop()
        level, handlers = self._before
        logging.root.setLevel(level)
        logging.root.handlers[:] = handlers
        if self._handler.dropped:
            event(logging.WARNING, "log lines dropped", n_lines=self._handler.dropped)


def _sound(value: Any) -> Any:
    """Return the value with what UTF-8 cannot hold replaced."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_sound(key): _sound(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_sound(one) for one in value]
    return value
