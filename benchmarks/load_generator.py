"""Sends requests to a service from a process of its own; its processor time is nobody's else.

The other benchmarks start it, with one JSON object as the argument, and read one from the file that it names. A closed loop of
`callers`, each with one request at a time, sends `requests` of them, or until `seconds` are over. An open loop sends
`rate` a second for `seconds`, whatever becomes of them, and asks the probes beside, and a bare server at `bare_port`,
which tells what this machine makes of a request that costs nothing. No HTTP library: on two
processors a thrifty client disturbs the service least.
"""

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PROBE_EVERY_S = 0.1
MOST_CONNECTIONS = 2000
BROKEN = 0
"""The status of a request that got no reply."""


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._received = b""
        self._wanted = -1
        self._reply: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.open = transport, True  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # why it broke is the service's log to say
        self.open = False
        self._end(BROKEN)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._wanted < 0 and (end := self._received.find(b"\r\n\r\n")) >= 0:
            self._wanted = end + 4 + length_of(self._received[:end])
        if 0 <= self._wanted <= len(self._received):
            self._end(int(self._received[9:12]))

    async def ask(self, request: bytes) -> int:
        """Return the status of the reply; `BROKEN` where none came."""
        self._reply = asyncio.get_running_loop().create_future()
        self._received, self._wanted = b"", -1
        if not self.open:
            return BROKEN
        self._transport.write(request)  # type: ignore[union-attr]
        return await self._reply

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    def _end(self, status: int) -> None:
        if self._reply and not self._reply.done():
            self._reply.set_result(status)


def length_of(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    raise ValueError(f"a reply without a Content-Length: {head[:200]!r}")


async def connect(port: int) -> Connection:
    return (await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port))[1]


def post(path: str, body: str, headers: dict[str, str]) -> bytes:
    content = body.encode()
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content


async def closed_loop(plan: dict[str, Any], requests: list[bytes]) -> dict[str, Any]:
    """Return statuses, and the milliseconds of each request in the order of their sending."""
    until = time.perf_counter() + plan.get("seconds", float("inf"))
    turns = iter(range(plan["requests"])) if "requests" in plan else itertools.count()
    took: dict[int, float] = {}
    ended: dict[int, float] = {}
    statuses: Counter[int] = Counter()

    async def caller() -> None:
        connection = await connect(plan["port"])
        for turn in turns:
            if time.perf_counter() >= until:
                break
            if not connection.open:
                connection = await connect(plan["port"])
            began = time.perf_counter()
            statuses[await connection.ask(requests[turn % len(requests)])] += 1
            ended[turn] = time.perf_counter()
            took[turn] = 1000 * (ended[turn] - began)
        connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(plan["callers"])))
    return {
        "seconds": time.perf_counter() - began,
        "statuses": statuses,
        "ms": [round(took[turn], 3) for turn in sorted(took)],
        "ended_s": [round(ended[turn] - began, 3) for turn in sorted(took)],
    }


async def open_loop(plan: dict[str, Any], requests: list[bytes]) -> dict[str, Any]:
    """Return the milliseconds of each request by status, of the probes, and by how much sending was late."""
    idle: list[Connection] = []
    took: dict[int, list[float]] = {}
    late: list[float] = []
    opened = itertools.count(1)

    async def send_one(request: bytes, due: float) -> None:
        began = time.perf_counter()
        late.append(round(1000 * (began - due), 3))
        connection = next((candidate for candidate in popped(idle) if candidate.open), None)
        if connection is None:
            if next(opened) > MOST_CONNECTIONS:
                took.setdefault(BROKEN, []).append(0.0)
                return
            connection = await connect(plan["port"])
        status = await connection.ask(request)
        took.setdefault(status, []).append(round(1000 * (time.perf_counter() - began), 3))
        idle.append(connection)

    probe_ms: list[float] = []
    bare_ms: list[float] = []
    probing = [asyncio.create_task(probe(plan["port"], plan.get("probes", ()), probe_ms))]
    if "bare_port" in plan:
        probing.append(asyncio.create_task(probe(plan["bare_port"], ["/"], bare_ms)))
    tasks: set[asyncio.Task[None]] = set()
    start = time.perf_counter()
    for turn in range(int(plan["rate"] * plan["seconds"])):
        due = start + turn / plan["rate"]
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(send_one(requests[turn % len(requests)], due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    sent_s = time.perf_counter() - start
    await asyncio.gather(*tasks)
    for task in probing:
        task.cancel()
    return {"seconds": sent_s, "ms": took, "probe_ms": probe_ms, "bare_ms": bare_ms, "late_ms": late}


def popped(idle: list[Connection]) -> Iterator[Connection]:
    while idle:
        yield idle.pop()


async def probe(port: int, paths: Sequence[str], ms: list[float]) -> None:
    """Ask each probe in turn, and note how long it took; a refusal counts as a second, which no bar allows."""
    connection = await connect(port)
    for path in itertools.cycle(paths):
        if not connection.open:
            connection = await connect(port)
        began = time.perf_counter()
        status = await connection.ask(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        took = 1000 * (time.perf_counter() - began)
        ms.append(round(took if status == 200 else max(took, 1000.0), 3))
        await asyncio.sleep(PROBE_EVERY_S)


def main() -> None:
    if len(sys.argv) < 2:
        print("skipped: the other benchmarks call this one")
        return
    plan = json.loads(sys.argv[1])
    bodies = json.loads(Path(plan["bodies"]).read_text())
    requests = [post(plan["path"], body, plan.get("headers", {})) for body in bodies]
    loop = open_loop if "rate" in plan else closed_loop
    try:
        import uvloop

        run = uvloop.run
    except ImportError:
        run = asyncio.run
    Path(plan["found"]).write_text(json.dumps(run(loop(plan, requests))))


if __name__ == "__main__":
    main()
