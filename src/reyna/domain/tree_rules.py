"""What may happen to one owner's tree: the rules that keep it a tree."""

from __future__ import annotations

from collections.abc import Sequence

from fractional_indexing import generate_n_keys_between
from msgspec import UNSET, UnsetType

from reyna.domain.bucket import (
    Bucket,
    BucketBlobAdded,
    BucketBlobRemoved,
    BucketCreated,
    BucketDeleted,
    BucketDescription,
    BucketRestored,
    BucketStructureChanged,
    BucketUpdated,
    NewBucket,
    Tree,
    boundary,
)
from reyna.domain.event import Rules
from reyna.errors import Conflict, NotFound


class TreeRules(Rules):
    """What may happen to one owner's tree. `max_depth` is how many buckets a path may have."""

    def __init__(self, owner: str, tree: Tree, max_depth: int) -> None:
        self.boundary = boundary(owner)
        self.tree = tree
        self.max_depth = max_depth

    def create(
        self,
        bucket_id: str,
        description: BucketDescription,
        parent: str | None,
        children: Sequence[NewBucket] = (),
    ) -> None:
        """Make a bucket under `parent`, or as a root, and all that is to be below it."""
        if bucket_id in self.tree.buckets:
            raise Conflict(f"Bucket {bucket_id} exists already.")
        new = NewBucket(bucket_id, description, tuple(children))
        above = 0 if parent is None else self.tree.depth(self.tree.live(parent)) + 1
        self._check_depth(above + _levels(new))
        self._plant(new, parent, self.tree.rank_before(parent, None))

    def describe(
        self,
        bucket_id: str,
        description: BucketDescription,
        reverted_to: int | UnsetType = UNSET,
    ) -> None:
        """Replace the description; nothing is decided when nothing would change. `reverted_to`:
        the seq after which it was so before.
        """
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
                    reverted_to=reverted_to,
                ),
            )

    def move(self, bucket_id: str, parent: str | None, position: int | None) -> None:
        """Put the bucket, with all below it, under `parent` at `position` (None, or too high:
        last).
        """
        bucket = self.tree.live(bucket_id)
        self._check_place(bucket, parent)
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

    def revert(self, bucket_id: str, then: Bucket, seq: int) -> None:
        """Describe and place the bucket as it was after `seq`, when it was `then`.

        Its rank is the old one, or one right before whoever has that now. Raises Conflict when it
        cannot be under the parent that it had.
        """
        bucket = self.tree.live(bucket_id)
        description = BucketDescription(
            name=then.name, type=then.type, metadata=then.metadata, tags=then.tags
        )
        self.describe(bucket_id, description, seq)
        parent = then.parent
        if bucket.parent != parent:
            try:
                self._check_place(bucket, parent)
            except NotFound:
                raise Conflict(
                    f"The bucket that it was in then, {parent}, is in the trash: restore that one"
                    " first."
                ) from None
        rank = self.tree.rank_again(bucket, parent, then.rank)
        if (bucket.parent, bucket.rank) == (parent, rank):
            return
        before = (one for one in self.tree.children(parent) if one.rank < rank)
        self.decide(
            bucket_id,
            BucketStructureChanged(
                rank=rank,
                position=sum(1 for one in before if one is not bucket),
                parent_bucket_id=parent,
                previous_parent_bucket_id=bucket.parent,
                reverted_to=seq,
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

    def file(
        self,
        blob_id: str,
        schema_id: str,
        present: Sequence[str],
        add: Sequence[str],
        remove: Sequence[str],
    ) -> tuple[str, ...]:
        """Put a blob, now in the buckets `present`, into some buckets and take it out of others;
        answers all that it is in then.

        What is so already is decided no more. Raises NotFound for a bucket that is not there.
        """
        for bucket_id in (*add, *remove):
            self.tree.live(bucket_id)
        buckets = tuple(present)
        for bucket_id in remove:
            if bucket_id in buckets:
                buckets = tuple(one for one in buckets if one != bucket_id)
                event = BucketBlobRemoved(blob_id=blob_id, schema_id=schema_id, bucket_ids=buckets)
                self.decide(bucket_id, event)
        for bucket_id in add:
            if bucket_id not in buckets:
                buckets = (*buckets, bucket_id)
                self.decide(
                    bucket_id,
                    BucketBlobAdded(blob_id=blob_id, schema_id=schema_id, bucket_ids=buckets),
                )
        return buckets

    def _plant(self, new: NewBucket, parent: str | None, rank: str) -> None:
        """Decide a bucket and all below it, every bucket before its children."""
        self.decide(
            new.bucket_id,
            BucketCreated(
                name=new.description.name,
                type=new.description.type,
                metadata=new.description.metadata,
                tags=new.description.tags,
                rank=rank,
                parent_bucket_id=parent,
            ),
        )
        ranks = generate_n_keys_between(None, None, len(new.children))
        for child, child_rank in zip(new.children, ranks, strict=True):
            self._plant(child, new.bucket_id, str(child_rank))

    def _check_place(self, bucket: Bucket, parent: str | None) -> None:
        """Raise unless the bucket, with all below it, can be under `parent`."""
        above = 0
        if parent is not None:
            target = self.tree.live(parent)
            line = {target.bucket_id, *(up.bucket_id for up in self.tree.above(target))}
            if bucket.bucket_id in line:
                raise Conflict("A bucket cannot be moved into itself or under one of its own.")
            above = len(line)
        self._check_depth(above + self._height(bucket))

    def _height(self, bucket: Bucket) -> int:
        return 1 + max(level for _, level in self.tree.subtree(bucket))

    def _check_depth(self, levels: int) -> None:
        if levels > self.max_depth:
            raise Conflict(
                f"That would put buckets {levels} deep; at most {self.max_depth} are allowed."
            )


def _levels(new: NewBucket) -> int:
    return 1 + max(map(_levels, new.children), default=0)
