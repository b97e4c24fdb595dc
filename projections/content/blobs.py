"""Queries of blobs: one, and lists by bucket, schema, source, tag or time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from litestar import get
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Response
from msgspec import UNSET, UnsetType
from sqlalchemy import and_, select

from projections.content import search, walks, words
from projections.content.tables import blobs, buckets, filings, holds, texts
from projections.content.walks import Query, Walk
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

_TAGS = msgspec.json.Decoder(tuple[str, ...])
_Offset = Annotated[int, msgspec.Meta(ge=0, le=100_000)]
Sort = Literal["created_at", "-created_at", "updated_at", "-updated_at"]


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """A blob at the moment asked for. `stale`: derived from a source that has changed since.

    `excerpt`, in the answers to a search, is where it was found: HTML with `<mark>` and no other
    tag.
    """

    blob_id: str
    user_id: str
    processor_id: str | None
    schema_id: str
    data: msgspec.Raw
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
    excerpt: str | UnsetType = UNSET


class BlobPage(msgspec.Struct, frozen=True):
    """One page of blobs."""

    items: list[Blob]
    next_cursor: str | None


@get("/blobs/{blob_id:str}", tags=["blobs"])
async def get_blob(view: View, blob_id: FromPath[str]) -> Response[Blob]:
    """One blob."""
    query = present(view).with_only_columns(blobs.c.since)
    versions = await view.tuples(query.where(blobs.c.blob_id == token(blob_id)))
    found = await read(view, [since for (since,) in versions])
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
    q: Annotated[
        str | None, QueryParameter(description="Words to search for; the best answers come first.")
    ] = None,
    sort: FromQuery[Sort] = "-created_at",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> BlobPage:
    """The caller's blobs, newest first unless `sort` says otherwise; with `q`, the best first."""
    wanted = present(view, trashed=trashed)
    if schema_id is not None:
        wanted = wanted.where(blobs.c.schema_id == schema_id)
    if parent_id is not None:
        wanted = wanted.where(blobs.c.parent_id == token(parent_id))
    if tag is not None and (bucket_id is not None or q is not None):
        wanted = wanted.where(walks.has_tag(view, tag))
    if q is not None:
        if bucket_id is not None:
            wanted = wanted.where(await walks.is_in(view, token(bucket_id), recursive=recursive))
        return await _search(view, q, wanted, limit, cursor)
    by = sort.lstrip("-")
    if bucket_id is not None:
        into = walks.below_bucket if recursive else walks.in_bucket
        walk = await into(view, token(bucket_id), wanted, by)
    elif tag is not None:
        walk = walks.with_tag(view, tag, wanted, by)
    elif parent_id is not None:
        walk = walks.gathered(wanted.with_only_columns(blobs.c.since), by)
    else:
        walk = walks.along_blobs(wanted, by)
    return await _page(view, walk, sort.startswith("-"), limit, cursor)


async def _page(
    view: CallersView, walk: Walk, descending: bool, limit: int, cursor: str | None
) -> BlobPage:
    after = None if cursor is None else decode_cursor(cursor, tuple[str, str])
    found = await view.tuples(walk.page(descending=descending, after=after, most=limit + 1))
    page = await read(view, [since for since, _, _ in found[:limit]])
    more = encode_cursor(*found[limit - 1][1:]) if len(found) > limit else None
    return BlobPage(page, more)


async def _search(
    view: CallersView, q: str, wanted: Query, limit: int, cursor: str | None
) -> BlobPage:
    """Those that answer a question, the best first. Ranks are no places: the cursor counts."""
    question = words.parse(q)
    offset = 0 if cursor is None else decode_cursor(cursor, tuple[_Offset])[0]
    hits = search.matches(texts, view.connection.dialect.name, view.user_id, question)
    query = walks.ranked(hits, wanted, offset=offset, most=limit + 1)
    found = await view.tuples(query)
    page = await read(view, [since for (since,) in found[:limit]])
    shown = await search.excerpts(
        question, [search.text_of(bytes(blob.data), blob.title, blob.tags) for blob in page]
    )
    items = [
        msgspec.structs.replace(blob, excerpt=excerpt)
        for blob, excerpt in zip(page, shown, strict=True)
    ]
    return BlobPage(items, encode_cursor(offset + limit) if len(found) > limit else None)


def present(view: CallersView, *, trashed: bool = False) -> Query:
    """The caller's blobs that are there at the moment asked for, or those in the trash."""
    return select(blobs).where(
        blobs.c.user_id == view.user_id, holds(blobs, view), blobs.c.deleted.is_(trashed)
    )


async def read(view: CallersView, versions: Sequence[int]) -> list[Blob]:
    """The blobs of some versions, in that order, with their buckets and what came of them."""
    if not versions:
        return []
    found = await view.rows(select(blobs).where(blobs.c.since.in_(versions)))
    by_version = {row["since"]: row for row in found}
    rows = [by_version[since] for since in versions]
    ids = [row["blob_id"] for row in rows]
    where, filed_at = await _filed(view, ids)
    derived = await _derived(view, ids)
    changed = await _changed(view, {r["parent_id"] for r in rows if r["source_seq"] is not None})
    return [
        Blob(
            blob_id=row["blob_id"],
            user_id=row["user_id"],
            processor_id=row["processor_id"],
            schema_id=row["schema_id"],
            data=msgspec.Raw(row["data"].encode()),
            title=row["title"],
            tags=_TAGS.decode(row["tags"]),
            metadata=_raw(row["metadata"]),
            bucket_ids=tuple(where.get(row["blob_id"], ())),
            parent_id=row["parent_id"],
            derived_ids=tuple(derived.get(row["blob_id"], ())),
            stale=row["source_seq"] is not None
            and changed.get(row["parent_id"], 0) > row["source_seq"],
            provenance=_raw(row["provenance"]) if row["provenance"] else None,
            media=_raw(row["media"]) if row["media"] else None,
            seq=max(row["since"], filed_at.get(row["blob_id"], 0)),
            created_at=row["created_at"],
            updated_at=row["updated_at"],
        )
        for row in rows
    ]


async def _derived(view: CallersView, blob_ids: Sequence[str]) -> dict[str, list[str]]:
    """What processors made of some blobs, the oldest first."""
    columns = (blobs.c.parent_id, blobs.c.created_at, blobs.c.blob_id)
    query = (
        present(view)
        .with_only_columns(*columns)
        .where(blobs.c.parent_id.in_(blob_ids), blobs.c.source_seq.is_not(None))
    )
    derived: dict[str, list[str]] = {}
    for parent_id, _, blob_id in sorted(await view.tuples(query)):
        derived.setdefault(parent_id, []).append(blob_id)
    return derived


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
