"""The view of processors and of users' instances of them.

Owns GET processors, processors/{processor_id} and processors/{processor_id}/instance. What a
processor does is seen in `projections.runs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from litestar import get
from litestar.params import FromPath
from litestar.response import Response
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    MetaData,
    RowMapping,
    String,
    Table,
    Text,
    select,
)

from reyna.api.processors import (
    Processor,
    ProcessorInstance,
    ProcessorPage,
    instance_answer,
    status_of,
)
from reyna.api.views import DEFAULT_LIMIT, Cursor, Limit, View, decode_cursor, encode_cursor
from reyna.content import Projection, Tx
from reyna.domain.instance import NO_SETTINGS, ProcessorInstanceChanged
from reyna.domain.processor import ProcessorRegistered
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
    Column("also_reads", Text, nullable=False),
    Column("output_schema_id", String(80), nullable=False),
    Column("subscribe_events", Text, nullable=False),
    Column("settings_schema", Text, nullable=False),
    Column("default_active", Boolean, nullable=False),
    Column("registered_at", String(32), nullable=False),
)
instances = Table(
    "processor_instances",
    metadata,
    Column("user_id", String(64), primary_key=True),
    Column("processor_id", String(64), primary_key=True),
    Column("active", Boolean, nullable=False),
    Column("settings", Text, nullable=False),
    Column("secrets", Text, nullable=False),
    Column("rerun_on_update", Boolean, nullable=False),
    Column("seq", BigInteger, nullable=False),
)

_STRINGS = msgspec.json.Decoder(list[str])
_Id = Annotated[str, msgspec.Meta(pattern=ID_PATTERN)]
Row = dict[str, object]


class Processors(Projection):
    """Folds registrations and what users set up. Secrets are no part of it, only their places."""

    name = "processors"
    version = 2
    kinds = frozenset({"processor"})
    tables = metadata

    async def apply(self, tx: Tx, records: Sequence[Record]) -> None:
        """Fold a batch: the last event of each decides."""
        registered: dict[str, Row] = {}
        changed: dict[tuple[str, str], Row] = {}
        for record in records:
            match record.event:
                case ProcessorRegistered() as event if record.owner == SYSTEM:
                    registered[record.entity_id] = _processor_row(record, event)
                case ProcessorInstanceChanged() as event:
                    changed[record.owner, record.entity_id] = _instance_row(record, event)
        await tx.upsert(processors, list(registered.values()))
        await tx.upsert(instances, list(changed.values()))


def _processor_row(record: Record, event: ProcessorRegistered) -> Row:
    return {
        "processor_id": record.entity_id,
        "name": event.name,
        "description": event.description,
        "version": event.version,
        "input_schema_id": event.input_schema_id,
        "also_reads": _text(event.also_reads),
        "output_schema_id": event.output_schema_id,
        "subscribe_events": _text(event.subscribe_events),
        "settings_schema": bytes(event.settings_schema).decode(),
        "default_active": event.default_active,
        "registered_at": record.time,
    }


def _instance_row(record: Record, event: ProcessorInstanceChanged) -> Row:
    return {
        "user_id": record.owner,
        "processor_id": record.entity_id,
        "active": event.active,
        "settings": bytes(event.settings).decode(),
        "secrets": _text(sorted(event.secrets)),
        "rerun_on_update": event.rerun_on_update,
        "seq": record.seq,
    }


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


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


@get("/processors/{processor_id:str}/instance", tags=["processors"])
async def get_instance(view: View, processor_id: FromPath[str]) -> Response[ProcessorInstance]:
    """The caller's settings of a processor, without the secrets."""
    processor = await _registered(view, processor_id)
    query = select(instances).where(
        instances.c.user_id == view.user_id, instances.c.processor_id == processor_id
    )
    rows = await view.rows(query)
    if not rows:
        return instance_answer(
            processor_id,
            NO_SETTINGS,
            [],
            0,
            active=processor["default_active"],
            rerun_on_update=False,
        )
    (row,) = rows
    return instance_answer(
        processor_id,
        msgspec.Raw(row["settings"].encode()),
        _STRINGS.decode(row["secrets"]),
        row["seq"],
        active=row["active"],
        rerun_on_update=row["rerun_on_update"],
    )


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
        also_reads=tuple(_STRINGS.decode(row["also_reads"])),
        output_schema_id=row["output_schema_id"],
        subscribe_events=tuple(_STRINGS.decode(row["subscribe_events"])),
        settings_schema=msgspec.Raw(row["settings_schema"].encode()),
        version=row["version"],
        status=status_of(readiness),
        last_seen_at=(readiness and readiness.last_seen_at) or row["registered_at"],
        advice=readiness.advice if readiness else None,
    )


Processors.routes = [list_processors, get_processor, get_instance]
projection = Processors()
