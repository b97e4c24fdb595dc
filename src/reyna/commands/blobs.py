"""Commands on blobs. Owns what must be looked up before a blob's rules can be asked."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from reyna.commands.boundaries import Boundaries
from reyna.commands.handler import Caller, Decision, Handler, IfMatch, check_match
from reyna.commands.idempotency import Answer
from reyna.commands.requests import (
    CreateBlob,
    UpdateBlob,
    UploadMedia,
    check_blob,
    check_nesting,
    merge_patch,
)
from reyna.commands.schemas import Schemas
from reyna.domain import blob, bucket
from reyna.domain.blob import MEDIA_SCHEMA, BlobContent, BlobCreated, BlobRules, Media
from reyna.errors import FieldError, Invalid, NotFound, TooLarge


class BlobCommands:
    """Create, update, delete and restore blobs. `max_bytes` bounds the JSON of one blob's
    content.
    """

    def __init__(
        self, handler: Handler, boundaries: Boundaries, schemas: Schemas, max_bytes: int
    ) -> None:
        self._handler = handler
        self._boundaries = boundaries
        self._schemas = schemas
        self._max_bytes = max_bytes

    async def create(self, caller: Caller, asked: CreateBlob) -> Answer:
        """Make a blob in the buckets named, all of which must be the caller's and live."""
        if asked.schema_id == MEDIA_SCHEMA:
            sentence = "A file is uploaded to blobs/media."
            raise Invalid(sentence, [FieldError("/schema_id", "media", sentence)])
        check_blob(asked.title, asked.tags, asked.bucket_ids)
        check_nesting("/data", asked.data)
        check_nesting("/metadata", asked.metadata)
        event = BlobCreated(
            schema_id=asked.schema_id,
            data=await self._schemas.check(asked.schema_id, asked.data, user_id=caller.user_id),
            title=asked.title,
            tags=_unique(asked.tags),
            metadata=_raw(asked.metadata),
            bucket_ids=_unique(asked.bucket_ids),
            parent_id=asked.parent_id,
            processor_id=asked.processor_id,
        )
        return await self._add(caller, event)

    async def create_media(self, caller: Caller, asked: UploadMedia, media: Media) -> Answer:
        """Make the blob of a file that is stored."""
        check_blob(asked.title, asked.tags, asked.bucket_ids)
        check_nesting("/metadata", asked.metadata)
        event = BlobCreated(
            schema_id=MEDIA_SCHEMA,
            data=_raw(media),
            media=media,
            title=asked.title,
            tags=_unique(asked.tags),
            metadata=_raw(asked.metadata),
            bucket_ids=_unique(asked.bucket_ids),
            parent_id=asked.parent_id,
        )
        return await self._add(caller, event)

    async def _add(self, caller: Caller, event: BlobCreated) -> Answer:
        self._check_size(event)
        if event.parent_id is not None:
            parent = await self._boundaries.bare_blob(caller.user_id, event.parent_id)
            if parent is None or parent.deleted:
                raise NotFound(f"There is no blob {event.parent_id}.")

        tried = False

        async def attempt(blob_id: str) -> Decision:
            nonlocal tried
            # A new id is free, but a key's may have been taken by another process meanwhile.
            known = await self._boundaries.bare_blob(caller.user_id, blob_id) if tried else None
            tried = True
            rules = BlobRules(caller.user_id, blob_id, known)
            rules.create(event)
            if not event.bucket_ids:
                return Decision(rules, 0)
            # A blob that names buckets stands or falls with the tree: it is guarded by it.
            tree = await self._boundaries.tree(caller.user_id)
            for bucket_id in event.bucket_ids:
                tree.live(bucket_id)
            rules.boundary = bucket.boundary(caller.user_id)
            return Decision(rules, tree.seq)

        return await self._handler.create(caller, "blob", attempt)

    async def update(
        self, caller: Caller, blob_id: str, asked: UpdateBlob, if_match: IfMatch
    ) -> Answer:
        """Apply a merge patch to a blob's content; `if_match` are the seqs it may have."""
        check_nesting("/data", asked.data)
        check_nesting("/metadata", asked.metadata)

        async def attempt(_: str) -> Decision:
            current = await self._boundaries.blob(caller.user_id, blob_id)
            rules = BlobRules(caller.user_id, blob_id, current)
            present = rules.present()
            check_match(present.seq, if_match)
            content = await self._patched(caller, present, asked)
            self._check_size(content)
            rules.update(content)
            return Decision(rules, present.boundary_seq, present.seq)

        return await self._handler.change(caller, blob.boundary(caller.user_id, blob_id), attempt)

    async def delete(self, caller: Caller, blob_id: str, if_match: IfMatch) -> Answer:
        """Put a blob into the trash."""

        async def attempt(_: str) -> Decision:
            current = await self._boundaries.blob(caller.user_id, blob_id)
            rules = BlobRules(caller.user_id, blob_id, current)
            present = rules.present()
            check_match(present.seq, if_match)
            rules.delete()
            return Decision(rules, present.boundary_seq, present.seq)

        return await self._handler.change(caller, blob.boundary(caller.user_id, blob_id), attempt)

    async def restore(self, caller: Caller, blob_id: str) -> Answer:
        """Take a blob out of the trash."""

        async def attempt(_: str) -> Decision:
            current = await self._boundaries.blob(caller.user_id, blob_id)
            rules = BlobRules(caller.user_id, blob_id, current)
            rules.restore()
            return Decision(rules, current.boundary_seq if current else 0)

        return await self._handler.change(caller, blob.boundary(caller.user_id, blob_id), attempt)

    async def _patched(self, caller: Caller, current: blob.Blob, asked: UpdateBlob) -> BlobContent:
        data = current.data
        if asked.data is not UNSET:
            merged = merge_patch(msgspec.json.decode(current.data), asked.data)
            data = await self._schemas.check(current.schema_id, merged, user_id=caller.user_id)
        metadata = current.metadata
        if asked.metadata is None:
            metadata = blob.NO_METADATA
        elif asked.metadata is not UNSET:
            metadata = _raw(merge_patch(msgspec.json.decode(current.metadata), asked.metadata))
        title = current.title if asked.title is UNSET else asked.title
        tags = current.tags if asked.tags is UNSET else _unique(asked.tags or ())
        check_blob(title, tags)
        return BlobContent(
            schema_id=current.schema_id, data=data, title=title, tags=tags, metadata=metadata
        )

    def _check_size(self, content: BlobContent) -> None:
        size = len(content.data) + len(content.metadata)
        if size > self._max_bytes:
            raise TooLarge(
                f"The blob has {size} bytes of JSON; at most {self._max_bytes} are taken."
            )


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
