"""Whole trees of buckets: a user's forest, or what is below one bucket."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import dropwhile, takewhile

import msgspec
from litestar import MediaType, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath
from litestar.response import Response

from projections.content.buckets import EMPTY, Bucket, Filled, Place, filled
from projections.content.tables import buckets
from projections.content.walks import living_buckets
from reyna.api.views import CallersView, View
from reyna.errors import NotFound
from reyna.log.subjects import token

_ENCODE = msgspec.json.Encoder().encode
_COLUMNS = (
    buckets.c.rank,
    buckets.c.bucket_id,
    buckets.c.parent_bucket_id,
    buckets.c.name,
    buckets.c.type,
    buckets.c.metadata,
    buckets.c.tags,
    buckets.c.seq,
    buckets.c.created_at,
    buckets.c.updated_at,
)
Row = tuple[str, str, str | None, str, str, str, str, int, str, str]


class BucketNode(Bucket, frozen=True, kw_only=True, gc=False):
    """A bucket with all below it, in order."""

    children: list[BucketNode]


class BucketTree(msgspec.Struct, frozen=True):
    """Buckets with all below them."""

    items: list[BucketNode]


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


class _Node(msgspec.Struct, frozen=True, gc=False):
    """A Bucket whose JSON parts are not taken apart on their way out."""

    bucket_id: str
    user_id: str
    name: str
    type: str
    parent_bucket_id: str | None
    child_bucket_ids: tuple[str, ...]
    blob_count: int
    metadata: msgspec.Raw
    tags: msgspec.Raw
    position: int
    depth: int
    seq: int
    created_at: str
    updated_at: str


async def _forest(view: CallersView) -> list[_Node]:
    """All of the caller's buckets, each right before its children."""
    query = (
        living_buckets(view)
        .with_only_columns(*_COLUMNS)
        .order_by(buckets.c.rank, buckets.c.bucket_id)
    )
    rows: dict[str, Row] = {row[1]: row for row in await view.tuples(query)}
    inside = await filled(view)
    user_id = view.user_id
    return [
        _node(rows[bucket_id], user_id, inside.get(bucket_id, EMPTY), place)
        for bucket_id, place in _arrange(rows.values())
    ]


def _node(row: Row, user_id: str, inside: Filled, place: Place) -> _Node:
    _, bucket_id, parent_id, name, of_type, metadata, tags, seq, created_at, updated_at = row
    return _Node(
        bucket_id,
        user_id,
        name,
        of_type,
        parent_id,
        place.children,
        inside.blobs,
        msgspec.Raw(metadata.encode()),
        msgspec.Raw(tags.encode()),
        place.position,
        place.depth,
        max(seq, inside.seq),
        created_at,
        updated_at,
    )


def _arrange(rows: Iterable[Row]) -> list[tuple[str, Place]]:
    """The places of buckets whose brothers and sisters come in order, each right before its
    children.

    Trees may be deep: this does not recurse.
    """
    children: dict[str | None, list[str]] = {}
    for row in rows:
        children.setdefault(row[2], []).append(row[1])
    places: list[tuple[str, Place]] = []
    pending = [(child, at, 0) for at, child in enumerate(children.get(None, ()))]
    pending.reverse()
    while pending:
        bucket_id, position, depth = pending.pop()
        below = children.get(bucket_id, [])
        places.append((bucket_id, Place(tuple(below), position, depth)))
        pending.extend((below[at], at, depth + 1) for at in range(len(below) - 1, -1, -1))
    return places


def _tree_response(forest: Sequence[_Node]) -> Response[bytes]:
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


routes = (get_forest, get_subtree)
