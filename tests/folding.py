"""What tests of a view share: histories made by hand, a database of its own, a caller of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from reyna import testing
from reyna.content import Projection
from reyna.testing import Folded, History, time_of
from tests.databases import Databases, on_sqlite

__all__ = ["Folded", "History", "folded", "folding_on", "time_of"]

_databases: list[Databases] = [on_sqlite]


@contextmanager
def folding_on(databases: Databases) -> Iterator[None]:
    """Have `folded` make its databases with `databases` for the length of the block."""
    _databases.append(databases)
    try:
        yield
    finally:
        _databases.pop()


@asynccontextmanager
async def folded(projection: Projection) -> AsyncIterator[Folded]:
    """An empty view in a database that is gone afterwards: SQLite, unless `folding_on` says."""
    async with _databases[-1]() as url, testing.folded(projection, url) as view:
        yield view
