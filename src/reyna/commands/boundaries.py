"""Boundaries, folded for decisions. Owns the cache of trees; a stale one costs a retry, never a
wrong write.

A blob or a run is read when it is asked for (its subjects are few); a tree is kept and brought up
to date with what was appended since. Where a blob is filed is the tree's to say. How a tree is read
is `reyna.commands.trees`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from reyna.commands import trees
from reyna.domain import blob, bucket, processor
from reyna.domain.blob import Blob
from reyna.domain.bucket import Tree
from reyna.domain.event import Boundary
from reyna.domain.processor import Run
from reyna.errors import LogUnavailable
from reyna.log import subjects
from reyna.log.record import Record, decode
from reyna.log.stream import Draft, Log

TREES = 2048
# Blobs looked up by one request: the server answers with at most 1024 messages.
AT_ONCE = 64
# Seconds; with the append after it, a client that waits for five must still hear our 503.
TURN_WITHIN = 1.5


class Origin(msgspec.Struct, frozen=True):
    """What filing needs to know of a blob: its schema, and the buckets it was made in."""

    schema_id: str
    bucket_ids: tuple[str, ...]


class Boundaries:
    """Folded boundaries over one log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._trees: OrderedDict[str, Tree] = OrderedDict()
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    async def records(self, boundary: Boundary) -> list[Record]:
        """The last record of each subject in a boundary, in order: enough to know what it
        guards.
        """
        return await trees.last_records(self._log, subjects.guard(boundary))

    async def blob(self, owner: str, blob_id: str) -> Blob | None:
        """The blob where it is filed now, None if it never was."""
        state = await self.bare_blob(owner, blob_id)
        return None if state is None else filed(state, await self.tree(owner, fresh=True))

    async def bare_blob(self, owner: str, blob_id: str) -> Blob | None:
        """The blob by the events of its own boundary alone, None if it never was: in the buckets
        it was made in, wherever it may have been filed since.
        """
        records = await self.records(blob.boundary(owner, blob_id))
        return _fold(records).get(blob_id)

    async def origins(self, owner: str, blob_ids: Sequence[str]) -> dict[str, Origin]:
        """What filing needs to know of some blobs, without those that never were or are in the
        trash.
        """
        found: dict[str, Origin] = {}
        for start in range(0, len(blob_ids), AT_ONCE):
            some = blob_ids[start : start + AT_ONCE]
            for blob_id, state in _fold(await self._records_of(owner, some)).items():
                if not state.deleted:
                    found[blob_id] = Origin(state.schema_id, state.bucket_ids)
        return found

    async def _records_of(self, owner: str, blob_ids: Sequence[str]) -> list[Record]:
        boundaries = [blob.boundary(owner, blob_id) for blob_id in blob_ids]
        stored = await self._log.last_of_each(*map(subjects.guard, boundaries))
        if stored is not None:
            return [decode(message) for message in stored]
        # Together they are too large for one answer.
        return [record for boundary in boundaries for record in await self.records(boundary)]

    async def run(self, owner: str, run_id: str) -> Run | None:
        """The run, None if nothing is known of it yet."""
        state: Run | None = None
        for record in await self.records(processor.boundary(owner, run_id)):
            state = processor.fold(state, run_id, record.event, record.seq)
        return state

    async def tree(self, owner: str, *, fresh: bool = False) -> Tree:
        """The owner's tree. `fresh` asks the log what was appended since it was last looked at."""
        last = 0
        if fresh and owner in self._trees:
            last = await self._log.last_seq(subjects.guard(bucket.boundary(owner)))
        tree = self._trees.get(owner)
        if tree is not None and tree.seq >= last:
            self._trees.move_to_end(owner)
            return tree
        async with self.locked(f"load {owner}"):
            return await self._load(owner)

    async def own_tree(self, owner: str) -> Tree:
        """A tree of the caller's own, as the log has it now: not the one that is kept here."""
        return await trees.load(self._log, owner)

    async def refresh(self, owner: str) -> None:
        """Bring an owner's tree up to date if it is kept here: others may have moved it."""
        if owner in self._trees:
            await self.tree(owner, fresh=True)

    def appended(self, seq: int, guard_seq: int, drafts: Sequence[Draft]) -> None:
        """Fold what was just appended under a guard at `guard_seq`; `seq` is the last draft's."""
        tree = self._trees.get(drafts[0].owner)
        if tree is None or tree.seq != guard_seq:
            return
        for number, draft in enumerate(drafts, start=seq - len(drafts) + 1):
            if draft.event.KIND == "bucket":
                tree.fold(draft.entity_id, draft.event, number, draft.meta.time)

    @asynccontextmanager
    async def locked(self, key: str) -> AsyncIterator[None]:
        """One at a time for each key in this process: saves conflicts, guarantees nothing
        elsewhere. Raises LogUnavailable when its turn does not come in TURN_WITHIN seconds.
        """
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            await _acquire(lock)
            try:
                yield
            finally:
                lock.release()
        finally:
            lock, users = self._locks[key]
            if users == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, users - 1)

    async def _load(self, owner: str) -> Tree:
        tree = self._trees.get(owner)
        newer = None
        if tree is not None:
            newer = await self._log.since(subjects.guard(bucket.boundary(owner)), tree.seq)
        if tree is None or newer is None:
            tree, newer = await trees.load(self._log, owner), []
        for record in map(decode, newer):
            if record.seq > tree.seq:
                tree.fold(record.entity_id, record.event, record.seq, record.time)
        self._trees[owner] = tree
        self._trees.move_to_end(owner)
        while len(self._trees) > TREES:
            self._trees.popitem(last=False)
        return tree


def filed(state: Blob, tree: Tree) -> Blob:
    """The blob in the buckets where the tree has it; its `seq` counts the filings."""
    filing = tree.filings.get(state.blob_id)
    if filing is None:
        return state
    return msgspec.structs.replace(
        state, bucket_ids=filing.bucket_ids, seq=max(state.seq, filing.seqs[-1])
    )


def _fold(records: Sequence[Record]) -> dict[str, Blob]:
    """The blobs in some records, by id."""
    states: dict[str, Blob] = {}
    for record in records:
        known = states.get(record.entity_id)
        state = blob.fold(known, record.entity_id, record.event, record.seq, record.time)
        if state is not None:
            states[record.entity_id] = state
    return states


async def _acquire(lock: asyncio.Lock) -> None:
    try:
        async with asyncio.timeout(TURN_WITHIN):
            await lock.acquire()
    except TimeoutError as error:
        raise LogUnavailable("Others are changing the same thing; try again.") from error
