"""Queries of buckets: one, and lists by type, parent or tag.

A bucket in the trash, itself or with one above it, is in no answer and counts in no position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from litestar import get
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Response
from sqlalchemy import (
    ColumnElement,
    RowMapping,
    func,
    select,
    tuple_,
)

from projections.content.tables import buckets, fills, holds
from projections.content.walks import living_buckets
from reyna.api.views import (
    DEFAULT_LIMIT,
    CallersView,
    Cursor,
    Limit,
    View,
    decode_cursor,
    encode_cursor,
    tagged,
)
from reyna.commands.requests import MAX_TAG, TYPE_PATTERN
from reyna.errors import NotFound
from reyna.log.subjects import token

_TAGS = msgspec.json.Decoder(tuple[str, ...])
_Ascii = Annotated[str, msgspec.Meta(pattern="^[ -~]*$")]


class Bucket(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A bucket at the moment asked for.

    `child_bucket_ids` are in order; `position` counts from 0 among brothers and sisters, `depth` is
    0 for a root.
    """

    bucket_id: str
    user_id: str
    name: str
    type: str
    parent_bucket_id: str | None
    child_bucket_ids: tuple[str, ...]
    blob_count: int
    metadata: object
    tags: tuple[str, ...]
    position: int
    depth: int
    seq: int
    created_at: str
    updated_at: str


class Filled(msgspec.Struct, frozen=True, gc=False):
    """How many living blobs a bucket holds, and the seq of the last that was filed or taken out."""

    blobs: int
    seq: int


EMPTY = Filled(0, 0)


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a bucket stands in its tree, and the ids of its children in order."""

    children: tuple[str, ...]
    position: int
    depth: int


class BucketPage(msgspec.Struct, frozen=True):
    """One page of buckets."""

    items: list[Bucket]
    next_cursor: str | None


@get("/buckets/{bucket_id:str}", tags=["buckets"])
async def get_bucket(view: View, bucket_id: FromPath[str]) -> Response[Bucket]:
    """One bucket."""
    rows = await view.rows(living_buckets(view).where(buckets.c.bucket_id == token(bucket_id)))
    if not rows:
        raise NotFound(f"There is no bucket {bucket_id}.")
    (bucket,) = await _read(view, rows)
    return Response(bucket, headers={"ETag": f'"{bucket.seq}"'})


@get("/buckets", tags=["buckets"])
async def list_buckets(
    view: View,
    bucket_type: Annotated[str | None, QueryParameter(name="type", pattern=TYPE_PATTERN)] = None,
    parent_bucket_id: FromQuery[str | None] = None,
    tag: Annotated[str | None, QueryParameter(max_length=MAX_TAG)] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> BucketPage:
    """The caller's buckets, oldest first; those of one parent in their order in the tree."""
    query = living_buckets(view)
    place: ColumnElement[str] = buckets.c.created_at
    if bucket_type is not None:
        query = query.where(buckets.c.type == bucket_type)
    if parent_bucket_id is not None:
        query = query.where(buckets.c.parent_bucket_id == token(parent_bucket_id))
        place = buckets.c.rank
    if tag is not None:
        query = query.where(tagged(buckets.c.tags, tag))
    if cursor is not None:
        after = decode_cursor(cursor, tuple[_Ascii, _Ascii])
        query = query.where(tuple_(place, buckets.c.bucket_id) > tuple_(*after))
    query = query.order_by(place, buckets.c.bucket_id)
    rows = await view.rows(query.limit(limit + 1))
    page = rows[:limit]
    name = "created_at" if parent_bucket_id is None else "rank"
    more = encode_cursor(page[-1][name], page[-1]["bucket_id"]) if len(rows) > limit else None
    return BucketPage(await _read(view, page), more)


async def filled(view: CallersView, bucket_ids: Sequence[str] | None = None) -> dict[str, Filled]:
    """What is in some buckets, or in all that hold or held anything."""
    query = select(fills.c.bucket_id, fills.c.blobs, fills.c.filed_seq).where(
        fills.c.user_id == view.user_id, holds(fills, view)
    )
    if bucket_ids is not None:
        query = query.where(fills.c.bucket_id.in_(bucket_ids))
    return {row[0]: Filled(row[1], row[2]) for row in await view.tuples(query)}


async def _read(view: CallersView, rows: Sequence[RowMapping]) -> list[Bucket]:
    """The buckets of some rows, with their places and what is in them."""
    if not rows:
        return []
    ids = [row["bucket_id"] for row in rows]
    inside = await filled(view, ids)
    parents = {row["parent_bucket_id"] for row in rows}
    below = await _in_order(view, buckets.c.parent_bucket_id.in_({*ids, *parents} - {None}))
    if None in parents:
        below |= await _in_order(view, buckets.c.parent_bucket_id.is_(None))
    position = {
        bucket_id: at for brothers in below.values() for at, bucket_id in enumerate(brothers)
    }
    depths = await _depths(view, ids)
    return [
        _bucket(
            row,
            inside.get(row["bucket_id"], EMPTY),
            Place(
                tuple(below.get(row["bucket_id"], ())),
                position[row["bucket_id"]],
                depths[row["bucket_id"]],
            ),
        )
        for row in rows
    ]


async def _in_order(view: CallersView, which: ColumnElement[bool]) -> dict[str | None, list[str]]:
    """The ids of some living buckets in order, by their parent."""
    query = (
        living_buckets(view)
        .with_only_columns(buckets.c.parent_bucket_id, buckets.c.bucket_id)
        .where(which)
        .order_by(buckets.c.rank, buckets.c.bucket_id)
    )
    found: dict[str | None, list[str]] = {}
    for parent, bucket_id in await view.tuples(query):
        found.setdefault(parent, []).append(bucket_id)
    return found


async def _depths(view: CallersView, bucket_ids: Sequence[str]) -> dict[str, int]:
    """How many buckets are above each of some living ones."""
    base = living_buckets(view, by_id=True).with_only_columns(
        buckets.c.bucket_id.label("start"), buckets.c.parent_bucket_id.label("parent")
    )
    line = base.where(buckets.c.bucket_id.in_(bucket_ids)).cte("line", recursive=True)
    line = line.union(
        living_buckets(view, by_id=True)
        .with_only_columns(line.c.start, buckets.c.parent_bucket_id)
        .where(buckets.c.bucket_id == line.c.parent)
    )
    query = select(line.c.start, func.count() - 1).group_by(line.c.start)
    return {start: int(depth) for start, depth in await view.tuples(query)}


def _bucket(row: RowMapping, inside: Filled, place: Place) -> Bucket:
    return Bucket(
        bucket_id=row["bucket_id"],
        user_id=row["user_id"],
        name=row["name"],
        type=row["type"],
        parent_bucket_id=row["parent_bucket_id"],
        child_bucket_ids=place.children,
        blob_count=inside.blobs,
        metadata=msgspec.Raw(row["metadata"].encode()),
        tags=_TAGS.decode(row["tags"]),
        position=place.position,
        depth=place.depth,
        seq=max(row["seq"], inside.seq),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


routes = (get_bucket, list_buckets)
