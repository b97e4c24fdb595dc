"""Replay: rebuild a view beside the live one, then swap, or compare and change nothing.

Queries never see a half-built view: the new tables have names of their own until one transaction
puts them in the old ones' place, checkpoint included. Memory does not grow with the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager

import msgspec
from sqlalchemy import Connection as SyncConnection
from sqlalchemy import delete, inspect, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from reyna.content import Projection, Tables, Tx
from reyna.database import alone, is_outage, reading, writing
from reyna.errors import ReynaError
from reyna.ids import new_id
from reyna.log import subjects
from reyna.log.follow import Batch, read
from reyna.log.record import Record, Stored
from reyna.log.stream import Log
from reyna.runtime.projector import decode_wanted, select_for
from reyna.runtime.proof import TableProof, compare, digest
from reyna.runtime.views import Views, aside, checkpoints, read_checkpoint, set_aside

logger = logging.getLogger(__name__)

MARK = "__r"
# Events that are folded without a pause for others: some milliseconds' work.
PORTION = 50
# Events in one transaction of a rebuild, and bytes of them in memory.
TOGETHER = 4000
TOGETHER_BYTES = 8 * 1024 * 1024

Report = Callable[[int, int], None]


class Rebuilt(msgspec.Struct, frozen=True):
    """What a rebuild came to. `set_aside` counts the records that could not be applied."""

    projection: str
    position: int
    events: int
    set_aside: int


class Replay:
    """Rebuilds projections from one log."""

    def __init__(self, log: Log, views: Views) -> None:
        self._log = log
        self._views = views

    async def rebuild(
        self, projections: Sequence[Projection], to: int | None, report: Report
    ) -> list[Rebuilt]:
        """Fold the log, up to `to` or its end, into new tables and put them in the live ones'
        place.

        Without `to` a view never goes back behind what has been read from it. `report` is told the
        seq reached and the seq aimed at.
        """
        builds = [_Build(p, self._views) for p in projections]
        async with _beside(self._views, builds):
            await self._fill(builds, await self._log.head() if to is None else to, report)
            for build in builds:
                await build.make_late_indexes()
                await self._swap(build, catch_up=to is None)
        self._views.moved()
        return [b.result() for b in builds]

    async def verify(
        self, projections: Sequence[Projection], report: Report, *, gently: bool = False
    ) -> list[TableProof]:
        """Compare each live table, by hash, with one rebuilt up to the same seq. Changes
        nothing.

        Done `gently` it takes twice as long, and leaves half of the time to those who share the
        loop and the database.
        """
        proofs: list[TableProof] = []
        for projection in projections:
            tables = list(projection.tables.sorted_tables)
            async with reading(self._views.engine) as connection:
                checkpoint = await read_checkpoint(connection, projection.name)
                position = checkpoint.position if checkpoint else 0
                standing = Tables(projection.tables)
                live = [await digest(connection, standing, table) for table in tables]
            build = _Build(projection, self._views)
            async with _beside(self._views, [build]):
                await self._fill([build], position, report, gently=gently)
                async with reading(self._views.engine) as connection:
                    for table, was in zip(tables, live, strict=True):
                        becomes = await digest(connection, build.tables, table)
                        proofs.append(
                            compare(projection.name, str(table.name), position, was, becomes)
                        )
        return proofs

    async def _fill(
        self, builds: list[_Build], to: int, report: Report, *, gently: bool = False
    ) -> None:
        now = asyncio.get_running_loop().time
        async for messages in self._batches(builds, to):
            for portion in _portions(messages, PORTION if gently else len(messages)):
                begun = now()
                # Before the transaction, which keeps others from writing.
                records = _decode(builds, portion)
                async with writing(self._views.engine) as connection:
                    await _apply(connection, builds, records, portion[-1].seq)
                if gently:
                    await asyncio.sleep(now() - begun)
            report(messages[-1].seq, to)

    async def _swap(self, build: _Build, *, catch_up: bool) -> None:
        """Put a build in the live one's place, and what the live one has had meanwhile into it."""
        async with writing(self._views.engine) as connection:
            live = await read_checkpoint(connection, build.projection.name, hold=True)
            if live is None:
                raise ReynaError(f"The view {build.projection.name} has no checkpoint to move.")
            if catch_up and live.epoch == self._views.epoch:
                async for messages in self._batches([build], live.position):
                    records = _decode([build], messages)
                    await _apply(connection, [build], records, messages[-1].seq)
            await build.put_in_place(connection)

    async def _batches(self, builds: list[_Build], to: int) -> AsyncIterator[list[Stored]]:
        """What the builds have not had, up to `to`; after it they stand there."""
        start = min(build.position for build in builds)
        async with aclosing(read(self._log.connection, [subjects.ALL], start, to)) as batches:
            async for messages in _gathered(batches):
                yield messages
        for build in builds:
            build.position = max(build.position, to)


