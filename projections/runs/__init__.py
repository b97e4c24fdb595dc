"""The view of runs, from the moment an event or a person asks for one.

Owns GET processors/{processor_id}/runs, processors/{processor_id}/health and runs/{run_id}. An
event asks for a run by the rules of `reyna.domain.instance`. How a run is done belongs to
`reyna.runtime.attempt`.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from projections.runs import routes, tables
from projections.runs.fold import Batch
from reyna.content import Asked, Projection, Tx
from reyna.domain.blob import BlobContent
from reyna.domain.instance import ProcessorInstanceChanged
from reyna.domain.processor import ProcessorRegistered, RunEvent
from reyna.domain.schema import SYSTEM
from reyna.log.record import Record


class Runs(Projection):
    """Folds what asks for runs, and what runs say of themselves."""

    name = "runs"
    version = 3
    kinds = frozenset({"processor", "blob"})
    tables = tables.metadata
    routes = (routes.list_runs, routes.get_run, routes.get_health)

    async def apply(self, tx: Tx, records: Sequence[Record]) -> None:
        """Fold a batch: each row it touches is read and written once, as the batch leaves it."""
        batch = await Batch.load(tx, records)
        for record in records:
            match record.event:
                case BlobContent() as event:
                    batch.ask(record, event)
                case RunEvent() as event:
                    batch.tell(record, event)
                case ProcessorInstanceChanged() as event:
                    await batch.set_up(record, event)
                case ProcessorRegistered() as event if record.owner == SYSTEM:
                    batch.subscribe(record, event)
        await batch.write()

    async def asked(self, connection: AsyncConnection, user_id: str, run_id: str) -> Asked | None:
        """What asked for a user's run (`reyna.content.RunIndex`)."""
        runs = tables.runs
        query = select(runs.c.processor_id, runs.c.source_seq).where(
            runs.c.run_id == run_id, runs.c.user_id == user_id
        )
        row = (await connection.execute(query)).first()
        return None if row is None else Asked(row.processor_id, row.source_seq)


projection = Runs()
