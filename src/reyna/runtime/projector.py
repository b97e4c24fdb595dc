"""The projector: follows the log and keeps every view up to date. Owns batches and what is set
aside.

One reader feeds all projections, each from its own checkpoint on. A batch's rows and checkpoints
are one transaction. When a projection cannot apply a batch it is applied record by record, and the
record that is to blame is set aside with its error, so that it stops neither the rest nor the
others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from reyna.content import Projection, Tables, Tx
from reyna.database import writing
from reyna.errors import DatabaseUnavailable
from reyna.log import subjects
from reyna.log.connection import Connection
from reyna.log.follow import Follower
from reyna.log.record import Record, Stored, decode
from reyna.runtime.views import (
    Checkpoint,
    CheckpointMoved,
    Views,
    move_checkpoint,
    set_aside,
)

logger = logging.getLogger(__name__)

MAX_BACKOFF = 5.0
# Seconds between two transactions of a projector that has caught up, unless a reader waits: one
# costs much the same for one event as for twenty. After a quiet moment no event is kept waiting.
GATHER = 0.02
# Seconds between two looks for a view that was rebuilt.
WATCH = 1.0


class Projector:
    """Keeps the live tables of some projections up to date."""

    def __init__(
        self, connection: Connection, views: Views, projections: Sequence[Projection]
    ) -> None:
        self._connection = connection
        self._views = views
        self._projections = {projection.name: projection for projection in projections}
        self._tables = {p.name: Tables(p.tables) for p in projections}
        self._checkpoints: dict[str, Checkpoint] = {}
        self._kinds = frozenset().union(*(p.kinds for p in projections))
        self.caught_up = asyncio.Event()
        self.trouble: str | None = None

    async def run(self) -> None:
        """Follow the log for ever. A lost log or database is waited for."""
        backoff = 0.1
        while True:
            if self.trouble is None:
                backoff = 0.1
            try:
                async with asyncio.TaskGroup() as tasks:
                    await self._load()
                    tasks.create_task(self._follow(), name="projector")
                    tasks.create_task(self._watch(), name="projector's watch")
            except* CheckpointMoved as moved:
                logger.info("%s Following again from where it stands now.", moved.exceptions[0])
                await asyncio.sleep(0.05)
            except* DatabaseUnavailable as lost:
                self.trouble = str(lost.exceptions[0])
                logger.warning("projector waits for the database: %s", self.trouble)
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, MAX_BACKOFF)

    async def _watch(self) -> None:
        """Notice a view that was rebuilt, here or by `reyna replay`, also when no event comes."""
        while True:
            await asyncio.sleep(WATCH)
            ours = dict(self._checkpoints)
            for projection in self._projections.values():
                found = await self._views.checkpoint(projection.name)
                if found is None or not self._views.serves(projection, found):
                    continue
                known = ours.get(projection.name)
                if known is None or found.position < known.position:
                    raise CheckpointMoved(f"The view {projection.name} was rebuilt.")

    async def _load(self) -> None:
        self._checkpoints = {}
        for projection in self._projections.values():
            found = await self._views.checkpoint(projection.name)
            # One that waits for its rebuild is none of ours until it has been swapped in.
            if found and self._views.serves(projection, found):
                self._checkpoints[projection.name] = found

    async def _follow(self) -> None:
        start = min((c.position for c in self._checkpoints.values()), default=0)
        batches = Follower(self._connection, [subjects.ALL], start).batches()
        taken = 0.0
        try:
            async for batch in batches:
                if batch.messages:
                    quiet = asyncio.get_running_loop().time() - taken
                    if not batch.pending and quiet < GATHER:
                        await self._views.wanted(GATHER - quiet)
                    await self._take(batch.messages)
                    self._views.moved()
                    taken = asyncio.get_running_loop().time()
                self.trouble = None
                if not batch.pending:
                    self.caught_up.set()
        finally:
            await batches.aclose()

    async def _take(self, messages: Sequence[Stored]) -> None:
        records = decode_wanted(messages, self._kinds)
        end = messages[-1].seq
        due = [c for c in self._checkpoints.values() if c.position < end]
        try:
            async with writing(self._views.engine) as connection:
                for checkpoint in due:
                    await self._apply(connection, checkpoint, records, end)
        except (CheckpointMoved, DatabaseUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 - a view may fail in any way; it is set aside
            logger.warning("a batch up to %d does not apply as a whole: %s", end, error)
            for checkpoint in due:
                await self._take_carefully(checkpoint, records, end)
        for checkpoint in due:
            self._checkpoints[checkpoint.projection] = at(checkpoint, end)

    async def _apply(
        self,
        connection: AsyncConnection,
        checkpoint: Checkpoint,
        records: Sequence[Record],
        end: int,
    ) -> None:
        projection = self._projections[checkpoint.projection]
        await move_checkpoint(connection, checkpoint, end)
        wanted = select_for(projection, records, checkpoint.position)
        if wanted:
            await projection.apply(Tx(connection, self._tables[projection.name]), wanted)

    async def _take_carefully(
        self, checkpoint: Checkpoint, records: Sequence[Record], end: int
    ) -> None:
        """Apply one record at a time; what does not apply is set aside."""
        projection = self._projections[checkpoint.projection]
        for record in select_for(projection, records, checkpoint.position):
            try:
                async with writing(self._views.engine) as connection:
                    await self._apply(connection, checkpoint, [record], record.seq)
            except (CheckpointMoved, DatabaseUnavailable):
                raise
            except Exception as error:  # noqa: BLE001 - a view may fail in any way
                logger.error("%s cannot apply %d: %s", projection.name, record.seq, error)
                async with writing(self._views.engine) as connection:
                    await move_checkpoint(connection, checkpoint, record.seq)
                    await set_aside(
                        connection, projection.name, record.seq, record.type, repr(error)
                    )
            checkpoint = at(checkpoint, record.seq)
        if checkpoint.position < end:
            async with writing(self._views.engine) as connection:
                await move_checkpoint(connection, checkpoint, end)


def decode_wanted(messages: Sequence[Stored], kinds: frozenset[str]) -> list[Record]:
    """The records of the kinds wanted; the others are not even decoded."""
    return [decode(m) for m in messages if m.subject.split(".", 3)[2] in kinds]


def select_for(projection: Projection, records: Sequence[Record], after: int) -> list[Record]:
    """What of `records` a projection wants and has not seen."""
    return [r for r in records if r.seq > after and r.subject.kind in projection.kinds]


def at(checkpoint: Checkpoint, position: int) -> Checkpoint:
    """The same checkpoint, further on."""
    return Checkpoint(checkpoint.projection, checkpoint.version, checkpoint.epoch, position)