class _Build:
    """One projection's second set of tables, while it is filled."""

    def __init__(self, projection: Projection, views: Views) -> None:
        self.projection = projection
        self.views = views
        self.mark = f"{MARK}{new_id()[-10:]}"
        self.tables = Tables(projection.tables, self.mark)
        self.position = 0
        self._events = 0
        self._failed: list[tuple[Record, str]] = []

    def result(self) -> Rebuilt:
        return Rebuilt(self.projection.name, self.position, self._events, len(self._failed))

    async def apply(
        self, connection: AsyncConnection, records: Sequence[Record], position: int
    ) -> None:
        wanted = select_for(self.projection, records, self.position)
        if wanted and not await self._attempt(connection, wanted):
            for record in wanted:
                await self._attempt(connection, [record])
        self._events += len(wanted)
        self.position = position

    async def _attempt(self, connection: AsyncConnection, records: Sequence[Record]) -> bool:
        await connection.exec_driver_sql("SAVEPOINT attempt")
        try:
            await self.projection.apply(Tx(connection, self.tables), records)
        except Exception as error:
            if is_outage(error):
                # A database that fails is no fault of the record's.
                raise
            await connection.exec_driver_sql("ROLLBACK TO SAVEPOINT attempt")
            if len(records) == 1:
                logger.error("%s cannot apply %d: %s", self.projection.name, records[0].seq, error)
                self._failed.append((records[0], repr(error)))
            return False
        else:
            await connection.exec_driver_sql("RELEASE SAVEPOINT attempt")
            return True

    async def make_late_indexes(self) -> None:
        """Make the indexes that are quicker made for all rows at once."""
        for index in self.tables.late:
            async with writing(self.views.engine) as connection:
                await connection.run_sync(index.create)

    async def put_in_place(self, connection: AsyncConnection) -> None:
        """Give the new tables the live ones' names, and the checkpoint what they hold."""
        name = self.projection.name
        await connection.run_sync(_rename, self.projection, self.mark)
        await connection.execute(
            update(checkpoints)
            .where(checkpoints.c.projection == name)
            .values(version=self.projection.version, epoch=self.views.epoch, position=self.position)
        )
        await connection.execute(delete(aside).where(aside.c.projection == name))
        for record, error in self._failed:
            await set_aside(connection, name, record.seq, record.type, error)


async def _gathered(batches: AsyncIterator[Batch]) -> AsyncIterator[list[Stored]]:
    """The messages of many batches together, for one transaction."""
    messages: list[Stored] = []
    size = 0
    async for batch in batches:
        messages += batch.messages
        size += sum(len(message.payload) for message in batch.messages)
        if len(messages) >= TOGETHER or size >= TOGETHER_BYTES:
            yield messages
            messages, size = [], 0
    if messages:
        yield messages


def _decode(builds: Sequence[_Build], messages: Sequence[Stored]) -> list[Record]:
    kinds = frozenset().union(*(build.projection.kinds for build in builds))
    return decode_wanted(messages, kinds)


async def _apply(
    connection: AsyncConnection, builds: Sequence[_Build], records: Sequence[Record], to: int
) -> None:
    for build in builds:
        await build.apply(connection, records, to)


def _portions(messages: Sequence[Stored], size: int) -> Iterator[Sequence[Stored]]:
    return (messages[start : start + size] for start in range(0, len(messages), size))


@asynccontextmanager
async def _beside(views: Views, builds: list[_Build]) -> AsyncIterator[None]:
    """The builds' tables, made for the block; whatever has not been swapped in is dropped
    after it.

    One rebuild at a time: it takes any other's tables for those of one that was killed.
    """
    async with alone(views.engine, "rebuild"):
        try:
            for build in builds:
                async with writing(views.engine) as connection:
                    await connection.run_sync(_drop_left_over, build.projection)
                    await connection.run_sync(build.tables.metadata.create_all)
            yield
        finally:
            for build in builds:
                async with writing(views.engine) as connection:
                    await connection.run_sync(build.tables.metadata.drop_all)


def _rename(connection: SyncConnection, projection: Projection, mark: str) -> None:
    quote = connection.dialect.identifier_preparer.quote
    for table in reversed(projection.tables.sorted_tables):
        table.drop(connection, checkfirst=True)
    for table in projection.tables.sorted_tables:
        old, new = quote(table.name + mark), quote(table.name)
        connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))
        if connection.dialect.name == "postgresql":
            # Else its planner knows nothing of them for a minute, and a list may take as long.
            connection.execute(text(f"ANALYZE {new}"))


def _drop_left_over(connection: SyncConnection, projection: Projection) -> None:
    """Drop the tables of a rebuild that was killed."""
    quote = connection.dialect.identifier_preparer.quote
    stems = tuple(f"{table.name}{MARK}" for table in projection.tables.sorted_tables)
    # A text index goes before the tables that SQLite keeps behind it, and takes them along.
    for name in sorted(inspect(connection).get_table_names()):
        if name.startswith(stems):
            connection.execute(text(f"DROP TABLE IF EXISTS {quote(name)}"))
