"""Commands on buckets. All are decided on the owner's whole tree and guarded by it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import UNSET

from reyna.commands.boundaries import Boundaries
from reyna.commands.handler import Caller, Decision, Handler, IfMatch, check_match, tree_key
from reyna.commands.idempotency import Answer
from reyna.commands.requests import (
    MAX_BUCKET_METADATA,
    CreateBucket,
    MoveBucket,
    UpdateBucket,
    check_bucket,
    check_nesting,
    merge_patch,
)
from reyna.domain.bucket import NO_METADATA, Bucket, BucketDescription
from reyna.domain.event import Boundary
from reyna.domain.tree_rules import TreeRules
from reyna.errors import TooLarge

Rule = Callable[[TreeRules], None]


class BucketCommands:
    """Create, describe, move, delete and restore buckets. `max_depth`: buckets on one path."""

    def __init__(self, handler: Handler, boundaries: Boundaries, max_depth: int) -> None:
        self._handler = handler
        self._boundaries = boundaries
        self._max_depth = max_depth

    async def create(self, caller: Caller, asked: CreateBucket) -> Answer:
        """Make a bucket under its parent, or as a root."""
        check_bucket(asked.name, asked.tags)
        description = BucketDescription(
            name=asked.name,
            type=asked.type,
            metadata=_metadata(asked.metadata),
            tags=tuple(dict.fromkeys(asked.tags)),
        )

        async def attempt(bucket_id: str) -> Decision:
            tree = await self._boundaries.tree(caller.user_id)
            rules = TreeRules(caller.user_id, tree, self._max_depth)
            rules.create(bucket_id, description, asked.parent_bucket_id)
            return Decision(rules, tree.seq)

        async with self._boundaries.locked(tree_key(caller.user_id)):
            return await self._handler.create(caller, "bucket", attempt)

    async def describe(
        self, caller: Caller, bucket_id: str, asked: UpdateBucket, if_match: IfMatch
    ) -> Answer:
        """Apply a merge patch to what describes a bucket."""

        def rule(rules: TreeRules) -> None:
            description = _patched(rules.tree.live(bucket_id), asked)
            check_bucket(description.name, description.tags)
            rules.describe(bucket_id, description)

        return await self._change(caller, bucket_id, rule, if_match)

    async def move(
        self, caller: Caller, bucket_id: str, asked: MoveBucket, if_match: IfMatch = None
    ) -> Answer:
        """Put a bucket, with all below it, somewhere else."""
        return await self._change(
            caller,
            bucket_id,
            lambda rules: rules.move(bucket_id, asked.parent_bucket_id, asked.position),
            if_match,
        )

    async def delete(self, caller: Caller, bucket_id: str, if_match: IfMatch) -> Answer:
        """Put a bucket and all below it into the trash."""
        return await self._change(
            caller, bucket_id, lambda rules: rules.delete(bucket_id), if_match
        )

    async def restore(self, caller: Caller, bucket_id: str) -> Answer:
        """Bring a bucket back to where it was."""
        return await self._change(caller, bucket_id, lambda rules: rules.restore(bucket_id), None)

    async def _change(
        self, caller: Caller, bucket_id: str, rule: Rule, if_match: IfMatch
    ) -> Answer:
        async def attempt(_: str) -> Decision:
            tree = await self._boundaries.tree(caller.user_id)
            rules = TreeRules(caller.user_id, tree, self._max_depth)
            if if_match is not None:
                check_match(tree.live(bucket_id).seq, if_match)
            rule(rules)
            return Decision(rules, tree.seq, tree.buckets[bucket_id].seq)

        target = Boundary(caller.user_id, "bucket", bucket_id)
        async with self._boundaries.locked(tree_key(caller.user_id)):
            return await self._handler.change(caller, target, attempt)


def _metadata(value: object) -> msgspec.Raw:
    """Metadata as JSON. Raises Malformed or TooLarge."""
    check_nesting("/metadata", value)
    encoded = msgspec.json.encode(value)
    if len(encoded) > MAX_BUCKET_METADATA:
        raise TooLarge(
            f"The metadata has {len(encoded)} bytes; at most {MAX_BUCKET_METADATA} are taken."
        )
    return msgspec.Raw(encoded)


def _patched(bucket: Bucket, asked: UpdateBucket) -> BucketDescription:
    metadata = bucket.metadata
    if asked.metadata is None:
        metadata = NO_METADATA
    elif asked.metadata is not UNSET:
        merged = merge_patch(msgspec.json.decode(bucket.metadata), asked.metadata)
        metadata = _metadata(merged)
    return BucketDescription(
        name=bucket.name if asked.name is UNSET else asked.name,
        type=bucket.type if asked.type is UNSET else asked.type,
        metadata=metadata,
        tags=bucket.tags if asked.tags is UNSET else tuple(dict.fromkeys(asked.tags or ())),
    )
