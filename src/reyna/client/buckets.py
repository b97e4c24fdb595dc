"""Buckets: a user's tree, alone or with all below them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TypedDict, Unpack

import msgspec
from msgspec import UNSET, UnsetType

from reyna.client.blobs import Filing, Revert
from reyna.client.model import Bucket, BucketNode, Event, Forest, NewBucket, Page, Template
from reyna.client.pages import walk
from reyna.client.transport import At, Transport, segment


class BucketFilters(TypedDict, total=False):
    """Which buckets, and with `at` as of when."""

    type: str
    parent_bucket_id: str
    tag: str
    at: At


class _Create(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    type: str
    parent_bucket_id: str | None = None
    metadata: Mapping[str, object] = {}
    tags: tuple[str, ...] = ()
    template: str | None = None


class _Patch(msgspec.Struct, frozen=True, kw_only=True):
    name: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    metadata: Mapping[str, object] | UnsetType | None = UNSET
    tags: tuple[str, ...] | UnsetType | None = UNSET


class _Move(msgspec.Struct, frozen=True):
    parent_bucket_id: str | None
    position: int | None


class Buckets:
    """`studio.buckets`. Every change answers with the seq of its event."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(
        self,
        name: str,
        type: str = "folder",  # noqa: A002 the contract's word
        *,
        parent_bucket_id: str | None = None,
        metadata: Mapping[str, object] = {},
        tags: Iterable[str] = (),
        template: str | None = None,
        idempotency_key: str | None = None,
    ) -> NewBucket:
        """Make a bucket, last among its parent's children; with a template a whole small tree."""
        body = _Create(
            name=name,
            type=type,
            parent_bucket_id=parent_bucket_id,
            metadata=metadata,
            tags=tuple(tags),
            template=template,
        )
        return (await self._transport.post("/buckets", body, idempotency_key)).read(NewBucket)

    async def get(
        self, bucket_id: str, *, at: At | None = None, min_seq: int | None = None
    ) -> Bucket:
        """One bucket, now or as it was `at` a seq or time. Raises NotFound."""
        return await self._transport.get(_path(bucket_id), Bucket, {"at": at}, min_seq)

    def list(
        self, *, min_seq: int | None = None, **filters: Unpack[BucketFilters]
    ) -> AsyncIterator[Bucket]:
        """All buckets that the filters let through, those of one parent in their order."""
        return walk(self._transport, "/buckets", Page[Bucket], filters, min_seq)

    async def page(
        self,
        *,
        limit: int = 50,
        cursor: str | None = None,
        min_seq: int | None = None,
        **filters: Unpack[BucketFilters],
    ) -> Page[Bucket]:
        """One page of them; `cursor` is the `next_cursor` of the page before."""
        query = {**filters, "limit": limit, "cursor": cursor}
        return await self._transport.get("/buckets", Page[Bucket], query, min_seq)

    async def tree(
        self, *, at: At | None = None, min_seq: int | None = None
    ) -> tuple[BucketNode, ...]:
        """The whole forest: the roots, each with all below it."""
        return (await self._transport.get("/buckets/tree", Forest, {"at": at}, min_seq)).items

    async def subtree(
        self, bucket_id: str, *, at: At | None = None, min_seq: int | None = None
    ) -> BucketNode:
        """One bucket with all below it. Raises NotFound."""
        path = f"{_path(bucket_id)}/tree"
        (top,) = (await self._transport.get(path, Forest, {"at": at}, min_seq)).items
        return top

    async def update(
        self,
        bucket_id: str,
        *,
        name: str | UnsetType = UNSET,
        type: str | UnsetType = UNSET,  # noqa: A002 the contract's word
        metadata: Mapping[str, object] | UnsetType | None = UNSET,
        tags: Iterable[str] | UnsetType | None = UNSET,
        if_match: int | None = None,
    ) -> int:
        """Rename or describe a bucket by a JSON Merge Patch. Raises PreconditionFailed."""
        patch = _Patch(
            name=name,
            type=type,
            metadata=metadata,
            tags=tuple(tags) if isinstance(tags, Iterable) else tags,
        )
        return (await self._transport.change("PATCH", _path(bucket_id), patch, if_match)).seq

    async def move(
        self, bucket_id: str, parent_bucket_id: str | None, position: int | None = None
    ) -> int:
        """Move a bucket with all below it, to a place among its new brothers and sisters.

        Without a parent it becomes a root, without a position the last. Raises Conflict for a
        cycle.
        """
        move = _Move(parent_bucket_id, position)
        return (await self._transport.post(f"{_path(bucket_id)}/move", move)).seq

    async def delete(self, bucket_id: str, *, if_match: int | None = None) -> None:
        """Put a bucket with all below it into the trash."""
        await self._transport.delete(_path(bucket_id), if_match)

    async def restore(self, bucket_id: str) -> int:
        """Bring a bucket back to where it was. Raises Conflict when it is not in the trash."""
        return (await self._transport.post(f"{_path(bucket_id)}/restore")).seq

    async def revert(self, bucket_id: str, to: int) -> int:
        """Make a bucket again what it was after the event `to`, by a new event."""
        return (await self._transport.post(f"{_path(bucket_id)}/revert", Revert(to))).seq

    async def file(
        self,
        bucket_id: str,
        *,
        add: Iterable[str] = (),
        remove: Iterable[str] = (),
        if_match: int | None = None,
    ) -> int:
        """File some blobs in a bucket and take others out of it, all or nothing."""
        filing = Filing(tuple(add), tuple(remove))
        path = f"{_path(bucket_id)}/blobs"
        return (await self._transport.change("PUT", path, filing, if_match)).seq

    def history(self, bucket_id: str) -> AsyncIterator[Event]:
        """A bucket's events, newest first."""
        return walk(self._transport, f"{_path(bucket_id)}/history", Page[Event], {})

    def templates(self) -> AsyncIterator[Template]:
        """The trees that `create` can make at once, by name."""
        return walk(self._transport, "/templates", Page[Template], {})


def _path(bucket_id: str) -> str:
    return f"/buckets/{segment(bucket_id)}"
