"""Queries of blobs: one, and lists by bucket, schema, source, tag or time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from litestar import get
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Response
from sqlalchemy import (
    CTE,
    ColumnElement,
    RowMapping,
    Select,
    and_,
    false,
    func,
    literal,
    or_,
    select,
)

from projections.content.tables import arrivals, blobs, buckets, filings, holds, tags
from reyna.api.views import (
    DEFAULT_LIMIT,
    CallersView,
    Cursor,
    Limit,
    View,
    decode_cursor,
    encode_cursor,
)
from reyna.errors import NotFound
from reyna.log.subjects import token

FEW = 2000
"""Up to so many blobs below a bucket are gathered and sorted; more are met in their order."""

_TAGS = msgspec.json.Decoder(tuple[str, ...])
Sort = Literal["created_at", "-created_at", "updated_at", "-updated_at"]
Query = Select[tuple[object, ...]]


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """A blob at the moment asked for. `stale`: derived from a source that has changed since."""

    blob_id: str
    user_id: str
    processor_id: str | None
    schema_id: str
    data: object
    title: str | None
    tags: tuple[str, ...]
    metadata: object
    bucket_ids: tuple[str, ...]
    parent_id: str | None
    derived_ids: tuple[str, ...]
    stale: bool
    provenance: object | None
    media: object | None
    seq: int
    created_at: str
    updated_at: str


class BlobPage(msgspec.Struct, frozen=True):
    """One page of blobs."""

    items: list[Blob]
    next_cursor: str | None


@get("/blobs/{blob_id:str}", tags=["blobs"])
async def get_blob(view: View, blob_id: FromPath[str]) -> Response[Blob]:
    """One blob."""
    query = present(view).where(blobs.c.blob_id == token(blob_id))
    found = await read(view, await view.rows(query))
    if not found:
        raise NotFound(f"There is no blob {blob_id}.")
    return Response(found[0], headers={"ETag": f'"{found[0].seq}"'})


@get("/blobs", tags=["blobs"])
async def list_blobs(
    view: View,
    bucket_id: FromQuery[str | None] = None,
    recursive: Annotated[
        bool, QueryParameter(description="With `bucket_id`: also what is below it.")
    ] = False,
    schema_id: FromQuery[str | None] = None,
    parent_id: FromQuery[str | None] = None,
    tag: Annotated[str | None, QueryParameter(max_length=100)] = None,
    trashed: Annotated[bool, QueryParameter(description="What is in the trash instead.")] = False,
    sort: FromQuery[Sort] = "-created_at",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> BlobPage:
    """The caller's blobs, newest first unless `sort` says otherwise."""
    query = present(view, trashed=trashed)
    # What a filter's own table keeps in order need not be sorted.
    column: ColumnElement[str] = blobs.c[sort.lstrip("-")]
    by_age = column is blobs.c.created_at
    if schema_id is not None:
        query = query.where(blobs.c.schema_id == schema_id)
    if parent_id is not None:
        query = query.where(blobs.c.parent_id == token(parent_id))
    if tag is not None:
        query = query.join(tags, tags.c.since == blobs.c.since)
        query = query.where(tags.c.user_id == view.user_id, tags.c.tag == tag)
        column = tags.c.created_at if by_age else column
    if bucket_id is not None and recursive:
        query = query.where(await _below(view, token(bucket_id)))
    elif bucket_id is not None:
        query = query.join(filings, filings.c.blob_id == blobs.c.blob_id)
        query = query.where(filings.c.bucket_id == token(bucket_id), holds(filings, view))
        query = query.where(_living_bucket(view, bucket_id))
        column = filings.c.created_at if by_age else column
    return await _page(view, query, column, sort, limit, cursor)


async def _page(
    view: CallersView,
    query: Query,
    column: ColumnElement[str],
    sort: Sort,
    limit: int,
    cursor: str | None,
) -> BlobPage:
    # The id of the table that is walked, so that its order serves.
    of_table = column.table if isinstance(column, type(blobs.c.created_at)) else blobs
    blob_id = of_table.c.blob_id
    descending = sort.startswith("-")
    if cursor is not None:
        value, last = decode_cursor(cursor, tuple[str, str])
        beyond, id_beyond = (
            (column < value, blob_id < last) if descending else (column > value, blob_id > last)
        )
        query = query.where(or_(beyond, and_(column == value, id_beyond)))
    query = query.order_by(*(c.desc() if descending else c.asc() for c in (column, blob_id)))
    rows = await view.rows(query.limit(limit + 1))
    page = rows[:limit]
    more = (
        encode_cursor(page[-1][sort.lstrip("-")], page[-1]["blob_id"])
        if len(rows) > limit
        else None
    )
    return BlobPage(await read(view, page), more)


def present(view: CallersView, *, trashed: bool = False) -> Query:
    """The caller's blobs that are there at the moment asked for, or those in the trash."""
    return select(blobs).where(
        blobs.c.user_id == view.user_id, holds(blobs, view), blobs.c.deleted.is_(trashed)
    )


