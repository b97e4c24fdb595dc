"""The view of processors and their runs, from the moment an event asks for a run.

Owns GET processors, processors/{processor_id}, processors/{processor_id}/runs and runs/{run_id}.
An event asks for a run by the rules that put it into the processor's queue: its type, its schema,
and that the processor was registered before. How a run is done belongs to `reyna.runtime.workers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import msgspec
from litestar import get
from litestar.params import FromPath, FromQuery
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    Text,
    select,
)

from reyna.api.views import DEFAULT_LIMIT, Cursor, Limit, View, decode_cursor, encode_cursor
from reyna.content import Projection, Tx
from reyna.domain.blob import BlobContent
from reyna.domain.processor import (
    ProcessorCompleted,
    ProcessorFailed,
    ProcessorRegistered,
    ProcessorStarted,
    RunEvent,
    run_id_of,
)
from reyna.domain.schema import SYSTEM
from reyna.errors import NotFound
from reyna.log.record import Record
from reyna.log.subjects import ID_PATTERN, token

metadata = MetaData()
processors = Table(
    "processors",
    metadata,
    Column("processor_id", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("input_schema_id", String(80), nullable=False),
    Column("output_schema_id", String(80), nullable=False),
    Column("subscribe_events", Text, nullable=False),
    Column("settings_schema", Text, nullable=False),
    Column("default_active", Boolean, nullable=False),
    Column("registered_at", String(32), nullable=False),
)
runs = Table(
    "runs",
    metadata,
    Column("run_id", String(64), primary_key=True),
    Column("processor_id", String(64), nullable=False),
    Column("user_id", String(64), nullable=False),
    Column("blob_id", String(64), nullable=False),
    Column("bucket_ids", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Text),
    Column("derived_id", String(64)),
    Column("tokens_in", Integer),
    Column("tokens_out", Integer),
    Column("seconds", Float),
    Column("created_at", String(32), nullable=False),
    Column("started_at", String(32)),
    Column("finished_at", String(32)),
    Column("first_seq", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Index("runs_by_processor", "user_id", "processor_id", "first_seq"),
)

IDS = 1000
"""Ids in one query: databases take no more than some 32,000 parameters."""

FINISHED = frozenset({"completed", "failed", "cancelled"})

_ENCODE = msgspec.json.Encoder().encode
_STRINGS = msgspec.json.Decoder(tuple[str, ...])
_Id = Annotated[str, msgspec.Meta(pattern=ID_PATTERN)]
_Seq = Annotated[int, msgspec.Meta(ge=0, lt=2**63 - 1)]
Row = dict[str, object]
_NOTHING_YET: Row = {
    "error": None,
    "derived_id": None,
    "tokens_in": None,
    "tokens_out": None,
    "seconds": None,
    "finished_at": None,
}
Status = Literal["queued", "running", "completed", "failed", "cancelled"]
Health = Literal["healthy", "degraded", "down"]


class Processor(msgspec.Struct, frozen=True, kw_only=True):
    """A registered processor. `advice` is for its operator, and may be there when it is healthy."""

    processor_id: str
    name: str
    description: str
    input_schema_id: str
    output_schema_id: str
    subscribe_events: tuple[str, ...]
    settings_schema: object
    version: str
    status: Health
    last_seen_at: str | None
    advice: str | None


class ProcessorPage(msgspec.Struct, frozen=True):
    """One page of processors."""

    items: list[Processor]
    next_cursor: str | None


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A processor's work on one event of the blob `blob_id`.

    `started_at` is the last attempt's; `seconds` is the provider's time; `detail` says what a
    queued run waits for.
    """

    run_id: str
    processor_id: str
    user_id: str
    blob_id: str
    bucket_ids: tuple[str, ...]
    status: Status
    attempts: int
    error: str | None
    derived_id: str | None
    tokens_in: int | None
    tokens_out: int | None
    cost: float | None
    seconds: float | None
    detail: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    seq: int


class RunPage(msgspec.Struct, frozen=True):
    """One page of runs."""

    items: list[Run]
    next_cursor: str | None


class Subscription(msgspec.Struct, frozen=True):
    """The events that a processor takes: of these types, with this schema, if it is on at all."""

    types: tuple[str, ...]
    schema_id: str
    active: bool

    def takes(self, record: Record, event: BlobContent) -> bool:
        """Whether an event asks for a run."""
        return self.active and event.schema_id == self.schema_id and record.type in self.types


