"""The view of buckets: its fold, and what its routes answer."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections.tree import (
    Bucket,
    BucketNode,
    BucketPage,
    BucketTree,
    get_bucket,
    get_forest,
    get_subtree,
    list_buckets,
    projection,
)
from reyna.api.views import CallersView, encode_cursor
from reyna.domain.blob import (
    BlobCreated,
    BlobDeleted,
    BlobDerived,
    BlobRestored,
    BlobUpdated,
    Provenance,
)
from reyna.domain.bucket import BucketDescription, Tree, TreeRules
from reyna.domain.event import Opaque
from reyna.errors import Conflict, Malformed, NotFound
from reyna.log.record import Record
from tests.folding import History, folded, time_of

MAX_DEPTH = 1000
DATA = msgspec.Raw(b'{"content":"x"}')


class Forester:
    """Writes the history of one user's buckets by the real rules."""

    def __init__(self, history: History, owner: str = "ann") -> None:
        self.history = history
        self.owner = owner
        self.tree = Tree()

    def rules(self) -> TreeRules:
        """The rules on the tree as it is now."""
        return TreeRules(self.owner, self.tree, MAX_DEPTH)

    def keep(self, rules: TreeRules) -> None:
        """Append what was decided."""
        for decided in rules.decided():
            record = self.history.add(self.owner, decided.entity_id, decided.event)
            self.tree.fold(decided.entity_id, decided.event, record.seq, record.time)

    def create(
        self,
        bucket_id: str,
        parent: str | None = None,
        bucket_type: str = "part",
        tags: tuple[str, ...] = (),
    ) -> None:
        """Make a bucket that is named like its id."""
        rules = self.rules()
        rules.create(
            bucket_id, BucketDescription(name=bucket_id, type=bucket_type, tags=tags), parent
        )
        self.keep(rules)

    def describe(self, bucket_id: str, name: str, tags: tuple[str, ...] = ()) -> None:
        """Replace a bucket's description."""
        rules = self.rules()
        rules.describe(bucket_id, BucketDescription(name=name, type="part", tags=tags))
        self.keep(rules)

    def move(self, bucket_id: str, parent: str | None, position: int | None = None) -> None:
        """Put a bucket somewhere else."""
        rules = self.rules()
        rules.move(bucket_id, parent, position)
        self.keep(rules)

    def delete(self, bucket_id: str) -> None:
        """Put a bucket into the trash."""
        rules = self.rules()
        rules.delete(bucket_id)
        self.keep(rules)

    def restore(self, bucket_id: str) -> None:
        """Take a bucket out of the trash."""
        rules = self.rules()
        rules.restore(bucket_id)
        self.keep(rules)

    def shape(self) -> list[tuple[str, str | None, int, int]]:
        """All living buckets in order: id, parent, position and depth."""
        found: list[tuple[str, str | None, int, int]] = []
        for root in self.tree.children(None):
            for bucket, depth in self._walk(root):
                siblings = self.tree.children(bucket.parent)
                found.append((bucket.bucket_id, bucket.parent, siblings.index(bucket), depth))
        return found
