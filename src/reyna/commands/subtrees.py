"""A bucket with all below it at one moment, read from the log itself: a view may be behind.

Blobs are read schema by schema, the last message of each subject (docs/decisions/0003). Of a blob
that has moved on since that moment what it was then is asked for by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

import msgspec

from reyna.commands import trees
from reyna.domain import blob as blobs
from reyna.domain.blob import Blob, BlobContent, BlobCreated, BlobDerived
from reyna.domain.bucket import Bucket, Tree
from reyna.domain.subtree import FiledBlob, FilledBucket
from reyna.errors import Permanent
from reyna.log import subjects
from reyna.log.follow import Follower
from reyna.log.record import Record, decode
from reyna.log.stream import Log

# What one reading may hold.
MAX_BUCKETS = 5_000
MAX_BLOBS = 20_000
MAX_BYTES = 64 * 1024 * 1024


class _Known(msgspec.Struct):
    """A blob as it is folded: `source_seq` is the event it was derived from, `changed_at` the time
    of what was said of it last.
    """

    state: Blob
    made_in: tuple[str, ...]
    source_seq: int | None
    changed_at: str


class Subtree:
    """The bucket `bucket_id` of an owner and all below it, right after the event `seq`."""

    def __init__(self, log: Log, owner: str, bucket_id: str, tree: Tree, seq: int) -> None:
        self.seq = seq
        self._log = log
        self._owner = owner
        self._tree = tree
        self._bucket_id = bucket_id

    @classmethod
    async def open(cls, log: Log, owner: str, bucket_id: str) -> Subtree:
        """The subtree as it is now. Raises NotFound without such a bucket, LogUnavailable."""
        head = await log.head()
        tree = await trees.load(log, owner)
        tree.live(bucket_id)
        # What was appended to the tree after the head was asked for is in it: then that counts.
        return cls(log, owner, bucket_id, tree, max(head, tree.seq))

    @property
    def bucket(self) -> Bucket:
        """The bucket at the top."""
        return self._tree.buckets[self._bucket_id]

    @property
    def data(self) -> msgspec.Raw:
        """The bucket at the top as `bucket-v1` has it."""
        bucket = self.bucket
        return msgspec.Raw(
            msgspec.json.encode(
                {
                    "bucket_id": bucket.bucket_id,
                    "user_id": self._owner,
                    "name": bucket.name,
                    "type": bucket.type,
                    "parent_bucket_id": bucket.parent,
                    "metadata": bucket.metadata,
                    "tags": bucket.tags,
                }
            )
        )

    async def read(self, schema_ids: Sequence[str]) -> FilledBucket:
        """As `reyna.domain.subtree.Contents` says."""
        below = {one.bucket_id for one, _ in self._tree.subtree(self.bucket)}
        if len(below) > MAX_BUCKETS:
            raise Permanent(f"There are {len(below)} buckets; at most {MAX_BUCKETS} are taken.")
        reading = _Reading(self._log, self._owner, self._tree, self.seq, below)
        for schema_id in dict.fromkeys(schema_ids):
            await reading.take_in(schema_id)
        await reading.take_in_variants()
        return _filled(self._tree, self.bucket, await reading.filed())


class _Reading:
    """Takes in blobs, and keeps those in the buckets `below` and what was derived from others."""

    def __init__(self, log: Log, owner: str, tree: Tree, seq: int, below: set[str]) -> None:
        self._log = log
        self._owner = owner
        self._tree = tree
        self._seq = seq
        self._below = below
        self._known: dict[str, _Known] = {}
        self._moved_on: set[str] = set()
        # Derived blobs that are filed in other places, with their parents.
        self._elsewhere: dict[str, str] = {}
        self._bytes = 0

    async def take_in(self, schema_id: str) -> None:
        """All of the owner's blobs of a schema."""
        filters = [subjects.of_blobs(self._owner, schema_id)]
        follower = Follower(self._log.connection, filters, 0, last_per_subject=True)
        async with aclosing(follower.batches()) as batches:
            async for batch in batches:
                for message in batch.messages:
                    record = decode(message)
                    if record.seq > self._seq:
                        self._moved_on.add(record.entity_id)
                    else:
                        self._fold(record)
                if not batch.pending:
                    break
        again = sorted(self._moved_on & self._known.keys())
        for blob_id in again:
            self._drop(blob_id)
        await self._read_again(again)
        self._moved_on.clear()

    async def take_in_variants(self) -> None:
        """Those of the blobs taken in that are filed in other places."""
        known = self._known.keys()
        await self._read_again(
            [blob_id for blob_id, parent_id in self._elsewhere.items() if parent_id in known]
        )

    async def filed(self) -> dict[str, list[FiledBlob]]:
        """The blobs of each bucket, in the order they were made, with their variants.

        What was derived from a blob in these buckets stands below that one, not by itself.
        """
        here = {blob_id: known for blob_id, known in self._known.items() if not known.state.deleted}
        sources = {blob_id for blob_id, known in here.items() if self._is_below(known)}
        variants: dict[str, list[FiledBlob]] = {}
        for known in sorted(here.values(), key=_age):
            parent_id = known.state.parent_id
            if known.source_seq is not None and parent_id in sources:
                parent = here[parent_id].state
                stale = await self._has_changed(parent, known.source_seq)
                variants.setdefault(parent_id, []).append(_read(known, stale=stale))
        filed: dict[str, list[FiledBlob]] = {}
        for blob_id in sources:
            known = here[blob_id]
            if known.source_seq is not None and known.state.parent_id in sources:
                continue
            one = _read(known, variants=tuple(variants.get(blob_id, ())))
            for bucket_id in self._places(known):
                filed.setdefault(bucket_id, []).append(one)
        return filed

    def _places(self, known: _Known) -> set[str]:
        return self._below.intersection(self._tree.filed(known.state.blob_id, known.made_in))

    def _is_below(self, known: _Known) -> bool:
        return not self._below.isdisjoint(self._tree.filed(known.state.blob_id, known.made_in))

    def _fold(self, record: Record) -> None:
        event, blob_id = record.event, record.entity_id
        known = self._known.get(blob_id)
        if isinstance(event, BlobCreated | BlobDerived):
            self._add(record, event)
        elif known is not None:
            state = blobs.fold(known.state, blob_id, event, record.seq, record.time)
            assert state is not None
            self._hold(len(state.data) - len(known.state.data))
            known.state = state
            known.changed_at = record.time

    def _add(self, record: Record, event: BlobCreated | BlobDerived) -> None:
        state = blobs.fold(None, record.entity_id, event, record.seq, record.time)
        assert state is not None
        source_seq = event.provenance.source_seq if isinstance(event, BlobDerived) else None
        known = _Known(state, event.bucket_ids, source_seq, record.time)
        if self._is_below(known) or state.parent_id in self._known:
            self._known[record.entity_id] = known
            self._hold(len(state.data))
        elif source_seq is not None and state.parent_id is not None:
            self._elsewhere[record.entity_id] = state.parent_id

    def _hold(self, size: int) -> None:
        self._bytes += size
        if len(self._known) > MAX_BLOBS or self._bytes > MAX_BYTES:
            raise Permanent(
                f"There is too much in it: at most {MAX_BLOBS} blobs with"
                f" {MAX_BYTES // (1024 * 1024)} MiB together are taken."
            )

    def _drop(self, blob_id: str) -> None:
        self._hold(-len(self._known.pop(blob_id).state.data))

    async def _read_again(self, blob_ids: Sequence[str]) -> None:
        """Some blobs, one by one, as they were at our moment."""
        for blob_id in blob_ids:
            filter_ = subjects.guard(blobs.boundary(self._owner, blob_id))
            for stored in await self._log.last_of_each(filter_, up_to=self._seq) or ():
                self._fold(decode(stored))

    async def _has_changed(self, source: Blob, source_seq: int) -> bool:
        """Whether a blob's data are others than those that the event `source_seq` said."""
        if source.content_seq <= source_seq:
            return False
        stored = await self._log.message(source_seq)
        then = None if stored is None else decode(stored).event
        return not isinstance(then, BlobContent) or then.data != source.data


