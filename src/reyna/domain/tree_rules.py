"""What may happen to one owner's tree: the rules that keep it a tree."""

from __future__ import annotations

from collections.abc import Sequence

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

    def _height(self, bucket: Bucket) -> int:
        return 1 + max(level for _, level in self.tree.subtree(bucket))

    def _check_depth(self, levels: int) -> None:
        if levels > self.max_depth:
            raise Conflict(
                f"That would put buckets {levels} deep; at most {self.max_depth} are allowed."
            )
