"""The view of buckets: each user's forest, and how many blobs every bucket holds.

Owns GET buckets, buckets/tree, buckets/{bucket_id} and buckets/{bucket_id}/tree. A bucket in the
trash, itself or with one above it, is in no answer and counts in no position. What is in the blobs
belongs to `projections.blobs`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import dropwhile, takewhile
from typing import Annotated

import msgspec
from litestar import MediaType, get
from litestar.openapi.datastructures import ResponseSpec
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
    Select,
    String,
    Table,
    Text,
    bindparam,
    select,
    tuple_,
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
from reyna.commands.requests import MAX_TAG, TYPE_PATTERN
from reyna.content import Projection, Tx
from reyna.domain.blob import BlobCreated, BlobDeleted, BlobDerived, BlobRestored
from reyna.domain.bucket import (
    BucketCreated,
    BucketDeleted,
    BucketDescription,
    BucketRestored,
    BucketStructureChanged,
    BucketUpdated,
)
from reyna.errors import NotFound
from reyna.log.record import Record
from reyna.log.subjects import token

metadata = MetaData()
buckets = Table(
    "buckets",
    metadata,
    Column("bucket_id", String(64), primary_key=True),
    Column("user_id", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("type", String(64), nullable=False),
    Column("parent_bucket_id", String(64)),
    Column("metadata", Text, nullable=False),
    Column("tags", Text, nullable=False),
    # Ranks are ordered as plain ASCII; PostgreSQL's own order may be a language's.
    Column("rank", Text().with_variant(Text(collation="C"), "postgresql"), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    Column("hidden", Boolean, nullable=False),
    Column("blob_count", Integer, nullable=False),
    # Covers what `_places` reads, in its order.
    Index("buckets_in_order", "user_id", "hidden", "parent_bucket_id", "rank", "bucket_id"),
    Index("buckets_by_user", "user_id", "created_at", "bucket_id"),
)
_IN_ORDER = (buckets.c.parent_bucket_id, buckets.c.rank, buckets.c.bucket_id)

IDS = 1000
"""Ids in one query: databases take no more than some 32,000 parameters."""

_ENCODE = msgspec.json.Encoder().encode
_TAGS = msgspec.json.Decoder(tuple[str, ...])
_Ascii = Annotated[str, msgspec.Meta(pattern="^[ -~]*$")]
Row = dict[str, object]


class Bucket(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A bucket as it is now.

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


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a bucket stands in its tree, and the ids of its children in order."""

    children: tuple[str, ...]
    position: int
    depth: int


class BucketPage(msgspec.Struct, frozen=True):
    """One page of buckets."""

    items: list[Bucket]
    next_cursor: str | None


class BucketNode(Bucket, frozen=True, kw_only=True, gc=False):
    """A bucket with all below it, in order."""

    children: list[BucketNode]


class BucketTree(msgspec.Struct, frozen=True):
    """Buckets with all below them."""

    items: list[BucketNode]


class BucketForest(Projection):
    """Folds bucket events into rows, and from blob events what is in each bucket."""

    name = "tree"
    version = 1
    kinds = frozenset({"bucket", "blob"})
    tables = metadata

    async def apply(self, tx: Tx, records: Sequence[Record]) -> None:
        """Fold a batch: what it touches is read once, and written once as the batch leaves it."""
        rows = await _load(tx, _touched(records))
        more: Counter[str] = Counter()
        for record in records:
            match record.event:
                case BlobCreated() | BlobDerived() | BlobRestored() as event:
                    more.update(event.bucket_ids)
                case BlobDeleted() as event:
                    more.subtract(event.bucket_ids)
                case _ if record.subject.kind == "bucket":
                    _fold(rows, record)
        await tx.upsert(buckets, list(rows.values()))
        await _count(tx, more)


def _touched(records: Sequence[Record]) -> list[str]:
    """The buckets that records change, those made by them left out; each once, in a fixed order."""
    touched: dict[str, None] = {}
    for record in records:
        match record.event:
            case BucketCreated():
                continue
            case BucketDeleted() | BucketRestored() as event:
                touched |= dict.fromkeys(event.bucket_ids)
        if record.subject.kind == "bucket":
            touched[record.entity_id] = None
    return list(touched)


async def _load(tx: Tx, bucket_ids: Sequence[str]) -> dict[str, Row]:
    table = tx[buckets]
    rows: dict[str, Row] = {}
    for start in range(0, len(bucket_ids), IDS):
        some = bucket_ids[start : start + IDS]
        found = await tx.execute(select(table).where(table.c.bucket_id.in_(some)))
        rows |= {row["bucket_id"]: dict(row) for row in found.mappings()}
    return rows


def _fold(rows: dict[str, Row], record: Record) -> None:
    event = record.event
    if isinstance(event, BucketCreated):
        rows[record.entity_id] = _row(record, event)
        return
    row = rows.get(record.entity_id)
    if row is None:
        return
    # Also for an event this version does not know: the ETag is that of the bucket's last event.
    row |= {"seq": record.seq, "updated_at": record.time}
    match event:
        case BucketUpdated():
            row |= _description(event)
        case BucketStructureChanged():
            row |= {"parent_bucket_id": event.parent_bucket_id, "rank": event.rank}
        case BucketDeleted() | BucketRestored():
            for bucket_id in event.bucket_ids:
                if bucket_id in rows:
                    rows[bucket_id]["hidden"] = isinstance(event, BucketDeleted)