class Runs(Projection):
    """Folds registrations, the events processors subscribe to, and what runs say of themselves."""

    name = "runs"
    version = 1
    kinds = frozenset({"processor", "blob"})
    tables = metadata

    async def apply(self, tx: Tx, records: Sequence[Record]) -> None:
        """Fold a batch: each row it touches is read and written once, as the batch leaves it."""
        subscriptions = await _load_subscriptions(tx)
        registered: dict[str, Row] = {}
        rows: dict[str, Row] = {}
        heard: list[Record] = []
        for record in records:
            match record.event:
                case BlobContent() as event:
                    _ask(rows, record, event, subscriptions)
                case RunEvent():
                    heard.append(record)
                case ProcessorRegistered() as event if record.owner == SYSTEM:
                    registered[record.entity_id] = _processor_row(record, event)
                    subscriptions[record.entity_id] = Subscription(
                        event.subscribe_events, event.input_schema_id, event.default_active
                    )
        rows |= await _load_runs(tx, {record.entity_id for record in heard} - rows.keys())
        for record in heard:
            _fold(rows, record)
        await tx.upsert(processors, list(registered.values()))
        await tx.upsert(runs, list(rows.values()))


async def _load_subscriptions(tx: Tx) -> dict[str, Subscription]:
    found = await tx.execute(select(tx[processors]))
    return {
        row["processor_id"]: Subscription(
            _STRINGS.decode(row["subscribe_events"]), row["input_schema_id"], row["default_active"]
        )
        for row in found.mappings()
    }


async def _load_runs(tx: Tx, run_ids: Iterable[str]) -> dict[str, Row]:
    table = tx[runs]
    wanted = sorted(run_ids)
    rows: dict[str, Row] = {}
    for start in range(0, len(wanted), IDS):
        some = wanted[start : start + IDS]
        found = await tx.execute(select(table).where(table.c.run_id.in_(some)))
        rows |= {row["run_id"]: dict(row) for row in found.mappings()}
    return rows


def _ask(
    rows: dict[str, Row],
    record: Record,
    event: BlobContent,
    subscriptions: dict[str, Subscription],
) -> None:
    """Queue the runs that an event asks for."""
    for processor_id, subscription in subscriptions.items():
        if subscription.takes(record, event):
            run_id = run_id_of(processor_id, record.meta.id)
            rows[run_id] = _run_row(
                record, run_id, processor_id, record.entity_id, event.bucket_ids
            )


def _fold(rows: dict[str, Row], record: Record) -> None:
    event = record.event
    assert isinstance(event, RunEvent)
    row = rows.get(record.entity_id)
    if row is None:
        # Nobody's event asked for it: a person did, or a processor that is off for most.
        row = rows[record.entity_id] = _run_row(
            record, record.entity_id, event.processor_id, event.blob_id, event.bucket_ids
        )
    row["seq"] = record.seq
    if isinstance(event, ProcessorStarted):
        row |= _NOTHING_YET | {
            "status": "running",
            "attempts": event.attempt,
            "started_at": record.time,
        }
    elif row["status"] in FINISHED:
        # What is done stays done, whatever a worker that was given up for lost says later.
        return
    elif isinstance(event, ProcessorCompleted):
        row |= {
            "status": "completed",
            "attempts": event.attempts,
            "derived_id": event.derived_id,
            "tokens_in": event.tokens_in,
            "tokens_out": event.tokens_out,
            "seconds": event.seconds,
            "finished_at": record.time,
        }
    elif isinstance(event, ProcessorFailed):
        row |= {
            "status": "failed",
            "attempts": event.attempts,
            "error": event.error,
            "finished_at": record.time,
        }


def _run_row(
    record: Record, run_id: str, processor_id: str, blob_id: str, bucket_ids: tuple[str, ...]
) -> Row:
    """A run that waits for its turn."""
    return {
        "run_id": run_id,
        "processor_id": processor_id,
        "user_id": record.owner,
        "blob_id": blob_id,
        "bucket_ids": _ENCODE(bucket_ids).decode(),
        "status": "queued",
        "attempts": 0,
        "created_at": record.time,
        "started_at": None,
        "first_seq": record.seq,
        "seq": record.seq,
        **_NOTHING_YET,
    }


