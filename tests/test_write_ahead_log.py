"""SQLite refuses the switch to its write-ahead log at once while another connection writes: here it always does."""

import sqlite3
from pathlib import Path

import pytest

from hybrid.files import write_ahead_log
from hybrid.files.write_ahead_log import use_write_ahead_log
from hybrid.llm.traces.database import TraceDatabase
from hybrid.review.escalations import open_store


def journal_of(path: Path) -> str:
    db = sqlite3.connect(path)
    mode = db.execute("PRAGMA journal_mode").fetchone()[0]
    db.close()
    return str(mode)


@pytest.fixture
def busy(tmp_path: Path) -> sqlite3.Connection:
    """A file that another connection writes, without the write-ahead log."""
    db = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None, check_same_thread=False)
    db.execute("CREATE TABLE t (a)")
    db.execute("BEGIN IMMEDIATE")
    return db


def let_go_at_the_first_wait(monkeypatch: pytest.MonkeyPatch, busy: sqlite3.Connection) -> list[float]:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        busy.close()

    monkeypatch.setattr(write_ahead_log.time, "sleep", sleep)
    return waits


def test_the_switch_waits_while_another_connection_writes(
    tmp_path: Path, busy: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = let_go_at_the_first_wait(monkeypatch, busy)
    use_write_ahead_log(sqlite3.connect(tmp_path / "store.sqlite", timeout=60))
    assert waits == [write_ahead_log.WAIT_S]
    assert journal_of(tmp_path / "store.sqlite") == "wal"


def test_every_store_waits_so(tmp_path: Path, busy: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = let_go_at_the_first_wait(monkeypatch, busy)
    TraceDatabase(tmp_path / "store.sqlite").close()
    assert len(waits) == 1
    other = tmp_path / "escalations.sqlite"
    sqlite3.connect(other).execute("CREATE TABLE t (a)").connection.close()
    writer = sqlite3.connect(other, isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")
    waits = let_go_at_the_first_wait(monkeypatch, writer)
    open_store(str(other)).dispose()
    assert len(waits) == 1


def test_a_file_that_stays_busy_is_refused_in_the_end(
    tmp_path: Path, busy: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(write_ahead_log.time, "sleep", waits.append)
    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        use_write_ahead_log(sqlite3.connect(tmp_path / "store.sqlite", timeout=60))
    assert len(waits) == write_ahead_log.TRIES - 1
    busy.close()


def test_what_is_no_database_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(write_ahead_log.time, "sleep", waits.append)
    (tmp_path / "notes.txt").write_text("no database at all, and long enough to be read as the head of one" * 20)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        use_write_ahead_log(sqlite3.connect(tmp_path / "notes.txt"))
    assert waits == []
