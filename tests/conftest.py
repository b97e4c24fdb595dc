"""Fixtures for everybody: a real nats-server of one's own, a connection to it, and its log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from reyna.log import embedded
from reyna.log.connection import Connection
from reyna.log.stream import Log

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
