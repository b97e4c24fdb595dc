"""A blob as it is answered, alone or in a list (`lists`)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from litestar import get
from litestar.params import FromPath
from litestar.response import Response
from msgspec import UNSET, UnsetType
from sqlalchemy import and_, select

from projections.content.tables import blobs, buckets, filings, holds, is_listed
from projections.content.walks import Query
from reyna.api.views import (
    CallersView,
    View,
)
from reyna.errors import NotFound
from reyna.log.subjects import token

_TAGS = msgspec.json.Decoder(tuple[str, ...])


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """A blob at the moment asked for. `stale`: derived from a source that has changed since.

    In the answers to a search, `excerpt` is where it was found: HTML with `<mark>` and no other
    tag; `similarity` is how near it is in meaning, 1 for the same.
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
    similarity: float | UnsetType = UNSET


@get("/blobs/{blob_id:str}", tags=["blobs"])
async def get_blob(view: View, blob_id: FromPath[str]) -> Response[Blob]:
    """One blob."""
    query = present(view).with_only_columns(blobs.c.since)
    versions = await view.tuples(query.where(blobs.c.blob_id == token(blob_id)))
    found = await read(view, [since for (since,) in versions])
    if not found:
        raise NotFound(f"There is no blob {blob_id}.")
    return Response(found[0], headers={"ETag": f'"{found[0].seq}"'})


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
        .where(blobs.c.parent_id.in_(blob_ids), blobs.c.source_seq.is_not(None), is_listed(blobs))
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


routes = (get_blob,)
