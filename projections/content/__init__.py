"""The view of blobs and buckets, now and at any moment of the past.

Owns GET blobs, GET buckets, their trees and lineage. One view, because each half asks the other:
a bucket counts its blobs, a blob is looked for below a bucket (docs/decisions/0019).

`tables` says what is kept, `fold` how events become rows; `blobs`, `lists`, `lineage`, `buckets`
and `trees` are the queries, which `search` (by words) and `meaning` (with `vectors`) answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from projections.content import blobs, buckets, lineage, lists, trees
from projections.content.fold import Fold
from projections.content.tables import metadata
from reyna.content import Projection, Tx
from reyna.log.record import Record


class Content(Projection):
    """Folds blob and bucket events into versions that hold from one seq to another."""

    name = "content"
    version = 3
    kinds = frozenset({"blob", "bucket"})
    tables = metadata
    temporal = True
    routes = (*blobs.routes, *lists.routes, *lineage.routes, *buckets.routes, *trees.routes)

    async def apply(self, tx: Tx, records: Sequence[Record]) -> None:
        """Fold a batch."""
        await Fold(tx, records).apply()


projection = Content()
