"""The view of blobs: their content now, the buckets they are in, what was derived from them.

Owns GET blobs and GET blobs/{blob_id}. A bucket in the trash is left out of `bucket_ids`; the blobs
in it stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from litestar import get
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Response
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    or_,
    select,
    update,
)

from reyna.api.views import (
    DEFAULT_LIMIT,
    Cursor,
    Limit,
    View,
    decode_cursor,
    encode_cursor,
    tag_lines,
    tagged,
)
from reyna.content import Projection, Tx
from reyna.domain.blob import (
    BlobContent,
    BlobCreated,
    BlobDeleted,
    BlobDerived,
    BlobEvent,
    BlobRestored,
    BlobUpdated,
)
from reyna.domain.bucket import BucketDeleted, BucketRestored
from reyna.errors import NotFound
from reyna.log.record import Record
from reyna.log.subjects import token

metadata = MetaData()
blobs = Table(
    "blobs",
    metadata,
    Column("blob_id", String(64), primary_key=True),
    Column("user_id", String(64), nullable=False),
    Column("schema_id", String(80), nullable=False),
    Column("processor_id", String(64)),
    Column("parent_id", String(64)),
    Column("data", Text, nullable=False),
    Column("title", Text),
    Column("tags", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("provenance", Text),
    Column("source_seq", BigInteger),
    Column("data_seq", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    Column("deleted", Boolean, nullable=False),
    Index("blobs_by_user", "user_id", "created_at", "blob_id"),
    Index("blobs_by_parent", "parent_id"),
)
filings = Table(
    "blob_filings",
    metadata,
    Column("bucket_id", String(64), primary_key=True),
    Column("blob_id", String(64), primary_key=True),
    Column("place", Integer, nullable=False),
    Index("blob_filings_by_blob", "blob_id"),
)
trashed = Table(
    "blob_trashed_buckets",
    metadata,
    Column("bucket_id", String(64), primary_key=True),
)

_TAGS = msgspec.json.Decoder(tuple[str, ...])
Sort = Literal["created_at", "-created_at", "updated_at", "-updated_at"]


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """A blob as it is now. `stale`: derived from a source that has changed since."""

    blob_id: str
    user_id: str
    processor_id: str | None
    schema_id: str
    data: object
    title: str | None
    tags: tuple[str, ...]
    metadata: dict[str, object]
    bucket_ids: tuple[str, ...]
    parent_id: str | None
    derived_ids: tuple[str, ...]
    stale: bool
    provenance: dict[str, object] | None
    media: dict[str, object] | None
    seq: int
    created_at: str
    updated_at: str


class BlobPage(msgspec.Struct, frozen=True):
    """One page of blobs."""

    items: list[Blob]
    next_cursor: str | None


class Blobs(Projection):
    """Folds blob events, and from bucket events which buckets are in the trash."""

    name = "blobs"
    version = 1
    kinds = frozenset({"blob", "bucket"})
    tables = metadata

    async def apply(self, tx: Tx, records: Sequence[Record]) -> None:
        """Fold a batch: rows made in it are written once, as the batch leaves them."""
        made: dict[str, dict[str, object]] = {}
        changes: dict[str, dict[str, object]] = {}
        placed: list[dict[str, object]] = []
        for record in records:
            event = record.event
            if isinstance(event, BlobCreated | BlobDerived):
                made[record.entity_id] = _row(record, event)
                placed.extend(
                    {"bucket_id": bucket_id, "blob_id": record.entity_id, "place": place}
                    for place, bucket_id in enumerate(event.bucket_ids)
                )
            elif isinstance(event, BlobEvent):
                row = made.get(record.entity_id)
                target = changes.setdefault(record.entity_id, {}) if row is None else row
                target.update(_change(record, event))
            elif isinstance(event, BucketDeleted | BucketRestored):
                await _trash(tx, event)
        await tx.upsert(blobs, list(made.values()))
        await tx.upsert(filings, placed)
        await _change_rows(tx, changes)


def _row(record: Record, event: BlobCreated | BlobDerived) -> dict[str, object]:
    provenance = event.provenance if isinstance(event, BlobDerived) else None
    return {
        "blob_id": record.entity_id,
        "user_id": record.owner,
        "schema_id": event.schema_id,
        "processor_id": event.processor_id,
        "parent_id": event.parent_id,
        "provenance": _text(provenance) if provenance else None,
        "source_seq": provenance.source_seq if provenance else None,
        "created_at": record.time,
        "deleted": False,
        "data_seq": record.seq,
        **_content(event),
        "seq": record.seq,
        "updated_at": record.time,
    }


def _content(event: BlobContent) -> dict[str, object]:
    return {
        "data": bytes(event.data).decode(),
        "title": event.title,
        "tags": tag_lines(event.tags),
        "metadata": bytes(event.metadata).decode(),
    }


def _change(record: Record, event: BlobEvent) -> dict[str, object]:
    change: dict[str, object] = {"seq": record.seq, "updated_at": record.time}
    match event:
        case BlobUpdated():
            change |= _content(event)
            if "data" in event.changed:
                change["data_seq"] = record.seq
        case BlobDeleted():
            change["deleted"] = True
        case BlobRestored():
            change["deleted"] = False
    return change


async def _change_rows(tx: Tx, changes: dict[str, dict[str, object]]) -> None:
    """Write the changes of rows that were there before, those of the same columns together."""
    groups: dict[tuple[str, ...], list[dict[str, object]]] = {}
    for blob_id, change in changes.items():
        groups.setdefault(tuple(sorted(change)), []).append({"b_blob_id": blob_id} | change)
    table = tx[blobs]
    for columns, rows in groups.items():
        statement = (
            update(table)
            .where(table.c.blob_id == bindparam("b_blob_id"))
            .values({column: bindparam(column) for column in columns})
        )
        await tx.execute(statement, rows)


async def _trash(tx: Tx, event: BucketDeleted | BucketRestored) -> None:
    rows = [{"bucket_id": bucket_id} for bucket_id in event.bucket_ids]
    if isinstance(event, BucketDeleted):
        await tx.upsert(trashed, rows)
    else:
        table = tx[trashed]
        await tx.execute(delete(table).where(table.c.bucket_id == bindparam("bucket_id")), rows)


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


@get("/blobs/{blob_id:str}", tags=["blobs"])
async def get_blob(view: View, blob_id: FromPath[str]) -> Response[Blob]:
    """One blob."""
    query = select(blobs).where(
        blobs.c.blob_id == token(blob_id),
        blobs.c.user_id == view.user_id,
        blobs.c.deleted.is_(False),
    )
    found = await _read(view, await view.rows(query))
    if not found:
        raise NotFound(f"There is no blob {blob_id}.")
    return Response(found[0], headers={"ETag": f'"{found[0].seq}"'})


@get("/blobs", tags=["blobs"])
async def list_blobs(
    view: View,
    bucket_id: FromQuery[str | None] = None,
    schema_id: FromQuery[str | None] = None,
    parent_id: FromQuery[str | None] = None,
    tag: Annotated[str | None, QueryParameter(max_length=100)] = None,
    sort: FromQuery[Sort] = "-created_at",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> BlobPage:
    """The caller's blobs, newest first unless `sort` says otherwise."""
    column = blobs.c[sort.lstrip("-")]
    query = select(blobs).where(blobs.c.user_id == view.user_id, blobs.c.deleted.is_(False))
    if bucket_id is not None:
        query = query.join(filings, filings.c.blob_id == blobs.c.blob_id).where(
            filings.c.bucket_id == token(bucket_id),
            filings.c.bucket_id.not_in(select(trashed.c.bucket_id)),
        )
    if schema_id is not None:
        query = query.where(blobs.c.schema_id == schema_id)
    if parent_id is not None:
        query = query.where(blobs.c.parent_id == token(parent_id))
    if tag is not None:
        query = query.where(tagged(blobs.c.tags, tag))
    descending = sort.startswith("-")
    if cursor is not None:
        value, last = decode_cursor(cursor, tuple[str, str])
        beyond, id_beyond = (
            (column < value, blobs.c.blob_id < last)
            if descending
            else (column > value, blobs.c.blob_id > last)
        )
        query = query.where(or_(beyond, and_(column == value, id_beyond)))
    order = (column, blobs.c.blob_id)
    query = query.order_by(*(c.desc() if descending else c.asc() for c in order))
    rows = await view.rows(query.limit(limit + 1))
    page = rows[:limit]
    more = encode_cursor(page[-1][column.name], page[-1]["blob_id"]) if len(rows) > limit else None
    return BlobPage(await _read(view, page), more)


