"""The blobs that a backfill goes through. Read from the log itself, not from a view, so that
nothing that was acknowledged is missed.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from reyna.commands.boundaries import Boundaries
from reyna.domain.blob import BlobCreated, BlobDeleted, BlobDerived, BlobRestored
from reyna.errors import NotFound
from reyna.log import subjects
from reyna.log.follow import Follower
from reyna.log.record import Record, decode
from reyna.log.stream import Log


class PastBlob(msgspec.Struct):
    """A blob that was made before, and the buckets it is in."""

    blob_id: str
    bucket_ids: tuple[str, ...]
    deleted: bool = False


async def past_blobs(
    log: Log,
    boundaries: Boundaries,
    owner: str,
    schema_ids: Collection[str],
    bucket_id: str | None,
    to: int,
) -> list[PastBlob]:
    """An owner's blobs of some schemas that were made up to the event `to` and are not in the
    trash, in the order they were made; with `bucket_id` those in it or below it.

    Raises NotFound when the bucket is gone.
    """
    blobs = await _made(log, owner, schema_ids, to)
    if bucket_id is None:
        return [blob for blob in blobs.values() if not blob.deleted]
    tree = await boundaries.own_tree(owner)
    if bucket_id not in tree.buckets:
        raise NotFound(f"There is no bucket {bucket_id}.")
    below = {bucket.bucket_id for bucket, _ in tree.subtree(tree.live(bucket_id))}
    found: list[PastBlob] = []
    for blob in blobs.values():
        filing = tree.filings.get(blob.blob_id)
        if filing is not None:
            blob.bucket_ids = filing.bucket_ids
        if not blob.deleted and not below.isdisjoint(blob.bucket_ids):
            found.append(blob)
    return found


async def _made(log: Log, owner: str, schema_ids: Collection[str], to: int) -> dict[str, PastBlob]:
    """The last event of each kind of every blob, folded as far as is asked for here."""
    blobs: dict[str, PastBlob] = {}
    filters = [subjects.of_blobs(owner, schema_id) for schema_id in schema_ids]
    batches = Follower(log.connection, filters, 0, last_per_subject=True).batches()
    try:
        async for batch in batches:
            for stored in batch.messages:
                _fold(blobs, decode(stored), to)
            if not batch.pending:
                return blobs
    finally:
        await batches.aclose()
    return blobs


def _fold(blobs: dict[str, PastBlob], record: Record, to: int) -> None:
    event = record.event
    if isinstance(event, BlobCreated | BlobDerived):
        if record.seq <= to:
            blobs[record.entity_id] = PastBlob(record.entity_id, event.bucket_ids)
        return
    blob = blobs.get(record.entity_id)
    if blob is not None and isinstance(event, BlobDeleted | BlobRestored):
        blob.deleted = isinstance(event, BlobDeleted)
