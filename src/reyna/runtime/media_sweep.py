"""The sweep: what crashes left in the object store is removed. Owns when something counts as left
over.

An object is left over when no event of its owner refers to it, chunks are when no object does, and
either only after GRACE: an upload stores something every minute, or has been given up. Several
processes may sweep at once, and beside uploads: each removal is guarded by what it rests on.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import msgspec

from reyna.domain.blob import MEDIA_SCHEMA, BlobContent
from reyna.domain.event import Opaque
from reyna.errors import LogUnavailable, ReynaError
from reyna.ids import rfc3339
from reyna.log import subjects
from reyna.log.follow import read
from reyna.log.media import MediaStore, Object, name_of
from reyna.log.record import decode
from reyna.log.stream import Log

logger = logging.getLogger(__name__)

GRACE = timedelta(hours=1)
# Seconds between two sweeps.
EVERY = 3600.0


class Swept(msgspec.Struct, frozen=True):
    """How many objects and how many sets of chunks were removed."""

    objects: int
    chunk_sets: int


class MediaSweep:
    """Sweeps one object store, beside its log."""

    def __init__(self, log: Log, store: MediaStore) -> None:
        self._log = log
        self._store = store

    async def run(self) -> None:
        """Sweep at once and then every hour. Runs until cancelled."""
        while True:
            try:
                swept = await self.sweep()
                if swept.objects or swept.chunk_sets:
                    logger.info("removed left-over media: %s", swept)
            except LogUnavailable as error:
                logger.warning("left-over media is swept later: %s", error)
            except ReynaError:
                logger.exception("media cannot be swept")
            await asyncio.sleep(EVERY)

    async def sweep(self, grace: timedelta = GRACE) -> Swept:
        """Remove what nobody has needed for `grace`. Raises LogUnavailable."""
        before = rfc3339(datetime.now(UTC) - grace)
        old: list[Object] = []
        needed: set[str] = set()
        async for one in self._store.objects():
            needed.add(one.info.nuid)
            if one.info.mtime < before:
                old.append(one)
        return Swept(await self._sweep_objects(old), await self._sweep_chunks(needed, before))

    async def _sweep_objects(self, old: list[Object]) -> int:
        # Whatever is referred to from now on has been given or needed since.
        referred = await self._referred() if old else set()
        removed = 0
        for one in old:
            if one.info.deleted:
                await self._store.forget(one)
            elif one.info.name not in referred and await self._store.remove(one):
                removed += 1
        return removed

    async def _sweep_chunks(self, needed: set[str], before: str) -> int:
        there = await self._store.chunk_sets()
        claimed = {nuid for nuid in there - needed if await self._store.claim(nuid, before)}
        if claimed:
            # Looked at again: an object may have been made of them before they were claimed.
            claimed -= {one.info.nuid async for one in self._store.objects()}
        for nuid in claimed:
            await self._store.purge(nuid)
        return len(claimed)

    async def _referred(self) -> set[str]:
        """The names of the objects that events refer to."""
        found: set[str] = set()
        filters = [subjects.of_blobs(None, MEDIA_SCHEMA)]
        async for batch in read(self._log.connection, filters, 0, await self._log.head()):
            for stored in batch.messages:
                record = decode(stored)
                if isinstance(record.event, BlobContent) and record.event.media:
                    found.add(name_of(record.owner, record.event.media.sha256))
                elif isinstance(record.event, Opaque):
                    raise ReynaError(f"Event {record.seq} is of a newer version: nothing is swept.")
        return found
