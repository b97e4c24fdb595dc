"""The view of schemas: every version with its status, and which processor works with which.

Owns GET schemas, GET schemas/{schema_id} and GET processors/{processor_id}/schemas. A caller sees
its own schemas and the system's; where both have an id, its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from litestar import get
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Response
from sqlalchemy import (
    Column,
    ColumnElement,
    Index,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    Text,
    and_,
    delete,
    or_,
    select,
    update,
)

from reyna.api.schemas import Schema
from reyna.api.views import DEFAULT_LIMIT, Cursor, Limit, View, decode_cursor, encode_cursor
from reyna.content import Projection, Tx
from reyna.domain.processor import ProcessorRegistered
from reyna.domain.schema import SYSTEM, SchemaRegistered, SchemaStatusChanged, Status
from reyna.errors import Malformed, NotFound
from reyna.log.record import Record
from reyna.log.subjects import schema_token, token

MAX_OF_PROCESSOR = 200

metadata = MetaData()
schemas = Table(
    "schemas",
    metadata,
    Column("user_id", String(64), primary_key=True),
    Column("schema_id", String(80), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("definition", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("compatibility", String(32), nullable=False),
    Column("description", Text, nullable=False),
    Column("examples", Text, nullable=False),
    Column("processor_id", String(64)),
    Column("created_at", String(32), nullable=False),
    Column("seq", Integer, nullable=False),
    Index("schemas_by_name", "user_id", "name", "version"),
)
used = Table(
    "schemas_of_processors",
    metadata,
    Column("processor_id", String(64), primary_key=True),
    Column("schema_id", String(80), primary_key=True),
)


class SchemaPage(msgspec.Struct, frozen=True):
    """One page of schemas."""

    items: list[Schema]
    next_cursor: str | None


class SchemaView(Projection):
    """Folds schema events, and from registrations of processors what they read and write."""

    name = "schemas"
    version = 2
    kinds = frozenset({"schema", "processor"})
    tables = metadata

    async def apply(self, tx: Tx, records: Sequence[Record]) -> None:
        """Fold a batch, one event after the other: they are few."""
        for record in records:
            match record.event:
                case SchemaRegistered() as event:
                    await tx.upsert(schemas, [_row(record, event)])
                case SchemaStatusChanged(status=status):
                    table = tx[schemas]
                    await tx.execute(
                        update(table)
                        .where(
                            table.c.user_id == record.owner,
                            table.c.schema_id == record.entity_id,
                        )
                        .values(status=status, seq=record.seq)
                    )
                case ProcessorRegistered() as event:
                    await _use(tx, record.entity_id, event)


def _row(record: Record, event: SchemaRegistered) -> dict[str, object]:
    return {
        "user_id": record.owner,
        "schema_id": record.entity_id,
        "name": event.name,
        "version": event.version,
        "definition": bytes(event.definition).decode(),
        "status": event.status,
        "compatibility": event.compatibility,
        "description": event.description,
        "examples": msgspec.json.encode(event.examples).decode(),
        "processor_id": event.processor_id,
        "created_at": record.time,
        "seq": record.seq,
    }


async def _use(tx: Tx, processor_id: str, event: ProcessorRegistered) -> None:
    table = tx[used]
    await tx.execute(delete(table).where(table.c.processor_id == processor_id))
    ids = dict.fromkeys((*event.reads, event.output_schema_id))
    await tx.upsert(used, [{"processor_id": processor_id, "schema_id": one} for one in ids])


def _visible(view: View) -> ColumnElement[bool]:
    return schemas.c.user_id.in_((view.user_id, SYSTEM))


@get("/schemas", tags=["schemas"])
async def list_schemas(
    view: View,
    name: Annotated[str | None, QueryParameter(max_length=64)] = None,
    processor_id: FromQuery[str | None] = None,
    status: FromQuery[Status | None] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> SchemaPage:
    """The caller's schemas and the system's, by name and version."""
    query = select(schemas).where(_visible(view))
    if name is not None:
        query = query.where(schemas.c.name == name)
    if processor_id is not None:
        query = query.where(schemas.c.processor_id == token(processor_id))
    if status is not None:
        query = query.where(schemas.c.status == status)
    order = (schemas.c.name, schemas.c.version, schemas.c.user_id)
    if cursor is not None:
        query = query.where(_after(decode_cursor(cursor, tuple[str, int, str])))
    rows = await view.rows(query.order_by(*order).limit(limit + 1))
    page = rows[:limit]
    more = encode_cursor(*(page[-1][c.name] for c in order)) if len(rows) > limit else None
    return SchemaPage([_read(row) for row in page], more)


@get("/schemas/{schema_id:str}", tags=["schemas"])
async def get_schema(view: View, schema_id: FromPath[str]) -> Response[Schema]:
    """One version; by a name alone its latest active one."""
    rows = await _by_id(view, schema_id) or await _latest(view, schema_id)
    if not rows:
        raise NotFound(f"There is no schema {schema_id[:80]}.")
    # The caller's own before the system's.
    row = min(rows, key=lambda row: row["user_id"] == SYSTEM)
    return Response(_read(row), headers={"ETag": f'"{row["seq"]}"'})


@get("/processors/{processor_id:str}/schemas", tags=["schemas", "processors"])
async def list_schemas_of_processor(view: View, processor_id: FromPath[str]) -> SchemaPage:
    """The schemas that a processor reads and writes, and those registered as its own."""
    reads_or_writes = select(used.c.schema_id).where(used.c.processor_id == token(processor_id))
    query = (
        select(schemas)
        .where(
            _visible(view),
            or_(
                schemas.c.processor_id == processor_id,
                and_(schemas.c.user_id == SYSTEM, schemas.c.schema_id.in_(reads_or_writes)),
            ),
        )
        .order_by(schemas.c.name, schemas.c.version, schemas.c.user_id)
    )
    rows = await view.rows(query.limit(MAX_OF_PROCESSOR))
    if not rows:
        raise NotFound(f"There is no processor {processor_id}.")
    return SchemaPage([_read(row) for row in rows], None)


def _after(position: tuple[str, int, str]) -> ColumnElement[bool]:
    name, version, user_id = position
    table = schemas.c
    return or_(
        table.name > name,
        and_(table.name == name, table.version > version),
        and_(table.name == name, table.version == version, table.user_id > user_id),
    )


async def _by_id(view: View, schema_id: str) -> Sequence[RowMapping]:
    try:
        wanted = schema_token(schema_id)
    except Malformed:
        return ()
    return await view.rows(select(schemas).where(_visible(view), schemas.c.schema_id == wanted))


async def _latest(view: View, name: str) -> Sequence[RowMapping]:
    query = (
        select(schemas)
        .where(_visible(view), schemas.c.name == name, schemas.c.status == "active")
        .order_by(schemas.c.version.desc())
    )
    found: dict[str, RowMapping] = {}
    for row in await view.rows(query):
        found.setdefault(row["user_id"], row)
    return list(found.values())


def _read(row: RowMapping) -> Schema:
    return Schema(
        schema_id=row["schema_id"],
        processor_id=row["processor_id"],
        name=row["name"],
        version=row["version"],
        definition=msgspec.Raw(row["definition"].encode()),
        status=row["status"],
        compatibility=row["compatibility"],
        description=row["description"],
        examples=msgspec.json.decode(row["examples"]),
        created_at=row["created_at"],
    )


SchemaView.routes = [list_schemas, get_schema, list_schemas_of_processor]
projection = SchemaView()
