"""Blobs: their content, where they are filed, what came before and after. Their bytes belong to
`media`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Literal, TypeAlias, TypedDict, Unpack

import msgspec
from msgspec import UNSET, UnsetType

from reyna.client.media import Media
from reyna.client.model import Blob, Event, Lineage, NewBlob, Page
from reyna.client.pages import walk
from reyna.client.transport import At, segment

Sort: TypeAlias = Literal["created_at", "-created_at", "updated_at", "-updated_at"]


By: TypeAlias = Literal["words", "meaning", "both"]


class BlobFilters(TypedDict, total=False):
    """Which blobs, in which order, and with `at` as of when. `q` searches their text, `by` words
    unless said otherwise; `similar_to` is a blob: those that mean the like.
    """

    bucket_id: str
    recursive: bool
    schema_id: str
    parent_id: str
    tag: str
    q: str
    by: By
    similar_to: str
    trashed: bool
    sort: Sort
    at: At


class _Create(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    schema_id: str
    data: object
    bucket_ids: tuple[str, ...] = ()
    parent_id: str | None = None
    processor_id: str | None = None
    title: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, object] = {}


class _Patch(msgspec.Struct, frozen=True, kw_only=True):
    data: object | UnsetType = UNSET
    title: str | UnsetType | None = UNSET
    tags: tuple[str, ...] | UnsetType | None = UNSET
    metadata: Mapping[str, object] | UnsetType | None = UNSET


class Filing(msgspec.Struct, frozen=True):
    """What to add and what to take out."""

    add: tuple[str, ...]
    remove: tuple[str, ...]


class Revert(msgspec.Struct, frozen=True):
    """The seq to go back to."""

    to: int


class Blobs(Media):
    """`studio.blobs`. Every change answers with the seq of its event."""

    async def create(
        self,
        schema_id: str,
        data: object,
        *,
        bucket_ids: Iterable[str] = (),
        parent_id: str | None = None,
        processor_id: str | None = None,
        title: str | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, object] = {},
        idempotency_key: str | None = None,
    ) -> NewBlob:
        """Drop a blob: `data` (JSON, or a struct) must be valid under the schema.

        Raises Invalid that names each place of `data`, NotFound for a schema or bucket.
        """
        body = _Create(
            schema_id=schema_id,
            data=data,
            bucket_ids=tuple(bucket_ids),
            parent_id=parent_id,
            processor_id=processor_id,
            title=title,
            tags=tuple(tags),
            metadata=metadata,
        )
        return (await self._transport.post("/blobs", body, idempotency_key)).read(NewBlob)

    async def get(self, blob_id: str, *, at: At | None = None, min_seq: int | None = None) -> Blob:
        """One blob, now or as it was `at` a seq or time. Raises NotFound."""
        return await self._transport.get(_path(blob_id), Blob, {"at": at}, min_seq)

    def list(
        self, *, min_seq: int | None = None, **filters: Unpack[BlobFilters]
    ) -> AsyncIterator[Blob]:
        """All blobs that the filters let through, newest first unless sorted otherwise."""
        return walk(self._transport, "/blobs", Page[Blob], filters, min_seq)

    async def page(
        self,
        *,
        limit: int = 50,
        cursor: str | None = None,
        min_seq: int | None = None,
        **filters: Unpack[BlobFilters],
    ) -> Page[Blob]:
        """One page of them; `cursor` is the `next_cursor` of the page before."""
        query = {**filters, "limit": limit, "cursor": cursor}
        return await self._transport.get("/blobs", Page[Blob], query, min_seq)

    async def update(
        self,
        blob_id: str,
        *,
        data: object | UnsetType = UNSET,
        title: str | UnsetType | None = UNSET,
        tags: Iterable[str] | UnsetType | None = UNSET,
        metadata: Mapping[str, object] | UnsetType | None = UNSET,
        if_match: int | None = None,
    ) -> int:
        """Change a blob by a JSON Merge Patch (RFC 7396): what is not named stays, None removes.

        Raises PreconditionFailed when `if_match` is given and no longer the blob's seq.
        """
        patch = _Patch(
            data=data,
            title=title,
            tags=tuple(tags) if isinstance(tags, Iterable) else tags,
            metadata=metadata,
        )
        return (await self._transport.change("PATCH", _path(blob_id), patch, if_match)).seq

    async def delete(self, blob_id: str, *, if_match: int | None = None) -> None:
        """Put a blob into the trash."""
        await self._transport.delete(_path(blob_id), if_match)

    async def restore(self, blob_id: str) -> int:
        """Take a blob out of the trash. Raises Conflict when it is not there."""
        return (await self._transport.post(f"{_path(blob_id)}/restore")).seq

    async def revert(self, blob_id: str, to: int) -> int:
        """Make a blob again what it was after the event `to`, by a new event."""
        return (await self._transport.post(f"{_path(blob_id)}/revert", Revert(to))).seq

    async def file(
        self,
        blob_id: str,
        *,
        add: Iterable[str] = (),
        remove: Iterable[str] = (),
        if_match: int | None = None,
    ) -> int:
        """File a blob in some buckets and take it out of others, all or nothing."""
        filing = Filing(tuple(add), tuple(remove))
        path = f"{_path(blob_id)}/buckets"
        return (await self._transport.change("PUT", path, filing, if_match)).seq

    def history(self, blob_id: str) -> AsyncIterator[Event]:
        """A blob's events, newest first."""
        return walk(self._transport, f"{_path(blob_id)}/history", Page[Event], {})

    async def lineage(
        self, blob_id: str, *, at: At | None = None, min_seq: int | None = None
    ) -> Lineage:
        """What a blob was derived from, and what came of it, now or `at` a seq or time."""
        path = f"{_path(blob_id)}/lineage"
        return await self._transport.get(path, Lineage, {"at": at}, min_seq)


def _path(blob_id: str) -> str:
    return f"/blobs/{segment(blob_id)}"