async def _read(view: View, rows: Sequence[RowMapping]) -> list[Blob]:
    """The blobs of some rows, with their buckets and what was derived from them."""
    ids = [row["blob_id"] for row in rows]
    where: dict[str, list[str]] = {}
    filed = (
        select(filings.c.blob_id, filings.c.bucket_id)
        .where(
            filings.c.blob_id.in_(ids),
            filings.c.bucket_id.not_in(select(trashed.c.bucket_id)),
        )
        .order_by(filings.c.blob_id, filings.c.place)
    )
    for row in await view.rows(filed):
        where.setdefault(row["blob_id"], []).append(row["bucket_id"])
    derived: dict[str, list[str]] = {}
    children = (
        select(blobs.c.parent_id, blobs.c.blob_id)
        .where(
            blobs.c.parent_id.in_(ids),
            blobs.c.source_seq.is_not(None),
            blobs.c.deleted.is_(False),
        )
        .order_by(blobs.c.created_at, blobs.c.blob_id)
    )
    for row in await view.rows(children):
        derived.setdefault(row["parent_id"], []).append(row["blob_id"])
    sources = {row["parent_id"] for row in rows if row["source_seq"] is not None}
    changed = {
        row["blob_id"]: row["data_seq"]
        for row in await view.rows(
            select(blobs.c.blob_id, blobs.c.data_seq).where(blobs.c.blob_id.in_(sources))
        )
    }
    return [
        Blob(
            blob_id=row["blob_id"],
            user_id=row["user_id"],
            processor_id=row["processor_id"],
            schema_id=row["schema_id"],
            data=msgspec.Raw(row["data"].encode()),
            title=row["title"],
            tags=_TAGS.decode(row["tags"]),
            metadata=msgspec.json.decode(row["metadata"]),
            bucket_ids=tuple(where.get(row["blob_id"], ())),
            parent_id=row["parent_id"],
            derived_ids=tuple(derived.get(row["blob_id"], ())),
            stale=row["source_seq"] is not None
            and changed.get(row["parent_id"], 0) > row["source_seq"],
            provenance=msgspec.json.decode(row["provenance"]) if row["provenance"] else None,
            media=None,
            seq=row["seq"],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
        )
        for row in rows
    ]


Blobs.routes = [get_blob, list_blobs]
projection = Blobs()
