"""The fold of the view of runs: what each event makes of the rows, a batch at a time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Self

import msgspec
from sqlalchemy import RowMapping, Table, delete, select

from projections.runs.tables import instances, runs, subscriptions
from reyna.content import Tx
from reyna.domain.blob import BlobContent
from reyna.domain.instance import Instance, ProcessorInstanceChanged, asks
from reyna.domain.processor import (
    BackfillRequested,
    ProcessorCompleted,
    ProcessorFailed,
    ProcessorRegistered,
    ProcessorRequested,
    ProcessorStarted,
    RunEvent,
    RunRequest,
    run_id_of,
)
from reyna.log.record import Record

IDS = 1000
"""Ids in one query: databases take no more than some 32,000 parameters."""

_ENCODE = msgspec.json.Encoder().encode
_STRINGS = msgspec.json.Decoder(tuple[str, ...])
Row = dict[str, object]
_NOTHING_YET: Row = {
    "error": None,
    "permanent": None,
    "derived_id": None,
    "tokens_in": None,
    "tokens_out": None,
    "cost": None,
    "seconds": None,
    "finished_at": None,
}


class Subscription(msgspec.Struct, frozen=True):
    """The events that a processor takes: of these types, with one of these schemas."""

    types: tuple[str, ...]
    schema_ids: tuple[str, ...]
    default_active: bool


class Batch:
    """The rows that a batch of events touches."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self._rows: dict[str, Row] = {}
        self._instances: dict[tuple[str, str], Instance] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._changed: dict[tuple[str, str], Row] = {}
        self._registered: dict[str, Row] = {}

    @classmethod
    async def load(cls, tx: Tx, records: Sequence[Record]) -> Self:
        """What the batch will touch, as it is now."""
        self = cls(tx)
        for row in (await tx.execute(select(tx[subscriptions]))).mappings():
            self._subscriptions[row["processor_id"]] = Subscription(
                _STRINGS.decode(row["types"]),
                _STRINGS.decode(row["schema_ids"]),
                row["default_active"],
            )
        told = {record.entity_id for record in records if isinstance(record.event, RunEvent)}
        for row in await self._find(runs, "run_id", told):
            self._rows[row["run_id"]] = dict(row)
        owners = {record.owner for record in records if isinstance(record.event, BlobContent)}
        for row in await self._find(instances, "user_id", owners):
            self._instances[row["user_id"], row["processor_id"]] = Instance(
                active=row["active"], rerun_on_update=row["rerun_on_update"]
            )
        return self

    def subscribe(self, record: Record, event: ProcessorRegistered) -> None:
        """A processor was registered."""
        self._subscriptions[record.entity_id] = Subscription(
            event.subscribe_events, event.reads, event.default_active
        )
        self._registered[record.entity_id] = {
            "processor_id": record.entity_id,
            "schema_ids": _ENCODE(event.reads).decode(),
            "types": _ENCODE(event.subscribe_events).decode(),
            "default_active": event.default_active,
        }

    async def set_up(self, record: Record, event: ProcessorInstanceChanged) -> None:
        """An instance changed; one that is off takes back what events have asked for and nothing
        has been done about.
        """
        key = (record.owner, record.entity_id)
        self._instances[key] = Instance(active=event.active, rerun_on_update=event.rerun_on_update)
        self._changed[key] = {
            "user_id": record.owner,
            "processor_id": record.entity_id,
            "active": event.active,
            "rerun_on_update": event.rerun_on_update,
        }
        if not event.active:
            await self._take_back(record.owner, record.entity_id)

    def ask(self, record: Record, event: BlobContent) -> None:
        """Queue the runs that an event asks for."""
        for processor_id, subscription in self._subscriptions.items():
            instance = self._instances.get((record.owner, processor_id)) or Instance(
                active=subscription.default_active
            )
            if asks(instance, subscription.types, subscription.schema_ids, record.type, event):
                run_id = run_id_of(processor_id, record.meta.id)
                self._rows[run_id] = _queued(
                    record, run_id, processor_id, record.entity_id, event.bucket_ids
                )

    def tell(self, record: Record, event: RunEvent) -> None:
        """Take in what a run says."""
        row = self._rows.get(record.entity_id)
        if row is None:
            # No event asked for it: a person did, or an instance that was switched off since.
            row = self._rows[record.entity_id] = _queued(
                record, record.entity_id, event.processor_id, event.blob_id, event.bucket_ids
            )
        row["seq"] = record.seq
        # What is done stays done, whatever a worker that was given up for lost says later; but a
        # cancellation may come too late.
        done = row["status"] in {"completed", "failed"}
        row |= _change(record, event, done=done)

    async def write(self) -> None:
        """Write what has changed."""
        await self._tx.upsert(subscriptions, list(self._registered.values()))
        await self._tx.upsert(instances, list(self._changed.values()))
        await self._tx.upsert(runs, list(self._rows.values()))

    async def _take_back(self, owner: str, processor_id: str) -> None:
        table = self._tx[runs]
        wanted = {
            "user_id": owner,
            "processor_id": processor_id,
            "status": "queued",
            "requested": False,
        }
        await self._tx.execute(
            delete(table).where(*(table.c[name] == value for name, value in wanted.items()))
        )
        self._rows = {
            run_id: row
            for run_id, row in self._rows.items()
            if any(row[name] != value for name, value in wanted.items())
        }

    async def _find(
        self, declared: Table, column: str, values: Collection[str]
    ) -> list[RowMapping]:
        table = self._tx[declared]
        ordered = sorted(values)
        found: list[RowMapping] = []
        for start in range(0, len(ordered), IDS):
            query = select(table).where(table.c[column].in_(ordered[start : start + IDS]))
            found += (await self._tx.execute(query)).mappings()
        return found


