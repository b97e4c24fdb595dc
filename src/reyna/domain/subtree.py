"""A bucket with all below it, as a processor is given it. How it is read from the log belongs to
`reyna.commands.subtrees`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class FiledBlob(msgspec.Struct, frozen=True, kw_only=True):
    """A blob in a bucket. `variants` are what processors made of it, the oldest first, wherever
    they are filed; `stale`: its source's data have changed since it was made.
    """

    blob_id: str
    schema_id: str
    data: msgspec.Raw
    title: str | None
    tags: tuple[str, ...]
    metadata: msgspec.Raw
    parent_id: str | None
    created_at: str
    changed_at: str
    stale: bool = False
    variants: tuple[FiledBlob, ...] = ()


class FilledBucket(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket with its blobs in the order they were made, and its children in theirs."""

    bucket_id: str
    name: str
    type: str
    metadata: msgspec.Raw
    tags: tuple[str, ...]
    blobs: tuple[FiledBlob, ...]
    children: tuple[FilledBucket, ...]


class Contents(Protocol):
    """What is in a bucket and below it, right after the event `seq`."""

    seq: int

    async def read(self, schema_ids: Sequence[str]) -> FilledBucket:
        """The bucket with all its blobs of these schemas, nothing that is in the trash among them.

        Raises Permanent when the bucket is gone, or there is more than may be held at once.
        """
