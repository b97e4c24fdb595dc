"""Stored blobs, held against a candidate schema. Read from the log itself, not from a view, so that
nothing that was acknowledged is missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec

from reyna.domain.blob import BlobContent, BlobDeleted, BlobRestored
from reyna.judge.pool import Judges, TooCostly
from reyna.judge.tasks import Definition, Sift
from reyna.log import subjects
from reyna.log.follow import Follower
from reyna.log.record import Record, decode
from reyna.log.stream import Log

# Seconds for all blobs together.
DEADLINE = 20.0
AT_ONCE = 200
NAMED = 100


class Sifted(msgspec.Struct, frozen=True):
    """How many blobs were looked at, how many would not be valid, and the first of these."""

    checked: int = 0
    broken: int = 0
    broken_blob_ids: tuple[str, ...] = ()


class StoredBlobs:
    """All blobs in the log."""

    def __init__(self, log: Log, judges: Judges) -> None:
        self._log = log
        self._judges = judges

    async def sift(
        self, user_id: str, owner: str | None, schema_ids: Sequence[str], definition: Definition
    ) -> Sifted:
        """Hold the blobs of some schemas, an owner's or everybody's, against a definition.

        Blobs in the trash are left out. Raises TooCostly when it takes too long.
        """
        valid: dict[tuple[str, str], bool] = {}
        trashed: set[tuple[str, str]] = set()
        filters = [subjects.of_blobs(owner, schema_id) for schema_id in schema_ids]
        try:
            async with asyncio.timeout(DEADLINE):
                async for records in self._records(filters):
                    await self._take(user_id, records, definition, valid, trashed)
        except TimeoutError:
            raise TooCostly(f"Checking all blobs takes more than {DEADLINE:g} s.") from None
        kept = {key: holds for key, holds in valid.items() if key not in trashed}
        broken = sorted(blob_id for (_, blob_id), holds in kept.items() if not holds)
        return Sifted(len(kept), len(broken), tuple(broken[:NAMED]))

    async def _take(
        self,
        user_id: str,
        records: Sequence[Record],
        definition: Definition,
        valid: dict[tuple[str, str], bool],
        trashed: set[tuple[str, str]],
    ) -> None:
        contents: list[tuple[tuple[str, str], bytes]] = []
        for record in records:
            key = (record.owner, record.entity_id)
            match record.event:
                case BlobContent(data=data):
                    contents.append((key, bytes(data)))
                case BlobDeleted():
                    trashed.add(key)
                case BlobRestored():
                    trashed.discard(key)
        if contents:
            task = Sift(definition, tuple(data for _, data in contents))
            answer = await self._judges.ask(user_id, task)
            valid.update(zip((key for key, _ in contents), answer.valid, strict=True))

    async def _records(self, filters: list[str]) -> AsyncIterator[list[Record]]:
        """The last event of each kind of every blob, in order, some at a time."""
        follower = Follower(self._log.connection, filters, 0, last_per_subject=True)
        batches = follower.batches()
        try:
            async for batch in batches:
                for start in range(0, len(batch.messages), AT_ONCE):
                    yield [decode(one) for one in batch.messages[start : start + AT_ONCE]]
                if not batch.pending:
                    return
        finally:
            await batches.aclose()
