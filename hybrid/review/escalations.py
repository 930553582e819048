"""The review store: every text on which a service's encoder was not confident enough, and the outcome.

SQLite in a file, or PostgreSQL by its URL, through SQLAlchemy. There are no migrations: the tables carry a version, and
a store of another version is refused. The store also records the decoder's calls, so that hourly and daily
spend caps hold across restarts and across all services that share a store.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import sqlalchemy as sql
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from hybrid.errors import DataError, StorageError
from hybrid.files.write_ahead_log import use_write_ahead_log
from hybrid.urls import hide_user_info

VERSION = 1
FILE = "escalations.sqlite"
"""The default file name of a store."""
ALONE = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(712094)"}
"""What makes a transaction wait for others of its kind, by dialect: of services that start together, one creates the tables."""
Outcome = Literal["answered", "undecided", "failed", "refused_by_breaker", "refused_by_spend"]

_tables = sql.MetaData()
versions = sql.Table("hybrid_store", _tables, sql.Column("version", sql.Integer, primary_key=True))
escalations = sql.Table(
    "escalations",
    _tables,
    sql.Column("id", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True),
    sql.Column("at", sql.Float, nullable=False, index=True),
    sql.Column("bundle_id", sql.String(12), nullable=False),
    sql.Column("text", sql.Text, nullable=False),
    sql.Column("encoder_label", sql.Text, nullable=False),
    sql.Column("encoder_confidence", sql.Float, nullable=False),
    sql.Column("probs", sql.JSON, nullable=False),
    sql.Column("outcome", sql.Text, nullable=False),
    sql.Column("decoder", sql.Text, nullable=False),
    sql.Column("decoder_label", sql.Text),
    sql.Column("decoder_confidence", sql.Float),
    sql.Column("rationale", sql.Text, nullable=False),
    sql.Column("reason", sql.Text, nullable=False),
    sql.Column("answer_label", sql.Text),
    sql.Column("cost_usd", sql.Float),
    sql.Column("seconds", sql.Float, nullable=False),
)
# Amounts are stored as integers, in billionths of a dollar, so that sums are exact.
calls = sql.Table(
    "decoder_calls",
    _tables,
    sql.Column("id", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True),
    sql.Column("at", sql.Float, nullable=False, index=True),
    sql.Column("nano", sql.BigInteger, nullable=False),
)


class Escalated(msgspec.Struct, frozen=True, kw_only=True):
    """One text that escalated, and the outcome."""

    at: float
    """Seconds since 1970."""
    bundle_id: str
    text: str
    encoder_label: str
    encoder_confidence: float
    probs: dict[str, float]
    """The encoder's class probabilities by label."""
    outcome: Outcome
    decoder: str
    """The model's name."""
    decoder_label: str | None = None
    decoder_confidence: float | None = None
    """The confidence that the model states, or the share of its votes; None if there is neither."""
    rationale: str = ""
    reason: str = ""
    """Why the decoder gave no label."""
    answer_label: str | None = None
    """The label that the caller received; None for an abstention or an error."""
    cost_usd: float | None = None
    """0 for an answer from the cache; None if the price is unknown."""
    seconds: float = 0.0


def url_of(name: str) -> str:
    """Turn the name of a store (a URL, or the path of a SQLite file) into a SQLAlchemy URL."""
    if "://" not in name:
        return f"sqlite:///{Path(name).resolve()}"
    # Without a driver SQLAlchemy would look for psycopg2.
    return name.replace("postgresql://", "postgresql+psycopg://", 1) if name.startswith("postgresql://") else name


def open_store(name: str) -> sql.Engine:
    """Open a store, and create its tables if it is new.

    Raises:
        StorageError: the store cannot be opened, or has another version.
    """
    try:
        engine = sql.create_engine(url_of(name), **_options(url_of(name)))
        if engine.dialect.name == "sqlite":
            sql.event.listen(engine, "connect", _set_up_sqlite)
        if (version := _version(engine)) is None:
            version = _create(engine)
    except (SQLAlchemyError, ImportError) as error:
        raise StorageError(
            f"the review store {shown(name)} cannot be opened ({_first_line(error)}); name a file that can be written, or "
            "the URL of a PostgreSQL database that answers"
        ) from error
    if version != VERSION:
        engine.dispose()
        raise StorageError(
            f"the review store {shown(name)} has version {version}, expected {VERSION}; name a new store"
        )
    return engine


def _version(engine: sql.Engine) -> int | None:
    """Read the version of a store that is whole; None where it has yet to be created."""
    if not set(_tables.tables) <= set(sql.inspect(engine).get_table_names()):
        return None
    with engine.connect() as db:
        return db.execute(sql.select(versions.c.version)).scalar()


def _create(engine: sql.Engine) -> int:
    """Create the tables that are missing, or wait until a process that started with this one has; return the version."""
    with engine.begin() as db:
        if lock := ALONE.get(engine.dialect.name):
            db.exec_driver_sql(lock)
        _tables.create_all(db)
        version = db.execute(sql.select(versions.c.version)).scalar()
        if version is None:
            db.execute(versions.insert().values(version=VERSION))
        return version or VERSION


def write_escalations(engine: sql.Engine, rows: Sequence[Escalated]) -> None:
    """Add rows in one transaction.

    Raises:
        SQLAlchemyError: the rows could not be written.
    """
    with engine.begin() as db:
        db.execute(escalations.insert(), [_storable(row) for row in rows])


def read_escalations(engine: sql.Engine) -> list[Escalated]:
    """Read all rows, oldest first.

    Raises:
        DataError: the table cannot be read, or a row has an unexpected form.
    """
    fields = Escalated.__struct_fields__
    columns = [escalations.c[name] for name in fields]
    try:
        with engine.connect() as db:
            rows = db.execute(sql.select(*columns).order_by(escalations.c.id)).all()
        read = [msgspec.convert(dict(zip(fields, row, strict=True)), Escalated) for row in rows]
    except (SQLAlchemyError, msgspec.ValidationError) as error:
        raise DataError(f"{shown(str(engine.url))}: escalations cannot be read ({_first_line(error)})") from error
    # Earlier versions stored the words of a failed call with the URL as the settings have it.
    return [msgspec.structs.replace(row, reason=hide_user_info(row.reason)) for row in read]


def shown(name: str) -> str:
    """The name of a store without user name and password, for messages."""
    if "://" not in name:
        return name
    try:
        url = sql.make_url(name)
    except ArgumentError:
        return hide_user_info(name)
    # Not by `hide_user_info` alone: the password of a database may hold the characters that end it elsewhere, such as a slash.
    return url._replace(username=None, password=None).render_as_string()


def _options(url: str) -> dict[str, Any]:
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": 30, "check_same_thread": False}}
    # Pre-ping reconnects after a server restart; the timeout keeps a silent server from blocking a thread.
    connect = {"connect_timeout": 5} if url.startswith("postgresql") else {}
    return {"pool_pre_ping": True, "pool_size": 4, "connect_args": connect}


def _set_up_sqlite(connection: sqlite3.Connection, _: object) -> None:
    use_write_ahead_log(connection)


def _storable(row: Escalated) -> dict[str, Any]:
    """Convert a row to column values, replacing NUL (refused by PostgreSQL) and lone surrogates (not valid in UTF-8)."""
    values: dict[str, Any] = msgspec.to_builtins(row)
    return {
        name: value.encode("utf-8", "replace").decode().replace("\x00", "\ufffd") if isinstance(value, str) else value
        for name, value in values.items()
    }


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
