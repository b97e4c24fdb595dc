"""Buckets: their events, and one owner's tree of them. What may happen to it is
`reyna.domain.tree_rules`.

The whole tree of an owner is one boundary. Each event says everything the tree needs to know of its
kind (a rename carries all describing fields, a move the new parent and rank), so the last message
of each subject is enough to know the tree (docs/decisions/0003). Brothers and sisters are ordered
by `rank`, a string with room between any two, so that a move touches one bucket only.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import ClassVar

import msgspec
from fractional_indexing import generate_key_between
from msgspec import UNSET, UnsetType

from reyna.domain.event import Boundary, Event, Opaque
from reyna.errors import NotFound

NO_METADATA = msgspec.Raw(b"{}")
# A processor that reads this schema is given a bucket with all below it, not a blob.
BUCKET_SCHEMA = "bucket-v1"


def _no_metadata() -> msgspec.Raw:
    return NO_METADATA


class BucketEvent(Event, frozen=True, kw_only=True):
    """The kind all bucket events share."""

    KIND: ClassVar[str] = "bucket"


class BucketDescription(BucketEvent, frozen=True, kw_only=True):
    """All that describes a bucket, whatever its place."""

    name: str
    type: str
    metadata: msgspec.Raw = msgspec.field(default_factory=_no_metadata)
    tags: tuple[str, ...] = ()


class BucketCreated(BucketDescription, frozen=True, kw_only=True):
    """A bucket was made, last among its parent's children."""

    VERB: ClassVar[str] = "created"
    TOPIC: ClassVar[str] = "bucket.created"

    rank: str
    parent_bucket_id: str | None = None


class BucketUpdated(BucketDescription, frozen=True, kw_only=True):
    """The description was replaced; `changed` names the fields that differ from before,
    `reverted_to` the seq after which it was so already.
    """

    VERB: ClassVar[str] = "updated"
    TOPIC: ClassVar[str] = "bucket.updated"

    changed: tuple[str, ...]
    reverted_to: int | UnsetType = UNSET


class BucketStructureChanged(BucketEvent, frozen=True, kw_only=True):
    """The bucket moved, with all below it. `position` counts from 0 among its new brothers and
    sisters; `reverted_to` is the seq after which it stood there already.
    """

    VERB: ClassVar[str] = "structure.changed"
    TOPIC: ClassVar[str] = "bucket.structure.changed"

    rank: str
    position: int
    parent_bucket_id: str | None = None
    previous_parent_bucket_id: str | None = None
    reverted_to: int | UnsetType = UNSET


class BucketDeleted(BucketEvent, frozen=True, kw_only=True):
    """The bucket went to the trash; `bucket_ids` are all that went with it, itself first."""

    VERB: ClassVar[str] = "deleted"
    TOPIC: ClassVar[str] = "bucket.deleted"

    bucket_ids: tuple[str, ...]
    parent_bucket_id: str | None = None


class BucketRestored(BucketEvent, frozen=True, kw_only=True):
    """The bucket came back to where it was; `bucket_ids` are all that came with it,
    itself first.
    """

    VERB: ClassVar[str] = "restored"
    TOPIC: ClassVar[str] = "bucket.restored"

    bucket_ids: tuple[str, ...]
    parent_bucket_id: str | None = None


class BucketFiling(BucketEvent, frozen=True, kw_only=True):
    """A blob came into a bucket or left it; `bucket_ids` are all that it is in afterwards."""

    blob_id: str
    schema_id: str
    bucket_ids: tuple[str, ...]


class BucketBlobAdded(BucketFiling, frozen=True, kw_only=True):
    """A blob was put into the bucket, last among its buckets."""

    VERB: ClassVar[str] = "blob.added"
    TOPIC: ClassVar[str] = "bucket.blob.added"


class BucketBlobRemoved(BucketFiling, frozen=True, kw_only=True):
    """A blob was taken out of the bucket."""

    VERB: ClassVar[str] = "blob.removed"
    TOPIC: ClassVar[str] = "bucket.blob.removed"


class NewBucket(msgspec.Struct, frozen=True):
    """A bucket to be made, with all that is to be below it, in order."""

    bucket_id: str
    description: BucketDescription
    children: tuple[NewBucket, ...] = ()


class Filing(msgspec.Struct):
    """Where a blob is since it was filed anew, and the seqs of all events that said so."""

    bucket_ids: tuple[str, ...] = ()
    seqs: list[int] = msgspec.field(default_factory=list)


class Bucket(msgspec.Struct, kw_only=True):
    """A bucket as its events leave it. `trashed` says that it was deleted itself, not with a
    parent.
    """

    bucket_id: str
    name: str
    type: str
    metadata: msgspec.Raw
    tags: tuple[str, ...]
    rank: str
    parent: str | None
    created_at: str
    seq: int
    trashed: bool = False


