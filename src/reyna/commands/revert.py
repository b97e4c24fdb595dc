"""Undo: a blob or a bucket as it was after an earlier event, by new events. Owns reading what was
so then; whether it may be so again is decided by the same rules as any other change.
"""

from __future__ import annotations

from reyna.commands.boundaries import Boundaries
from reyna.commands.bucket_types import BucketTypes
from reyna.commands.handler import Caller, Decision, Handler, IfMatch, check_match, tree_key
from reyna.commands.idempotency import Answer
from reyna.domain import blob
from reyna.domain.blob import Blob, BlobContent, BlobRules
from reyna.domain.bucket import Bucket, BucketDescription, Tree
from reyna.domain.event import Boundary
from reyna.domain.tree_rules import TreeRules
from reyna.errors import FieldError, Invalid, LogUnavailable, NotFound
from reyna.log import subjects
from reyna.log.record import Record, decode
from reyna.log.stream import Log


class Reverts:
    """Reverting blobs and buckets. `max_depth`: buckets on one path."""

    def __init__(
        self,
        log: Log,
        handler: Handler,
        boundaries: Boundaries,
        types: BucketTypes,
        max_depth: int,
    ) -> None:
        self._log = log
        self._handler = handler
        self._boundaries = boundaries
        self._types = types
        self._max_depth = max_depth

    async def blob(self, caller: Caller, blob_id: str, to: int, if_match: IfMatch) -> Answer:
        """Give a blob the content that it had right after `to`.

        Its data is not checked again: a blob's schema version never changes, nor does the version,
        so what was valid then is valid now. Raises Invalid if the blob was not there then.
        """
        target = blob.boundary(caller.user_id, blob_id)

        async def attempt(_: str) -> Decision:
            current = await self._boundaries.blob(caller.user_id, blob_id)
            rules = BlobRules(caller.user_id, blob_id, current)
            present = rules.present()
            check_match(present.seq, if_match)
            if to < present.seq:
                rules.update(_content(await self._blob_then(target, blob_id, to)), to)
            else:
                await self._check_reached(to)
            return Decision(rules, present.boundary_seq, present.seq)

        return await self._handler.change(caller, target, attempt)

    async def bucket(self, caller: Caller, bucket_id: str, to: int, if_match: IfMatch) -> Answer:
        """Give a bucket the description and the place that it had right after `to`.

        Raises Invalid if it was not there then or its metadata is not valid any more, Conflict if
        it cannot stand where it stood.
        """

        async def attempt(_: str) -> Decision:
            # Where nothing is to be changed no guard tells that the tree was an old one.
            tree = await self._boundaries.tree(caller.user_id, fresh=True)
            # The tree may take in other events meanwhile: the decision rests on this one.
            seq = tree.seq
            present = tree.live(bucket_id)
            own_seq = present.seq
            check_match(own_seq, if_match)
            rules = TreeRules(caller.user_id, tree, self._max_depth)
            if to < seq:
                then = await self._bucket_then(caller.user_id, bucket_id, to)
                if (then.type, then.metadata) != (present.type, present.metadata):
                    await self._types.check(caller.user_id, [], [_description(then)], "/to")
                rules.revert(bucket_id, then, to)
            else:
                await self._check_reached(to)
            return Decision(rules, seq, own_seq)

        target = Boundary(caller.user_id, "bucket", bucket_id)
        async with self._boundaries.locked(tree_key(caller.user_id)):
            return await self._handler.change(caller, target, attempt)

    async def _blob_then(self, target: Boundary, blob_id: str, to: int) -> Blob:
        state: Blob | None = None
        for record in await self._records(target, to):
            state = blob.fold(state, blob_id, record.event, record.seq, record.time)
        if state is None:
            raise _refused(f"There was no blob {blob_id} yet after event {to}.")
        if state.deleted:
            raise _refused(f"The blob was in the trash after event {to}.")
        return state

    async def _bucket_then(self, owner: str, bucket_id: str, to: int) -> Bucket:
        """The bucket, and for the trash those above it: of all others nothing is read."""
        past = Tree()
        next_id: str | None = bucket_id
        while next_id is not None and next_id not in past.buckets:
            for record in await self._records(Boundary(owner, "bucket", next_id), to):
                past.fold(record.entity_id, record.event, record.seq, record.time)
            if next_id not in past.buckets:
                raise _refused(f"There was no bucket {bucket_id} yet after event {to}.")
            next_id = past.buckets[next_id].parent
        try:
            return past.live(bucket_id)
        except NotFound:
            raise _refused(f"The bucket was in the trash after event {to}.") from None

    async def _records(self, boundary: Boundary, to: int) -> list[Record]:
        stored = await self._log.last_of_each(subjects.guard(boundary), up_to=to)
        if stored is None:
            raise LogUnavailable(f"What was after event {to} cannot be read.")
        return [decode(message) for message in stored]

    async def _check_reached(self, to: int) -> None:
        """Raise Invalid for a seq that the log has not reached."""
        head = await self._log.head()
        if to > head:
            raise _refused(f"The log has not come to event {to} yet: its last one is {head}.")


def _content(then: Blob) -> BlobContent:
    return BlobContent(
        schema_id=then.schema_id,
        data=then.data,
        title=then.title,
        tags=then.tags,
        metadata=then.metadata,
    )


def _description(then: Bucket) -> BucketDescription:
    return BucketDescription(name=then.name, type=then.type, metadata=then.metadata, tags=then.tags)


def _refused(sentence: str) -> Invalid:
    return Invalid(sentence, [FieldError("/to", "seq", sentence)])
