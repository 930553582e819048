"""SQLite's write-ahead log, switched on by many at the same time."""

import sqlite3
import time

TRIES, WAIT_S = 600, 0.1


def use_write_ahead_log(db: sqlite3.Connection) -> None:
    """Let readers go on while one writes; a killed process loses nothing that was committed, a power cut the last moments.

    The switch needs the file for itself, and SQLite refuses it at once where another connection writes, whatever the
    connection's timeout: https://sqlite.org/rescode.html#busy. So it is tried again for a minute.

    Raises:
        sqlite3.OperationalError: the file is still in use after a minute, or it cannot be written.
    """
    for tries_left in reversed(range(TRIES)):
        try:
            db.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:
            # The primary code, without the extension that says why the file is busy.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or not tries_left:
                raise
            time.sleep(WAIT_S)
    db.execute("PRAGMA synchronous=NORMAL")