def _change(record: Record, event: RunEvent, *, done: bool) -> Row:
    """The columns that an event of a run sets."""
    match event:
        case RunRequest():
            return _NOTHING_YET | _asked(record, event)
        case ProcessorStarted():
            started: Row = {
                "status": "running",
                "attempts": event.attempt,
                "started_at": record.time,
                "total": event.total,
            }
            return _NOTHING_YET | started
        case _ if done:
            return {}
        case ProcessorCompleted():
            return {
                "status": "completed",
                "attempts": event.attempts,
                "derived_id": event.derived_id,
                "tokens_in": event.tokens_in,
                "tokens_out": event.tokens_out,
                "cost": event.cost,
                "seconds": event.seconds,
                "finished_at": record.time,
            }
        case ProcessorFailed():
            return {
                "status": "failed",
                "attempts": event.attempts,
                "error": event.error,
                "permanent": event.permanent,
                "finished_at": record.time,
            }
    return {"status": "cancelled", "finished_at": record.time}


def _asked(record: Record, event: RunRequest) -> Row:
    return {
        "status": "queued",
        "requested": True,
        "attempts": 0,
        "started_at": None,
        "source_seq": record.seq,
        "backfill_id": event.backfill_id if isinstance(event, ProcessorRequested) else None,
        "is_backfill": isinstance(event, BackfillRequested),
    }


def _queued(
    record: Record,
    run_id: str,
    processor_id: str,
    blob_id: str | None,
    bucket_ids: tuple[str, ...],
) -> Row:
    """A run that waits for its turn."""
    return {
        "run_id": run_id,
        "processor_id": processor_id,
        "user_id": record.owner,
        "blob_id": blob_id,
        "bucket_ids": _ENCODE(bucket_ids).decode(),
        "status": "queued",
        "requested": False,
        "attempts": 0,
        "backfill_id": None,
        "is_backfill": False,
        "total": None,
        "source_seq": record.seq,
        "created_at": record.time,
        "started_at": None,
        "first_seq": record.seq,
        "seq": record.seq,
        **_NOTHING_YET,
    }
