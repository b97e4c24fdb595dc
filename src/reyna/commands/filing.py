"""Commands that file blobs in buckets. All are decided on the owner's whole tree and guarded by it.

Both ways, one blob in many buckets and many blobs in one, come to the same events: one for each
blob and bucket, all of a command in one batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from reyna.commands.boundaries import Boundaries, Origin, filed
from reyna.commands.handler import Caller, Decision, Handler, IfMatch, check_match, tree_key
from reyna.commands.idempotency import Answer
from reyna.commands.requests import MAX_BUCKETS, FileBlobs, FileInBuckets, check_filing
from reyna.domain import blob
from reyna.domain.blob import BlobRules
from reyna.domain.event import Boundary
from reyna.domain.tree_rules import TreeRules
from reyna.errors import FieldError, Invalid, NotFound


class BlobFiled(msgspec.Struct, frozen=True):
    """A blob was filed; `bucket_ids` are those it is in now, without those in the trash."""

    answer: Answer
    bucket_ids: tuple[str, ...]


class BucketFiled(msgspec.Struct, frozen=True):
    """A bucket was filled; the ids are of those blobs that were not, or were, in it before."""

    answer: Answer
    added: tuple[str, ...]
    removed: tuple[str, ...]


class FilingCommands:
    """File blobs. `max_depth`: buckets on one path."""

    def __init__(self, handler: Handler, boundaries: Boundaries, max_depth: int) -> None:
        self._handler = handler
        self._boundaries = boundaries
        self._max_depth = max_depth

    async def file_blob(
        self, caller: Caller, blob_id: str, asked: FileInBuckets, if_match: IfMatch
    ) -> BlobFiled:
        """Put a blob into some buckets, and take it out of others."""
        check_filing(asked.add, asked.remove)
        owner = caller.user_id
        shown: tuple[str, ...] = ()

        async def attempt(_: str) -> Decision:
            nonlocal shown
            known = await self._boundaries.bare_blob(owner, blob_id)
            tree = await self._boundaries.tree(owner)
            present = filed(BlobRules(owner, blob_id, known).present(), tree)
            check_match(present.seq, if_match)
            rules = TreeRules(owner, tree, self._max_depth)
            after = rules.file(
                blob_id, present.schema_id, present.bucket_ids, asked.add, asked.remove
            )
            _check_count(present.bucket_ids, after, "/add")
            shown = tuple(bucket_id for bucket_id in after if tree.is_live(bucket_id))
            return Decision(rules, tree.seq, present.seq)

        async with self._boundaries.locked(tree_key(owner)):
            answer = await self._handler.change(caller, blob.boundary(owner, blob_id), attempt)
        return BlobFiled(answer, shown)

    async def fill_bucket(
        self, caller: Caller, bucket_id: str, asked: FileBlobs, if_match: IfMatch
    ) -> BucketFiled:
        """Put some blobs into a bucket, and take others out of it."""
        check_filing(asked.add, asked.remove)
        owner = caller.user_id
        origins = await self._origins(owner, (*asked.add, *asked.remove))
        added: tuple[str, ...] = ()
        removed: tuple[str, ...] = ()

        async def attempt(_: str) -> Decision:
            nonlocal added, removed
            tree = await self._boundaries.tree(owner)
            bucket = tree.live(bucket_id)
            check_match(bucket.seq, if_match)
            rules = TreeRules(owner, tree, self._max_depth)
            removed = _file_all(rules, origins, asked.remove, remove=(bucket_id,))
            added = _file_all(rules, origins, asked.add, add=(bucket_id,))
            return Decision(rules, tree.seq, bucket.seq)

        target = Boundary(owner, "bucket", bucket_id)
        async with self._boundaries.locked(tree_key(owner)):
            answer = await self._handler.change(caller, target, attempt)
        return BucketFiled(answer, added, removed)

    async def _origins(self, owner: str, blob_ids: Sequence[str]) -> dict[str, Origin]:
        """What is known of blobs. Raises NotFound for one that is not there."""
        origins = await self._boundaries.origins(owner, tuple(dict.fromkeys(blob_ids)))
        for blob_id in blob_ids:
            if blob_id not in origins:
                raise NotFound(f"There is no blob {blob_id}.")
        return origins


def _file_all(
    rules: TreeRules,
    origins: dict[str, Origin],
    blob_ids: Sequence[str],
    *,
    add: tuple[str, ...] = (),
    remove: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """File each of the blobs alike; answers those for which that changes anything."""
    changed: list[str] = []
    places = {blob_id: place for place, blob_id in reversed(list(enumerate(blob_ids)))}
    for blob_id in dict.fromkeys(blob_ids):
        origin = origins[blob_id]
        present = rules.tree.filed(blob_id, origin.bucket_ids)
        after = rules.file(blob_id, origin.schema_id, present, add, remove)
        _check_count(present, after, f"/add/{places[blob_id]}")
        if after != present:
            changed.append(blob_id)
    return tuple(changed)


def _check_count(before: Sequence[str], after: Sequence[str], path: str) -> None:
    """Raise Invalid if a blob comes into more buckets than it may be in, the trash counted."""
    if len(after) > max(MAX_BUCKETS, len(before)):
        sentence = f"A blob is in at most {MAX_BUCKETS} buckets, those in the trash included."
        raise Invalid("The request breaks a rule.", [FieldError(path, "maxItems", sentence)])
