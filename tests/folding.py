"""What tests of a view share: histories made by hand, a database of its own, a caller of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise

from sqlalchemy.ext.asyncio import AsyncEngine

from reyna.api.views import CallersView
from reyna.content import Projection, Readiness, Tables, Tx
from reyna.database import open_engine, reading, writing
from reyna.domain.event import Event, Meta, type_of
from reyna.log import subjects
from reyna.log.record import Record
from reyna.runtime.proof import Digest, digest
from tests.databases import Databases, on_sqlite

_databases: list[Databases] = [on_sqlite]


@contextmanager
def folding_on(databases: Databases) -> Iterator[None]:
    """Have `folded` make its databases with `databases` for the length of the block."""
    _databases.append(databases)
    try:
        yield
    finally:
        _databases.pop()


class History:
    """Events in the order of their seq; the time of event N is N microseconds past midnight."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def add(self, owner: str, entity_id: str, event: Event) -> Record:
        """Append an event; its id is `e` and its seq."""
        seq = len(self.records) + 1
        meta = Meta(id=f"e{seq}", time=time_of(seq), type=type_of(event), actor=f"user:{owner}")
        subject = subjects.parse(subjects.subject_of(owner, entity_id, event))
        self.records.append(Record(seq, subject, event, meta))
        return self.records[-1]


def time_of(seq: int) -> str:
    """When event `seq` of a History happened."""
    return f"2026-01-01T00:00:00.{seq:06}Z"


class Folded:
    """A database with one view's tables."""

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
async def folded(projection: Projection) -> AsyncIterator[Folded]:
    """An empty view in a database that is gone afterwards: SQLite, unless `folding_on` says."""
    async with _databases[-1]() as url:
        engine = open_engine(url)
        try:
            async with writing(engine) as connection:
                await connection.run_sync(projection.tables.create_all)
            yield Folded(engine, projection)
        finally:
            await engine.dispose()


def _batches(records: Sequence[Record], cuts: Iterable[int]) -> Iterator[Sequence[Record]]:
    edges = sorted({0, *(min(cut, len(records)) for cut in cuts), len(records)})
    return (records[start:end] for start, end in pairwise(edges))
