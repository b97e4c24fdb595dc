"""Buckets: their events, one owner's tree of them, and the rules that keep it a tree.

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

from reyna.domain.event import Boundary, Event, Opaque, Rules
from reyna.errors import Conflict, NotFound

NO_METADATA = msgspec.Raw(b"{}")


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
    """The description was replaced; `changed` names the fields that differ from before."""

    VERB: ClassVar[str] = "updated"
    TOPIC: ClassVar[str] = "bucket.updated"

    changed: tuple[str, ...]


class BucketStructureChanged(BucketEvent, frozen=True, kw_only=True):
    """The bucket moved, with all below it. `position` counts from 0 among its new brothers and
    sisters.
    """

    VERB: ClassVar[str] = "structure.changed"
    TOPIC: ClassVar[str] = "bucket.structure.changed"

    rank: str
    position: int
    parent_bucket_id: str | None = None
    previous_parent_bucket_id: str | None = None


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
    one.
    """

    def __init__(self) -> None:
        self.seq = 0
        self.buckets: dict[str, Bucket] = {}
        self._children: dict[str | None, list[tuple[str, str]]] = {}

    def fold(self, bucket_id: str, event: Event | Opaque, seq: int, time: str) -> None:
        """Take in one event. Events come in the order of `seq`; superseded ones may be missing."""
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

    def live(self, bucket_id: str) -> Bucket:
        """The bucket, or NotFound if it never was, or if it or one above it is in the trash."""
        bucket = self.buckets.get(bucket_id)
        if bucket is None or bucket.trashed or any(up.trashed for up in self.above(bucket)):
            raise NotFound(f"There is no bucket {bucket_id}.")
        return bucket

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


class TreeRules(Rules):
    """What may happen to one owner's tree. `max_depth` is how many buckets a path may have."""

    def __init__(self, owner: str, tree: Tree, max_depth: int) -> None:
        self.boundary = boundary(owner)
        self.tree = tree
        self.max_depth = max_depth

    def create(self, bucket_id: str, description: BucketDescription, parent: str | None) -> None:
        """Make a bucket under `parent`, or as a root."""
        if bucket_id in self.tree.buckets:
            raise Conflict(f"Bucket {bucket_id} exists already.")
        if parent is not None:
            self._check_depth(self.tree.depth(self.tree.live(parent)) + 2)
        self.decide(
            bucket_id,
            BucketCreated(
                name=description.name,
                type=description.type,
                metadata=description.metadata,
                tags=description.tags,
                rank=self.tree.rank_before(parent, None),
                parent_bucket_id=parent,
            ),
        )

    def describe(self, bucket_id: str, description: BucketDescription) -> None:
        """Replace the description; nothing is decided when nothing would change."""
        bucket = self.tree.live(bucket_id)
        changed = tuple(
            name
            for name in ("name", "type", "metadata", "tags")
            if getattr(description, name) != getattr(bucket, name)
        )
        if changed:
            self.decide(
                bucket_id,
                BucketUpdated(
                    name=description.name,
                    type=description.type,
                    metadata=description.metadata,
                    tags=description.tags,
                    changed=changed,
                ),
            )

    def move(self, bucket_id: str, parent: str | None, position: int | None) -> None:
        """Put the bucket, with all below it, under `parent` at `position` (None, or too high:
        last).
        """
        bucket = self.tree.live(bucket_id)
        above = 0
        if parent is not None:
            target = self.tree.live(parent)
            line = {target.bucket_id, *(up.bucket_id for up in self.tree.above(target))}
            if bucket_id in line:
                raise Conflict("A bucket cannot be moved into itself or under one of its own.")
            above = len(line)
        self._check_depth(above + self._height(bucket))
        others = [b for b in self.tree.children(parent) if b.bucket_id != bucket_id]
        index = len(others) if position is None else min(position, len(others))
        if bucket.parent == parent and self.tree.children(parent).index(bucket) == index:
            return
        self.decide(
            bucket_id,
            BucketStructureChanged(
                rank=self.tree.rank_before(
                    parent, others[index].rank if index < len(others) else None
                ),
                position=index,
                parent_bucket_id=parent,
                previous_parent_bucket_id=bucket.parent,
            ),
        )

    def delete(self, bucket_id: str) -> None:
        """Put the bucket and all below it into the trash."""
        bucket = self.tree.live(bucket_id)
        gone = tuple(node.bucket_id for node, _ in self.tree.subtree(bucket))
        self.decide(bucket_id, BucketDeleted(bucket_ids=gone, parent_bucket_id=bucket.parent))

    def restore(self, bucket_id: str) -> None:
        """Bring the bucket back to where it was, with all that went with it."""
        bucket = self.tree.buckets.get(bucket_id)
        if bucket is None:
            raise NotFound(f"There is no bucket {bucket_id}.")
        if any(up.trashed for up in self.tree.above(bucket)):
            raise Conflict("The bucket above it is in the trash: restore that one first.")
        if not bucket.trashed:
            raise Conflict(f"Bucket {bucket_id} is not in the trash.")
        self._check_depth(self.tree.depth(bucket) + self._height(bucket))
        back = tuple(node.bucket_id for node, _ in self.tree.subtree(bucket))
        self.decide(bucket_id, BucketRestored(bucket_ids=back, parent_bucket_id=bucket.parent))

    def _height(self, bucket: Bucket) -> int:
        return 1 + max(level for _, level in self.tree.subtree(bucket))

    def _check_depth(self, levels: int) -> None:
        if levels > self.max_depth:
            raise Conflict(
                f"That would put buckets {levels} deep; at most {self.max_depth} are allowed."
            )
