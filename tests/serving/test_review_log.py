"""Every escalation reaches the review store, and a store that does not answer delays nobody."""

import asyncio
import logging
import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sql
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateTable

from hybrid.errors import BudgetError
from hybrid.llm.cost.prices import Price
from hybrid.llm.cost.pricing import HOUR_S, Pricing
from hybrid.review import escalations
from hybrid.review.escalations import Escalated, open_store, read_escalations, write_escalations
from serving.decoder import review_log
from serving.decoder.review_log import ReviewLog
from serving.decoder.spend_cap import SpendCap
from tests.messages_server import MessagesServer, label
from tests.serving.escalation_fixtures import UNSURE, escalated, opened
from tests.serving.test_spend_cap import request
from tests.test_escalated_rows import ROW, of

TABLES = [str(CreateTable(table).compile(dialect=sqlite.dialect())) for table in escalations._tables.sorted_tables]
POSTGRES = next((path for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


def test_an_escalation_is_kept_with_all_that_a_reviewer_wants_to_know(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        handler = opened(tmp_path, url, retries=0, on_failure="abstain")
        await escalated(handler, "The soup.")
        await escalated(handler, "The soup.")
        await escalated(handler, "The tart.")
        await handler.close()

    began_at = time.time()
    with MessagesServer(label("bad"), label("excellent")) as server:
        asyncio.run(run(server.url))
    first, again, lost = read_escalations(open_store(str(tmp_path / "escalations.sqlite")))
    assert (first.text, first.bundle_id, first.probs) == ("The soup.", UNSURE.bundle_id, UNSURE.probs)
    assert (first.encoder_label, first.encoder_confidence) == ("good", 0.6)
    assert (first.decoder, first.decoder_label, first.decoder_confidence) == ("judge", "bad", 0.9)
    assert (first.outcome, first.answer_label, first.rationale) == ("answered", "bad", "It says so.")
    assert first.seconds > 0 == again.seconds == again.cost_usd
    assert began_at <= first.at <= lost.at <= time.time()
    assert (lost.outcome, lost.decoder_label, lost.answer_label) == ("undecided", None, None)
    assert "'excellent' is not a label" in lost.reason


def test_services_that_start_together_share_a_new_store(tmp_path: Path) -> None:
    path = tmp_path / "escalations.sqlite"
    first = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    first.execute("PRAGMA journal_mode=WAL")
    first.execute("BEGIN IMMEDIATE")
    for statement in TABLES:
        first.execute(statement)
    first.execute("INSERT INTO hybrid_store VALUES (1)")
    with ThreadPoolExecutor(8) as pool:
        others = [pool.submit(open_store, str(path)) for _ in range(8)]
        time.sleep(0.2)  # they have looked for the tables; where they come later, they find them
        first.execute("COMMIT")
        for other in others:
            write_escalations(other.result(), [of("The soup.")])
    assert len(read_escalations(open_store(str(path)))) == 8


def test_processes_that_start_together_share_a_new_store(tmp_path: Path) -> None:
    script = "import sys; from hybrid.review.escalations import open_store; input(); open_store(sys.argv[1])"
    command = [sys.executable, "-c", script, str(tmp_path / "escalations.sqlite")]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[1] for process in processes] == [""] * 6


@pytest.mark.slow
def test_a_store_that_is_held_by_another_delays_no_answer_and_gets_its_rows_later(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        handler = opened(tmp_path, url)
        other = sqlite3.connect(tmp_path / "escalations.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for i in range(30):
            await escalated(handler, f"Dish {i}.")
        assert handler.reviews.written == 0
        other.execute("COMMIT")
        await handler.close()
        assert (handler.reviews.written, handler.reviews.dropped) == (30, 0)

    with MessagesServer(label("bad")) as server:
        asyncio.run(run(server.url))
    assert len(read_escalations(open_store(str(tmp_path / "escalations.sqlite")))) == 30


@pytest.mark.slow
def test_what_a_store_never_takes_is_counted_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(review_log, "MOST_WAITING", 5)
    engine = open_store(str(tmp_path / "store.sqlite"))
    with engine.begin() as db:
        db.execute(sql.text("DROP TABLE escalations"))
    log = ReviewLog(engine)
    with caplog.at_level(logging.WARNING):
        for i in range(8):
            log.note(of(f"Dish {i}."))
        log.close(0.5)
    assert (log.written, log.dropped) == (0, 8)
    assert "escalations were not kept for review" in caplog.text
    assert "Dish" not in caplog.text


def test_a_burst_is_written_whole_and_in_order(tmp_path: Path) -> None:
    log = ReviewLog(open_store(str(tmp_path / "store.sqlite")))
    for i in range(1200):
        log.note(of(f"Dish {i}."))
    log.close(30)
    rows = read_escalations(open_store(str(tmp_path / "store.sqlite")))
    assert [row.text for row in rows] == [f"Dish {i}." for i in range(1200)]
    assert (log.written, log.dropped) == (1200, 0)


def command(*words: object) -> list[str]:
    """Return a command as an unprivileged user runs it: PostgreSQL refuses root."""
    bare = [str(word) for word in words]
    return bare if os.geteuid() else ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *bare]


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server of our own, on a socket in a temporary folder."""
    if POSTGRES is None or (os.geteuid() == 0 and not shutil.which("setpriv")):
        pytest.skip("no PostgreSQL server here; on Debian: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    try:
        if os.geteuid() == 0:
            os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
        data = folder / "data"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, "check": True}
        making = command(POSTGRES / "initdb", "-D", data, "-U", "hybrid", "-A", "trust", "-E", "UTF8", "--no-sync")
        subprocess.run(making, **quiet)  # type: ignore[call-overload]
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        control = command(POSTGRES / "pg_ctl", "-D", data, "-w", "-t", "120", "-o", options, "-l", folder / "log")
        subprocess.run([*control, "start"], **quiet)  # type: ignore[call-overload]
        try:
            yield f"postgresql://hybrid@/postgres?host={folder}"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **quiet)  # type: ignore[call-overload]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_postgresql_keeps_what_sqlite_keeps(postgres: str, tmp_path: Path) -> None:
    rows: list[Escalated] = [ROW, of("nul \x00 and \ud800", decoder_label=None, answer_label=None, cost_usd=None)]
    results = []
    for name in (postgres, str(tmp_path / "store.sqlite")):
        engine = open_store(name)
        open_store(name).dispose()
        write_escalations(engine, rows)
        results.append(read_escalations(engine))
        engine.dispose()
    assert results[0] == results[1]
    assert results[0][0] == ROW


@pytest.mark.slow
def test_two_services_on_one_postgresql_cannot_cross_the_cap_together(postgres: str) -> None:
    def capped(usd: float) -> SpendCap:
        price = Price(input=100.0, output=500.0)
        return SpendCap(open_store(postgres), Pricing(model="judge", role="decoder", price=price, usd_per_hour=usd))

    async def reserve(usd: float) -> int:
        caps = [capped(usd) for _ in range(2)]
        asking = [asyncio.to_thread(_reserved, caps[i % 2]) for i in range(40)]
        return sum(await asyncio.gather(*asking))

    with open_store(postgres).begin() as db:
        db.execute(escalations.calls.delete())
    worst = (capped(1.0).pricing.worst_nano(request()) or 0) / 1e9
    assert asyncio.run(reserve(7.5 * worst)) == 7
    assert capped(1.0).ledger.spent(HOUR_S).settled_usd <= 7.5 * worst
    assert asyncio.run(reserve(999.0)) == 40


def _reserved(cap: SpendCap) -> bool:
    try:
        cap.reserve(request())
    except BudgetError:
        return False
    return True
