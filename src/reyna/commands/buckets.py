"""Commands on buckets. All are decided on the owner's whole tree and guarded by it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from msgspec import UNSET

from reyna.commands.boundaries import Boundaries
from reyna.commands.bucket_types import BucketTypes
from reyna.commands.handler import Caller, Decision, Handler, IfMatch, check_match, tree_key
from reyna.commands.idempotency import Answer
from reyna.commands.requests import (
    CreateBucket,
    MoveBucket,
    UpdateBucket,
    bucket_metadata,
    check_bucket,
    merge_patch,
)
from reyna.commands.templates import Templates
from reyna.domain.bucket import NO_METADATA, Bucket, BucketDescription, Tree
from reyna.domain.event import Boundary
from reyna.domain.tree_rules import TreeRules

Rule = Callable[[TreeRules], None]
Check = Callable[[Tree], Awaitable[None]]


class BucketCommands:
    """Create, describe, move, delete and restore buckets. `max_depth`: buckets on one path."""

    def __init__(
        self,
        handler: Handler,
        boundaries: Boundaries,
        types: BucketTypes,
        templates: Templates,
        max_depth: int,
    ) -> None:
        self._handler = handler
        self._boundaries = boundaries
        self._types = types
        self._templates = templates
        self._max_depth = max_depth

    async def create(self, caller: Caller, asked: CreateBucket) -> Answer:
        """Make a bucket under its parent, or as a root, with all that its template has below it."""
        check_bucket(asked.name, asked.tags)
        template = None if asked.template is None else self._templates.get(asked.template)
        description = BucketDescription(
            name=asked.name,
            type=asked.type,
            metadata=bucket_metadata(asked.metadata),
            tags=tuple(dict.fromkeys(asked.tags)),
        )
        below = [] if template is None else template.descriptions()

        async def attempt(bucket_id: str) -> Decision:
            await self._types.check(caller.user_id, [description], below, "/template")
            tree = await self._boundaries.tree(caller.user_id)
            rules = TreeRules(caller.user_id, tree, self._max_depth)
            children = () if template is None else template.below(bucket_id, caller.key)
            rules.create(bucket_id, description, asked.parent_bucket_id, children)
            return Decision(rules, tree.seq)

        async with self._boundaries.locked(tree_key(caller.user_id)):
            answer = await self._handler.create(caller, "bucket", attempt)
        return msgspec.structs.replace(answer, own_seq=answer.seq - len(below))

    async def describe(
        self, caller: Caller, bucket_id: str, asked: UpdateBucket, if_match: IfMatch
    ) -> Answer:
        """Apply a merge patch to what describes a bucket."""

        async def check(tree: Tree) -> None:
            if asked.type is not UNSET or asked.metadata is not UNSET:
                await self._types.check(caller.user_id, [_patched(tree.live(bucket_id), asked)])

        def rule(rules: TreeRules) -> None:
            description = _patched(rules.tree.live(bucket_id), asked)
            check_bucket(description.name, description.tags)
            rules.describe(bucket_id, description)

        return await self._change(caller, bucket_id, rule, if_match, check)

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
        self,
        caller: Caller,
        bucket_id: str,
        rule: Rule,
        if_match: IfMatch,
        check: Check | None = None,
    ) -> Answer:
        async def attempt(_: str) -> Decision:
            tree = await self._boundaries.tree(caller.user_id)
            rules = TreeRules(caller.user_id, tree, self._max_depth)
            if if_match is not None:
                check_match(tree.live(bucket_id).seq, if_match)
            # The tree may take in other events while it is checked: what was checked must not
            # have changed.
            seq = tree.seq
            if check is not None:
                await check(tree)
            rule(rules)
            return Decision(rules, seq, tree.buckets[bucket_id].seq)

        target = Boundary(caller.user_id, "bucket", bucket_id)
        async with self._boundaries.locked(tree_key(caller.user_id)):
            return await self._handler.change(caller, target, attempt)


def _patched(bucket: Bucket, asked: UpdateBucket) -> BucketDescription:
    metadata = bucket.metadata
    if asked.metadata is None:
        metadata = NO_METADATA
    elif asked.metadata is not UNSET:
        merged = merge_patch(msgspec.json.decode(bucket.metadata), asked.metadata)
        metadata = bucket_metadata(merged)
    return BucketDescription(
        name=bucket.name if asked.name is UNSET else asked.name,
        type=bucket.type if asked.type is UNSET else asked.type,
        metadata=metadata,
        tags=bucket.tags if asked.tags is UNSET else tuple(dict.fromkeys(asked.tags or ())),
    )