def _age(known: _Known) -> tuple[str, str]:
    return known.state.created_at, known.state.blob_id


def _read(known: _Known, *, stale: bool = False, variants: tuple[FiledBlob, ...] = ()) -> FiledBlob:
    state = known.state
    return FiledBlob(
        blob_id=state.blob_id,
        schema_id=state.schema_id,
        data=state.data,
        title=state.title,
        tags=state.tags,
        metadata=state.metadata,
        parent_id=state.parent_id,
        created_at=state.created_at,
        changed_at=known.changed_at,
        stale=stale,
        variants=variants,
    )


def _filled(tree: Tree, top: Bucket, filed: dict[str, list[FiledBlob]]) -> FilledBucket:
    built: dict[str, FilledBucket] = {}
    for bucket, _ in reversed(list(tree.subtree(top))):
        found = filed.get(bucket.bucket_id, ())
        built[bucket.bucket_id] = FilledBucket(
            bucket_id=bucket.bucket_id,
            name=bucket.name,
            type=bucket.type,
            metadata=bucket.metadata,
            tags=bucket.tags,
            blobs=tuple(sorted(found, key=lambda one: (one.created_at, one.blob_id))),
            children=tuple(built[one.bucket_id] for one in tree.children(bucket.bucket_id)),
        )
    return built[top.bucket_id]
