"""Boundaries, folded for decisions. Owns the cache of trees; a stale one costs a retry, never a
wrong write.

A blob or a run is read when it is asked for (its subjects are few); a tree is kept and brought up
to date with what was appended since.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from reyna.domain import blob, bucket, processor
from reyna.domain.blob import Blob
from reyna.domain.bucket import Tree
from reyna.domain.event import Boundary
from reyna.domain.processor import Run
from reyna.errors import LogUnavailable
from reyna.log import subjects
from reyna.log.follow import Follower
from reyna.log.record import Record, decode
from reyna.log.stream import Draft, Log

TREES = 2048
# Seconds; with the append after it, a client that waits for five must still hear our 503.
TURN_WITHIN = 1.5


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
        filter_ = subjects.guard(boundary)
        stored = await self._log.last_of_each(filter_)
        if stored is None:
            stored = []
            follower = Follower(self._log.connection, [filter_], 0, last_per_subject=True)
            batches = follower.batches()
            try:
                async for batch in batches:
                    stored.extend(batch.messages)
                    if not batch.pending:
                        break
            finally:
                await batches.aclose()
        return [decode(message) for message in stored]

    async def blob(self, owner: str, blob_id: str) -> Blob | None:
        """The blob, None if it never was."""
        state: Blob | None = None
        for record in await self.records(blob.boundary(owner, blob_id)):
            state = blob.fold(state, blob_id, record.event, record.seq, record.time)
        return state

    async def run(self, owner: str, run_id: str) -> Run | None:
        """The run, None if nothing is known of it yet."""
        state: Run | None = None
        for record in await self.records(processor.boundary(owner, run_id)):
            state = processor.fold(state, run_id, record.event, record.seq)
        return state

    async def tree(self, owner: str, *, fresh: bool = False) -> Tree:
        """The owner's tree. `fresh` asks the log what was appended since it was last looked at."""
        tree = self._trees.get(owner)
        if tree is not None and not fresh:
            self._trees.move_to_end(owner)
            return tree
        async with self.locked(f"load {owner}"):
            return await self._load(owner)

    async def own_tree(self, owner: str) -> Tree:
        """A tree of the caller's own, as the log has it now: not the one that is kept here."""
        tree = Tree()
        for record in await self.records(bucket.boundary(owner)):
            tree.fold(record.entity_id, record.event, record.seq, record.time)
        return tree

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
        boundary = bucket.boundary(owner)
        tree = self._trees.get(owner)
        newer = None
        if tree is not None:
            stored = await self._log.since(subjects.guard(boundary), tree.seq)
            newer = None if stored is None else [decode(message) for message in stored]
        if tree is None or newer is None:
            tree, newer = Tree(), await self.records(boundary)
        for record in newer:
            if record.seq > tree.seq:
                tree.fold(record.entity_id, record.event, record.seq, record.time)
        self._trees[owner] = tree
        self._trees.move_to_end(owner)
        while len(self._trees) > TREES:
            self._trees.popitem(last=False)
        return tree


async def _acquire(lock: asyncio.Lock) -> None:
    try:
        async with asyncio.timeout(TURN_WITHIN):
            await lock.acquire()
    except TimeoutError as error:
        raise LogUnavailable("Others are changing the same thing; try again.") from error
