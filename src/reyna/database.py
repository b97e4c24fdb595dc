"""Database engines. Owns how SQLite and PostgreSQL are opened, how thousands of rows are written,
and what a lost one is called.

Tables belong to those who use them: accounts to `reyna.identity`, views to the projections,
checkpoints to `reyna.runtime.projector`. Accounts and views are two databases: views may be
deleted.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from sqlite3 import SQLITE_ERROR
from sqlite3 import Connection as SqliteConnection
from typing import Self

import msgspec
from sqlalchemy import Table, event, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Dialect, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DBAPIError,
    InterfaceError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.sql.dml import Insert

from reyna.errors import DatabaseUnavailable, SetupError

BUSY_TIMEOUT_MS = 10_000
# Seconds between two looks at a lock that another holds.
LOCK_POLL = 0.1


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite+aiosqlite:///{path}"


def open_engine(url: str, *, rebuildable: bool = False) -> AsyncEngine:
    """An engine for `url` (sqlite or postgresql); no connection is made yet.

    What is `rebuildable` may lose its last commits in a power cut, and is quicker for it.
    """
    parsed = _driver_url(url)
    if parsed.get_backend_name() != "sqlite":
        engine = create_async_engine(parsed, pool_pre_ping=True, hide_parameters=True)
        event.listen(engine.sync_engine, "before_cursor_execute", _replace_nul, retval=True)
        return engine
    engine = create_async_engine(parsed, pool_size=8, max_overflow=0, hide_parameters=True)
    prepare = partial(_prepare_sqlite, synchronous="NORMAL" if rebuildable else "FULL")
    event.listen(engine.sync_engine, "connect", prepare)
    return engine


@asynccontextmanager
async def writing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A write transaction: committed at the end, rolled back on an error."""
    with _failures(engine):
        async with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            await connection.commit()


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A read transaction: everything read in it is of one moment."""
    with _failures(engine):
        async with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                await connection.exec_driver_sql("BEGIN")
            else:
                # By default each statement would see what was committed before it.
                await connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection


class Writer(msgspec.Struct, frozen=True):
    """A statement that writes a row, and the columns that are its parameters, in order.

    SQLAlchemy's own way costs more for each of thousands of rows than the database does.
    """

    sql: str
    columns: tuple[tuple[str, Callable[[object], object] | None], ...]

    @classmethod
    def prepare(cls, dialect: Dialect, table: Table, names: Sequence[str], upsert: bool) -> Self:
        """The statement as this database wants it."""
        statement = _upsert(dialect, table, names) if upsert else table.insert()
        compiled = statement.compile(dialect=dialect, column_keys=list(names))
        return cls(
            compiled.string,
            tuple(
                (name, table.c[name].type.dialect_impl(dialect).bind_processor(dialect))
                for name in compiled.positiontup or ()
            ),
        )

    def parameters(self, rows: Sequence[Mapping[str, object]]) -> list[tuple[object, ...]]:
        """The statement's parameters for each row."""
        columns = [
            [bind(row[name]) for row in rows] if bind else [row[name] for row in rows]
            for name, bind in self.columns
        ]
        return list(zip(*columns, strict=True))


@asynccontextmanager
async def alone(engine: AsyncEngine, name: str) -> AsyncIterator[None]:
    """Be the only one, of all processes, to hold `name` in this database; waits for its turn.

    The hold ends with the process, however that ends.
    """
    if engine.dialect.name == "sqlite":
        async with _file_lock(Path(f"{engine.url.database}.{name}.lock")):
            yield
    else:
        async with reading(engine) as connection:
            await take_turn(connection, name)
            yield


async def take_turn(connection: AsyncConnection, name: str) -> None:
    """Wait until no other write transaction holds `name`, and hold it to the end of this one.

    With SQLite there is never more than one.
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(name))))


@asynccontextmanager
async def _file_lock(path: Path) -> AsyncIterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(LOCK_POLL)
            else:
                break
        yield
    finally:
        os.close(descriptor)


def _upsert(dialect: Dialect, table: Table, names: Sequence[str]) -> Insert:
    insert = sqlite.insert(table) if dialect.name == "sqlite" else postgresql.insert(table)
    keys = [column.name for column in table.primary_key]
    values = {name: insert.excluded[name] for name in names if name not in keys}
    upsert: Insert = (
        insert.on_conflict_do_update(index_elements=keys, set_=values)
        if values
        else insert.on_conflict_do_nothing(index_elements=keys)
    )
    return upsert


def _driver_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise SetupError("REYNA_DATABASE_URL is not a database URL.") from error
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
    driver = drivers.get(parsed.get_backend_name())
    if driver is None:
        raise SetupError(
            f"REYNA_DATABASE_URL names {parsed.get_backend_name()}; use sqlite or postgresql."
        )
    return parsed.set(drivername=driver)


def _prepare_sqlite(connection: SqliteConnection, _: object, *, synchronous: str) -> None:
    # Autocommit in the driver: transactions begin where `writing` and `reading` say, nowhere else.
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        f"synchronous={synchronous}",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _replace_nul(
    _: object, __: object, statement: str, parameters: object, ___: object, many: bool
) -> tuple[str, object]:
    """Put U+FFFD for U+0000 in parameters: PostgreSQL's text cannot hold it, a caller can send it,
    and what cannot be in a table must not be found there either.
    """
    if isinstance(parameters, list) and many:
        return statement, [_clean(row) for row in parameters]
    return statement, _clean(parameters)


def _clean(row: object) -> object:
    if not isinstance(row, tuple) or not any(isinstance(v, str) and "\0" in v for v in row):
        return row
    return tuple(
        v.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(v, str) else v for v in row
    )


def is_outage(error: Exception) -> bool:
    """Whether an error is the database's own; else it is the statement's fault and stays so."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, PoolTimeout | ConnectionError)
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        # The primary code is the low byte (https://sqlite.org/rescode.html).
        return bool(code & 0xFF != SQLITE_ERROR)
    return error.connection_invalidated or isinstance(error.orig, OSError)


@contextmanager
def _failures(engine: AsyncEngine) -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout, ConnectionError) as error:
        if not is_outage(error):
            raise
        raise DatabaseUnavailable(f"The database does not answer: {_cause(error)}") from error
    except DatabaseError as error:
        # Its subclasses are the statement's fault; itself it is SQLite's word for a damaged file.
        if type(error) is not DatabaseError:
            raise
        name = Path(engine.url.database or "").name
        raise DatabaseUnavailable(f"The database {name} is damaged: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    return str(error.orig if isinstance(error, DBAPIError) else error)