class Tree:
    """All buckets of one owner, folded. `seq` is the last event's in the boundary, 0 for an empty
    one. `filings` says where the blobs are that were filed anew after they were made.
    """

    def __init__(self) -> None:
        self.seq = 0
        self.buckets: dict[str, Bucket] = {}
        self.filings: dict[str, Filing] = {}
        self._children: dict[str | None, list[tuple[str, str]]] = {}

    def fold(self, bucket_id: str, event: Event | Opaque, seq: int, time: str) -> None:
        """Take in one event. Events come in the order of `seq`; superseded ones may be missing,
        but of filings none: those of many blobs share a subject.
        """
        self.seq = max(self.seq, seq)
        if isinstance(event, BucketCreated):
            self.buckets[bucket_id] = Bucket(
                bucket_id=bucket_id,
                name=event.name,
                type=event.type,
                metadata=event.metadata,
                tags=event.tags,
                rank=event.rank,
                parent=event.parent_bucket_id,
                created_at=time,
                seq=seq,
            )
            insort(self._children.setdefault(event.parent_bucket_id, []), (event.rank, bucket_id))
            return
        bucket = self.buckets.get(bucket_id)
        if bucket is None:
            return
        bucket.seq = seq
        match event:
            case BucketUpdated():
                bucket.name, bucket.type = event.name, event.type
                bucket.metadata, bucket.tags = event.metadata, event.tags
            case BucketStructureChanged():
                self._children[bucket.parent].remove((bucket.rank, bucket_id))
                bucket.parent, bucket.rank = event.parent_bucket_id, event.rank
                insort(self._children.setdefault(bucket.parent, []), (bucket.rank, bucket_id))
            case BucketDeleted():
                bucket.trashed = True
            case BucketRestored():
                bucket.trashed = False
            case BucketFiling():
                filing = self.filings.setdefault(event.blob_id, Filing())
                filing.bucket_ids = event.bucket_ids
                filing.seqs.append(seq)

    def filed(self, blob_id: str, made_in: tuple[str, ...]) -> tuple[str, ...]:
        """The buckets, in the trash or not, that a blob is in now, given those it was made in."""
        filing = self.filings.get(blob_id)
        return made_in if filing is None else filing.bucket_ids

    def is_live(self, bucket_id: str) -> bool:
        """Whether there is such a bucket, and neither it nor one above it is in the trash."""
        bucket = self.buckets.get(bucket_id)
        return (
            bucket is not None
            and not bucket.trashed
            and not any(up.trashed for up in self.above(bucket))
        )

    def live(self, bucket_id: str) -> Bucket:
        """The bucket, or NotFound if it never was, or if it or one above it is in the trash."""
        if not self.is_live(bucket_id):
            raise NotFound(f"There is no bucket {bucket_id}.")
        return self.buckets[bucket_id]

    def above(self, bucket: Bucket) -> Iterator[Bucket]:
        """The buckets above, the nearest first; never more than there are."""
        for _ in range(len(self.buckets)):
            if bucket.parent is None:
                return
            bucket = self.buckets[bucket.parent]
            yield bucket

    def depth(self, bucket: Bucket) -> int:
        """How many buckets are above: 0 for a root."""
        return sum(1 for _ in self.above(bucket))

    def children(self, parent: str | None) -> list[Bucket]:
        """The children that are not in the trash, in order."""
        below = (self.buckets[bucket_id] for _, bucket_id in self._children.get(parent, ()))
        return [bucket for bucket in below if not bucket.trashed]

    def rank_before(self, parent: str | None, rank: str | None) -> str:
        """A free rank right before `rank`, or after all for None.

        Trashed children keep their ranks, so that they can come back to their place.
        """
        ranks = [taken for taken, _ in self._children.get(parent, ())]
        index = len(ranks) if rank is None else bisect_left(ranks, rank)
        return str(generate_key_between(ranks[index - 1] if index else None, rank))

    def rank_again(self, bucket: Bucket, parent: str | None, rank: str) -> str:
        """The rank for a bucket that shall have `rank` under `parent` again: that one, or if
        another has it by now, one right before.
        """
        children = self._children.get(parent, [])
        index = bisect_left(children, (rank, ""))
        if index == len(children) or children[index][0] != rank:
            return rank
        if bucket.bucket_id in {child for _, child in children[max(index - 1, 0) : index + 1]}:
            return bucket.rank
        return self.rank_before(parent, rank)

    def subtree(self, bucket: Bucket) -> Iterator[tuple[Bucket, int]]:
        """The bucket and all below it that is not in the trash, with the levels below `bucket`."""
        pending = [(bucket, 0)]
        while pending:
            node, level = pending.pop()
            yield node, level
            pending.extend((child, level + 1) for child in self.children(node.bucket_id))


def boundary(owner: str) -> Boundary:
    """The boundary that guards an owner's whole tree."""
    return Boundary(owner, "bucket")