def _processor_row(record: Record, event: ProcessorRegistered) -> Row:
    return {
        "processor_id": record.entity_id,
        "name": event.name,
        "description": event.description,
        "version": event.version,
        "input_schema_id": event.input_schema_id,
        "output_schema_id": event.output_schema_id,
        "subscribe_events": _ENCODE(event.subscribe_events).decode(),
        "settings_schema": bytes(event.settings_schema).decode(),
        "default_active": event.default_active,
        "registered_at": record.time,
    }


@get("/processors", tags=["processors"])
async def list_processors(
    view: View, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> ProcessorPage:
    """All registered processors, by id."""
    query = select(processors).order_by(processors.c.processor_id).limit(limit + 1)
    if cursor is not None:
        (last,) = decode_cursor(cursor, tuple[_Id])
        query = query.where(processors.c.processor_id > last)
    rows = await view.rows(query)
    page = rows[:limit]
    more = encode_cursor(page[-1]["processor_id"]) if len(rows) > limit else None
    return ProcessorPage([_processor(view, row) for row in page], more)


@get("/processors/{processor_id:str}", tags=["processors"])
async def get_processor(view: View, processor_id: FromPath[str]) -> Processor:
    """One processor."""
    return _processor(view, await _registered(view, processor_id))


@get("/processors/{processor_id:str}/runs", tags=["processors"])
async def list_runs(
    view: View,
    processor_id: FromPath[str],
    status: FromQuery[Status | None] = None,
    blob_id: FromQuery[str | None] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> RunPage:
    """The caller's runs of one processor, newest first."""
    await _registered(view, processor_id)
    query = select(runs).where(runs.c.user_id == view.user_id, runs.c.processor_id == processor_id)
    if status is not None:
        query = query.where(runs.c.status == status)
    if blob_id is not None:
        query = query.where(runs.c.blob_id == token(blob_id))
    if cursor is not None:
        (last,) = decode_cursor(cursor, tuple[_Seq])
        query = query.where(runs.c.first_seq < last)
    rows = await view.rows(query.order_by(runs.c.first_seq.desc()).limit(limit + 1))
    page = rows[:limit]
    more = encode_cursor(page[-1]["first_seq"]) if len(rows) > limit else None
    return RunPage([_run(view, row) for row in page], more)


@get("/runs/{run_id:str}", tags=["processors"])
async def get_run(view: View, run_id: FromPath[str]) -> Run:
    """One run."""
    query = select(runs).where(runs.c.run_id == token(run_id), runs.c.user_id == view.user_id)
    rows = await view.rows(query)
    if not rows:
        raise NotFound(f"There is no run {run_id}.")
    return _run(view, rows[0])


async def _registered(view: View, processor_id: str) -> RowMapping:
    rows = await view.rows(
        select(processors).where(processors.c.processor_id == token(processor_id))
    )
    if not rows:
        raise NotFound(f"There is no processor {processor_id}.")
    return rows[0]


def _processor(view: View, row: RowMapping) -> Processor:
    readiness = view.readiness(row["processor_id"])
    return Processor(
        processor_id=row["processor_id"],
        name=row["name"],
        description=row["description"],
        input_schema_id=row["input_schema_id"],
        output_schema_id=row["output_schema_id"],
        subscribe_events=_STRINGS.decode(row["subscribe_events"]),
        settings_schema=msgspec.Raw(row["settings_schema"].encode()),
        version=row["version"],
        status="healthy" if readiness and readiness.ready else "down",
        last_seen_at=row["registered_at"],
        advice=readiness.advice if readiness else None,
    )


def _run(view: View, row: RowMapping) -> Run:
    readiness = view.readiness(row["processor_id"]) if row["status"] == "queued" else None
    return Run(
        run_id=row["run_id"],
        processor_id=row["processor_id"],
        user_id=row["user_id"],
        blob_id=row["blob_id"],
        bucket_ids=_STRINGS.decode(row["bucket_ids"]),
        status=row["status"],
        attempts=row["attempts"],
        error=row["error"],
        derived_id=row["derived_id"],
        tokens_in=row["tokens_in"],
        tokens_out=row["tokens_out"],
        cost=None,
        seconds=row["seconds"],
        detail=readiness.advice if readiness and not readiness.ready else None,
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        seq=row["seq"],
    )


Runs.routes = [list_processors, get_processor, list_runs, get_run]
projection = Runs()