def _row(record: Record, event: BucketCreated) -> Row:
    return {
        "bucket_id": record.entity_id,
        "user_id": record.owner,
        "parent_bucket_id": event.parent_bucket_id,
        "rank": event.rank,
        "seq": record.seq,
        "created_at": record.time,
        "updated_at": record.time,
        "hidden": False,
        "blob_count": 0,
        **_description(event),
    }


def _description(event: BucketDescription) -> Row:
    return {
        "name": event.name,
        "type": event.type,
        "metadata": bytes(event.metadata).decode(),
        "tags": tag_lines(event.tags),
    }


async def _count(tx: Tx, more: Counter[str]) -> None:
    """Add to the numbers of blobs. A blob is only put where it was not, and taken where it was."""
    table = tx[buckets]
    rows = [{"b_id": bucket_id, "b_more": number} for bucket_id, number in more.items() if number]
    if rows:
        await tx.execute(
            update(table)
            .where(table.c.bucket_id == bindparam("b_id"))
            .values(blob_count=table.c.blob_count + bindparam("b_more")),
            rows,
        )


@get("/buckets/{bucket_id:str}", tags=["buckets"])
async def get_bucket(view: View, bucket_id: FromPath[str]) -> Response[Bucket]:
    """One bucket."""
    place = (await _places(view)).get(token(bucket_id))
    if place is None:
        raise NotFound(f"There is no bucket {bucket_id}.")
    (row,) = await view.rows(_living(view).where(buckets.c.bucket_id == bucket_id))
    bucket = _bucket(row, place)
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
    query = _living(view)
    place: Column[str] = buckets.c.created_at
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
    more = encode_cursor(page[-1][place.name], page[-1]["bucket_id"]) if len(rows) > limit else None
    places = await _places(view)
    items = [_bucket(row, places[row["bucket_id"]]) for row in page if row["bucket_id"] in places]
    return BucketPage(items, more)


_TREE = {200: ResponseSpec(BucketTree, generate_examples=False, description="In order.")}


@get("/buckets/tree", tags=["buckets"], responses=_TREE)
async def get_forest(view: View) -> Response[bytes]:
    """All of the caller's buckets, each with its children."""
    return _tree_response(await _forest(view))


@get("/buckets/{bucket_id:str}/tree", tags=["buckets"], responses=_TREE)
async def get_subtree(view: View, bucket_id: FromPath[str]) -> Response[bytes]:
    """One bucket with all below it."""
    token(bucket_id)
    forest = dropwhile(lambda bucket: bucket.bucket_id != bucket_id, await _forest(view))
    top = next(forest, None)
    if top is None:
        raise NotFound(f"There is no bucket {bucket_id}.")
    depth = top.depth
    return _tree_response([top, *takewhile(lambda bucket: bucket.depth > depth, forest)])


def _living(view: View) -> Select[tuple[object, ...]]:
    """The caller's buckets that are not in the trash."""
    return select(buckets).where(buckets.c.user_id == view.user_id, buckets.c.hidden.is_(False))


async def _places(view: View) -> dict[str, Place]:
    """Where each of the caller's buckets stands."""
    query = _living(view).with_only_columns(buckets.c.bucket_id, buckets.c.parent_bucket_id)
    return _arrange(await view.rows(query.order_by(*_IN_ORDER)))


async def _forest(view: View) -> list[Bucket]:
    """All of the caller's buckets, each right before its children."""
    rows = {row["bucket_id"]: row for row in await view.rows(_living(view).order_by(*_IN_ORDER))}
    places = _arrange(rows.values())
    return [_bucket(rows[bucket_id], place) for bucket_id, place in places.items()]


def _arrange(rows: Iterable[RowMapping]) -> dict[str, Place]:
    """The places of buckets that come in order, each right before its children.

    Trees may be deep: this does not recurse.
    """
    children: dict[str | None, list[str]] = {}
    for row in rows:
        children.setdefault(row["parent_bucket_id"], []).append(row["bucket_id"])
    places: dict[str, Place] = {}
    pending: list[tuple[str | None, int, int]] = [(None, 0, -1)]
    while pending:
        bucket_id, position, depth = pending.pop()
        below = children.get(bucket_id, [])
        if bucket_id is not None:
            places[bucket_id] = Place(tuple(below), position, depth)
        if below:
            pending += reversed([(child, at, depth + 1) for at, child in enumerate(below)])
    return places


def _bucket(row: RowMapping, place: Place) -> Bucket:
    return Bucket(
        bucket_id=row["bucket_id"],
        user_id=row["user_id"],
        name=row["name"],
        type=row["type"],
        parent_bucket_id=row["parent_bucket_id"],
        child_bucket_ids=place.children,
        blob_count=row["blob_count"],
        metadata=msgspec.Raw(row["metadata"].encode()),
        tags=_TAGS.decode(row["tags"]),
        position=place.position,
        depth=place.depth,
        seq=row["seq"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _tree_response(forest: Sequence[Bucket]) -> Response[bytes]:
    """A BucketTree as JSON, put together by hand: msgspec gives up on trees of some 500 levels."""
    body = bytearray(b'{"items":[')
    unclosed = 0
    for bucket in forest:
        ended = unclosed - (bucket.depth - forest[0].depth)
        if ended:
            body += b"]}" * ended + b","
        body += _ENCODE(bucket)[:-1] + b',"children":['
        unclosed += 1 - ended
    body += b"]}" * (unclosed + 1)
    return Response(bytes(body), media_type=MediaType.JSON)


BucketForest.routes = [get_bucket, list_buckets, get_forest, get_subtree]
projection = BucketForest()