def _living_bucket(view: CallersView, bucket_id: str) -> ColumnElement[bool]:
    return (
        select(buckets.c.bucket_id)
        .where(
            buckets.c.bucket_id == bucket_id,
            buckets.c.user_id == view.user_id,
            holds(buckets, view),
            buckets.c.hidden.is_(False),
        )
        .exists()
    )


def _subtree(view: CallersView, bucket_id: str) -> CTE:
    """The ids of a bucket that is not in the trash, and of all below it."""
    living = select(buckets.c.bucket_id).where(
        buckets.c.user_id == view.user_id, holds(buckets, view), buckets.c.hidden.is_(False)
    )
    top = living.where(buckets.c.bucket_id == bucket_id).cte("subtree", recursive=True)
    return top.union(living.join(top, buckets.c.parent_bucket_id == top.c.bucket_id))


async def _below(view: CallersView, bucket_id: str) -> ColumnElement[bool]:
    """Whether a blob is in a bucket or below it."""
    subtree = _subtree(view, bucket_id)
    inside = select(subtree.c.bucket_id)
    number = select(func.sum(arrivals.c.change).label("number")).where(
        arrivals.c.user_id == view.user_id, arrivals.c.bucket_id.in_(inside)
    )
    (row,) = await view.rows(number)
    if row["number"] is None:
        return false()
    filed = select(literal(1)).where(holds(filings, view), filings.c.bucket_id.in_(inside))
    if row["number"] > FEW:
        return filed.where(filings.c.blob_id == blobs.c.blob_id).exists()
    return blobs.c.blob_id.in_(filed.with_only_columns(filings.c.blob_id))


async def read(view: CallersView, rows: Sequence[RowMapping]) -> list[Blob]:
    """The blobs of some rows, with their buckets and what was derived from them."""
    ids = [row["blob_id"] for row in rows]
    if not ids:
        return []
    where, filed_at = await _filed(view, ids)
    derived: dict[str, list[str]] = {}
    children = (
        present(view)
        .with_only_columns(blobs.c.parent_id, blobs.c.blob_id)
        .where(blobs.c.parent_id.in_(ids), blobs.c.source_seq.is_not(None))
        .order_by(blobs.c.created_at, blobs.c.blob_id)
    )
    for row in await view.rows(children):
        derived.setdefault(row["parent_id"], []).append(row["blob_id"])
    changed = await _changed(view, {r["parent_id"] for r in rows if r["source_seq"] is not None})
    return [
        Blob(
            blob_id=row["blob_id"],
            user_id=row["user_id"],
            processor_id=row["processor_id"],
            schema_id=row["schema_id"],
            data=_raw(row["data"]),
            title=row["title"],
            tags=_TAGS.decode(row["tags"]),
            metadata=_raw(row["metadata"]),
            bucket_ids=tuple(where.get(row["blob_id"], ())),
            parent_id=row["parent_id"],
            derived_ids=tuple(derived.get(row["blob_id"], ())),
            stale=row["source_seq"] is not None
            and changed.get(row["parent_id"], 0) > row["source_seq"],
            provenance=_raw(row["provenance"]) if row["provenance"] else None,
            media=None,
            seq=max(row["since"], filed_at.get(row["blob_id"], 0)),
            created_at=row["created_at"],
            updated_at=row["updated_at"],
        )
        for row in rows
    ]


async def _filed(
    view: CallersView, ids: Sequence[str]
) -> tuple[dict[str, list[str]], dict[str, int]]:
    """The living buckets of some blobs, in order, and the seq of each one's last filing."""
    query = (
        select(filings, buckets.c.hidden)
        .outerjoin(buckets, and_(buckets.c.bucket_id == filings.c.bucket_id, holds(buckets, view)))
        .where(filings.c.blob_id.in_(ids))
        .order_by(filings.c.blob_id, filings.c.place)
    )
    at = view.position if view.at is None else view.at
    where: dict[str, list[str]] = {}
    filed_at: dict[str, int] = {}
    for row in await view.rows(query):
        if row["since"] > at:
            continue
        blob_id, ended = row["blob_id"], row["until"] <= at
        last = row["until"] if ended else row["since"]
        filed_at[blob_id] = max(filed_at.get(blob_id, 0), last)
        if not ended and row["hidden"] is False:
            where.setdefault(blob_id, []).append(row["bucket_id"])
    return where, filed_at


async def _changed(view: CallersView, blob_ids: set[str]) -> dict[str, int]:
    """When the data of some blobs last changed, also of those in the trash."""
    if not blob_ids:
        return {}
    query = select(blobs.c.blob_id, blobs.c.data_seq).where(
        blobs.c.blob_id.in_(blob_ids), blobs.c.user_id == view.user_id, holds(blobs, view)
    )
    return {row["blob_id"]: row["data_seq"] for row in await view.rows(query)}


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


routes = (get_blob, list_blobs)
