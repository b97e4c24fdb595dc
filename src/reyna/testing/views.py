"""Projections tried out: given events, then rows and answers. Owns the view's own database.

The tables are those of a real database, and the fold is called as the projector calls it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from litestar.handlers import HTTPRouteHandler
from sqlalchemy import RowMapping, Table, select
from sqlalchemy.ext.asyncio import AsyncEngine

from reyna.api.views import CallersView
from reyna.content import Projection, Readiness, Tables, Tx
from reyna.database import open_engine, reading, sqlite_url, writing
from reyna.log.record import Record
from reyna.runtime.proof import Digest, digest


class Folded:
    """A database with one view's tables. `position` is the seq of the last event folded."""

    def __init__(self, engine: AsyncEngine, projection: Projection) -> None:
        self._engine = engine
        self._projection = projection
        self._tables = Tables(projection.tables)
        self.position = 0

    async def apply(self, records: Sequence[Record], cuts: Iterable[int] = ()) -> None:
        """Fold records in the batches that `cuts`, indexes into them, make of them."""
        for batch in _batches(records, cuts):
            wanted = [r for r in batch if r.subject.kind in self._projection.kinds]
            self.position = batch[-1].seq if batch else self.position
            async with writing(self._engine) as connection:
                await self._projection.apply(Tx(connection, self._tables), wanted)

    async def rows(self, declared: Table) -> Sequence[RowMapping]:
        """All rows of a table, by its primary key."""
        table = self._tables[declared]
        async with reading(self._engine) as connection:
            found = await connection.execute(select(table).order_by(*table.primary_key))
            return found.mappings().all()

    async def ask(self, route: HTTPRouteHandler, user_id: str, **parameters: object) -> object:
        """What a GET route answers a user. Raises what the route raises."""
        async with self.seen_by(user_id) as view:
            answer: object = await route.fn(view=view, **parameters)
            return answer

    async def digests(self) -> list[Digest]:
        """The hashes and the number of rows of each table."""
        async with reading(self._engine) as connection:
            return [
                await digest(connection, self._tables, table)
                for table in self._projection.tables.sorted_tables
            ]

    @asynccontextmanager
    async def seen_by(
        self, user_id: str, readiness: Readiness | None = None, at: int | None = None
    ) -> AsyncIterator[CallersView]:
        """The view as a route is given it, after event `at`; every processor is as `readiness`
        says.
        """
        async with reading(self._engine) as connection:
            yield CallersView(user_id, self.position, connection, lambda _: readiness, at)


@asynccontextmanager
async def folded(projection: Projection, url: str | None = None) -> AsyncIterator[Folded]:
    """An empty view: in the empty database at `url`, or in a SQLite file that is gone
    afterwards.
    """
    with TemporaryDirectory() as folder:
        engine = open_engine(url or sqlite_url(Path(folder) / "views.db"))
        try:
            async with writing(engine) as connection:
                await connection.run_sync(projection.tables.create_all)
            yield Folded(engine, projection)
        finally:
            await engine.dispose()


@asynccontextmanager
async def given(projection: Projection, records: Sequence[Record]) -> AsyncIterator[Folded]:
    """A view after these events.

    It is folded twice, one event at a time, as it grows, and all at once, as it is rebuilt.
    Raises AssertionError when the tables are not the same to the byte.
    """
    async with folded(projection) as grown, folded(projection) as rebuilt:
        await grown.apply(records, range(len(records)))
        await rebuilt.apply(records)
        if await grown.digests() != await rebuilt.digests():
            raise AssertionError(
                f"{projection.name}: folded one by one, the events make other rows than all at once"
            )
        yield grown


def _batches(records: Sequence[Record], cuts: Iterable[int]) -> Iterator[Sequence[Record]]:
    edges = sorted({0, *(min(cut, len(records)) for cut in cuts), len(records)})
    return (records[start:end] for start, end in pairwise(edges))
