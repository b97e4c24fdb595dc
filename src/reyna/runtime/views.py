"""The views' database: checkpoints, what was set aside, and reading at a known position.

A checkpoint stands in the same transaction as the rows it vouches for and moves by compare-and-set,
so each event counts exactly once, whoever applies it and whatever crashes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    select,
    text,
    update,
)
from sqlalchemy import Connection as SyncConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from reyna.commands import idempotency
from reyna.content import Projection
from reyna.database import reading, take_turn, writing
from reyna.errors import DatabaseUnavailable, ReynaError, SetupError, ViewBehind
from reyna.identity import accounts
from reyna.ids import now

POLL = 0.05

metadata = MetaData()
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("projection", String(64), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("epoch", String(64), nullable=False),
    Column("position", BigInteger, nullable=False),
)
aside = Table(
    "set_aside",
    metadata,
    Column("projection", String(64), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("at", String(32), nullable=False),
)


class CheckpointMoved(ReynaError):
    """Somebody else has moved the checkpoint: what was about to be applied is theirs, or
    replaced.
    """


class Checkpoint(msgspec.Struct, frozen=True):
    """How far a projection has come: everything up to and including `position` is in its tables."""

    projection: str
    version: int
    epoch: str
    position: int


class Views:
    """The database of all views."""

    def __init__(self, engine: AsyncEngine, epoch: str, wait_timeout: float = 5.0) -> None:
        self.engine = engine
        self.epoch = epoch
        self.wait_timeout = wait_timeout
        self._moved = asyncio.Event()
        self._wanted = asyncio.Event()
        self._looking: dict[str, asyncio.Task[Checkpoint | None]] = {}

    async def prepare(self, projections: Sequence[Projection]) -> list[Projection]:
        """Make what is missing. Answers the projections whose tables must be rebuilt.

        That is the case when their version has changed, or the log they were folded from. One
        without a checkpoint begins anew: what stands under its tables' names, of an older program,
        is dropped. Raises SetupError when the database cannot be used, or a name is taken.
        """
        _check_names(projections)
        try:
            return await self._prepare(projections)
        except DatabaseUnavailable as error:
            raise SetupError(
                f"The views cannot be opened. {error.detail}. Views are rebuilt from the log: a "
                "damaged file of theirs may be deleted."
            ) from error

    async def _prepare(self, projections: Sequence[Projection]) -> list[Projection]:
        outdated: list[Projection] = []
        async with writing(self.engine) as connection:
            await take_turn(connection, "prepare")
            await connection.run_sync(metadata.create_all)
            known = {row.projection: row for row in await connection.execute(select(checkpoints))}
            for projection in projections:
                row = known.get(projection.name)
                if row is None:
                    await connection.run_sync(_make_anew, projection)
                    await connection.execute(
                        checkpoints.insert().values(
                            projection=projection.name,
                            version=projection.version,
                            epoch=self.epoch,
                            position=0,
                        )
                    )
                elif row.version != projection.version or row.epoch != self.epoch:
                    outdated.append(projection)
        return outdated

    async def checkpoint(self, projection: str) -> Checkpoint | None:
        """A projection's checkpoint, None if it has none yet."""
        async with reading(self.engine) as connection:
            return await read_checkpoint(connection, projection)

    @asynccontextmanager
    async def read(self, projection: Projection, minimum: int = 0) -> AsyncIterator[ReadView]:
        """The view of `projection`, once it has reached `minimum`, at one moment.

        Raises ViewBehind when it does not get there in `wait_timeout` seconds, or is being rebuilt.
        """
        if minimum:
            await self.reached(projection, minimum)
        async with reading(self.engine) as connection:
            found = await read_checkpoint(connection, projection.name)
            if found is None or not self.serves(projection, found):
                raise ViewBehind(f"The view {projection.name} is being rebuilt; try again soon.")
            yield ReadView(connection, found.position)

    async def reached(self, projection: Projection, minimum: int) -> None:
        """Return when the view has applied the event `minimum`. Raises ViewBehind after the
        timeout.
        """
        try:
            async with asyncio.timeout(self.wait_timeout):
                while True:
                    moved = self._moved
                    found = await self._look(projection.name)
                    if found and self.serves(projection, found) and found.position >= minimum:
                        return
                    self._wanted.set()
                    await _wait(moved)
        except TimeoutError as error:
            raise ViewBehind(
                f"The view {projection.name} has not reached {minimum} yet; try again."
            ) from error

    async def _look(self, projection: str) -> Checkpoint | None:
        """The checkpoint, read once for all who wait for it at the same time."""
        looking = self._looking.get(projection)
        if looking is None:
            looking = asyncio.create_task(self.checkpoint(projection), name="look at a view")
            self._looking[projection] = looking
            looking.add_done_callback(lambda _: self._looking.pop(projection, None))
        return await asyncio.shield(looking)

    def moved(self) -> None:
        """Wake those who wait for a position."""
        self._wanted.clear()
        self._moved.set()
        self._moved = asyncio.Event()

    async def wanted(self, patience: float) -> None:
        """Return when somebody here waits for a position, or else after `patience` seconds."""
        try:
            async with asyncio.timeout(patience):
                await self._wanted.wait()
        except TimeoutError:
            return

    def serves(self, projection: Projection, found: Checkpoint) -> bool:
        """Whether the tables behind a checkpoint are of this version and this log."""
        return found.version == projection.version and found.epoch == self.epoch


