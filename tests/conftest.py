"""Fixtures for everybody: a real nats-server of one's own, a connection to it, and its log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from reyna.log import embedded
from reyna.log.connection import Connection
from reyna.log.stream import Log
from tests.databases import Databases, on_postgresql, on_sqlite, postgres
from tests.folding import folding_on

# How fast an example runs says more about the machine than about the code.
settings.register_profile("ci", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("ci")


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[embedded.Server]:
    """A fresh nats-server that nobody starts again when it dies."""
    server = embedded.Server(tmp_path / "nats", "interval")
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


@pytest.fixture
async def connection(nats: embedded.Server) -> AsyncIterator[Connection]:
    """A connection to it."""
    connection = await Connection.open(nats.url, nats.token)
    yield connection
    await connection.close()


@pytest.fixture
async def log(connection: Connection) -> Log:
    """The log, still empty."""
    return await Log.open(connection)


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest) -> Databases:
    """Makes empty databases: the test runs once with SQLite and once with PostgreSQL."""
    if request.param == "sqlite":
        return on_sqlite
    return on_postgresql(request.getfixturevalue("postgres_server"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server."""
    with postgres() as server:
        yield server


@pytest.fixture
async def any_database(databases: Databases) -> AsyncIterator[str]:
    """The URL of an empty database, of either kind."""
    async with databases() as url:
        yield url


@pytest.fixture(scope="module")
def folded_on_each(databases: Databases) -> Iterator[None]:
    """For a whole module: `tests.folding.folded` makes SQLite databases, then PostgreSQL's."""
    with folding_on(databases):
        yield