class ReadView(msgspec.Struct, frozen=True):
    """A read transaction on a view, and the seq that its rows are of."""

    connection: AsyncConnection
    position: int


def _check_names(projections: Sequence[Projection]) -> None:
    """Raise SetupError if a projection would have a table or an index that another has."""
    studios = (metadata, accounts.metadata, idempotency.metadata)
    taken = {name: "the studio" for one in studios for name in _names(one)}
    for projection in projections:
        for name in _names(projection.tables):
            if name in taken:
                raise SetupError(
                    f"The view {projection.name} has a table or an index {name}, as {taken[name]} "
                    "has; one of them needs another name."
                )
            taken[name] = f"the view {projection.name}"


def _names(declared: MetaData) -> Iterator[str]:
    for table in declared.sorted_tables:
        yield str(table.name)
        yield from (str(index.name) for index in table.indexes)


def _make_anew(connection: SyncConnection, projection: Projection) -> None:
    """Make a projection's tables where other ones, and their indexes, may stand."""
    quote = connection.dialect.identifier_preparer.quote
    for table in reversed(projection.tables.sorted_tables):
        table.drop(connection, checkfirst=True)
        for index in table.indexes:
            connection.execute(text(f"DROP INDEX IF EXISTS {quote(str(index.name))}"))
    projection.tables.create_all(connection)


async def read_checkpoint(
    connection: AsyncConnection, projection: str, *, hold: bool = False
) -> Checkpoint | None:
    """A projection's checkpoint as this transaction sees it; with `hold` it stays so to its end."""
    query = select(checkpoints).where(checkpoints.c.projection == projection)
    if hold:
        query = query.with_for_update()
    row = (await connection.execute(query)).first()
    if row is None:
        return None
    return Checkpoint(row.projection, row.version, row.epoch, row.position)


async def move_checkpoint(connection: AsyncConnection, at: Checkpoint, to: int) -> None:
    """Move a checkpoint from where it was read. Raises CheckpointMoved if it is no longer there."""
    result = await connection.execute(
        update(checkpoints)
        .where(
            checkpoints.c.projection == at.projection,
            checkpoints.c.version == at.version,
            checkpoints.c.epoch == at.epoch,
            checkpoints.c.position == at.position,
        )
        .values(position=to)
    )
    if result.rowcount != 1:
        raise CheckpointMoved(f"The checkpoint of {at.projection} is no longer at {at.position}.")


async def set_aside(
    connection: AsyncConnection, projection: str, seq: int, subject: str, error: str
) -> None:
    """Remember a record that a projection could not apply."""
    await connection.execute(
        delete(aside).where(aside.c.projection == projection, aside.c.seq == seq)
    )
    await connection.execute(
        aside.insert().values(
            projection=projection, seq=seq, subject=subject, error=error[:2000], at=now()
        )
    )


async def _wait(moved: asyncio.Event) -> None:
    # Woken by a projector in this process; another process's progress is seen by polling.
    try:
        async with asyncio.timeout(POLL):
            await moved.wait()
    except TimeoutError:
        return
