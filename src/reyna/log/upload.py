"""A file on its way into the object store. Owns cutting it into chunks, storing them and hashing
them.

A few chunks are on their way at a time, so a file is never held whole, and a slow disk slows its
sender. What the chunks make up is said when all are stored, by `reyna.log.media`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque

from reyna.errors import LogUnavailable
from reyna.ids import new_id
from reyna.log.connection import Connection
from reyna.log.objects import CHUNK, MARK_EVERY, ask, chunks_of, purge

# Chunks sent and not yet acknowledged.
WINDOW = 8


class Upload:
    """One file. `size` is what was written so far, `last_seq` the last stored chunk's.

    `committed` means that an object may refer to the chunks: they are no longer ours to discard.
    """

    def __init__(self, connection: Connection) -> None:
        self.nuid = new_id()
        self.size = 0
        self.chunks = 0
        self.last_seq = 0
        self.marks: list[int] = []
        self.committed = False
        self._connection = connection
        self._digest = hashlib.sha256()
        self._rest = bytearray()
        self._sending: deque[asyncio.Task[int]] = deque()

    @property
    def sha256(self) -> bytes:
        """The digest of what was written so far."""
        return self._digest.digest()

    async def write(self, data: bytes) -> None:
        """Take in some bytes; waits while too many are on their way. Raises LogUnavailable."""
        self.size += len(data)
        self._digest.update(data)
        self._rest += data
        while len(self._rest) >= CHUNK:
            chunk = bytes(self._rest[:CHUNK])
            del self._rest[:CHUNK]
            await self._send(chunk)

    async def finish(self) -> None:
        """Return once everything is stored. Raises LogUnavailable."""
        if self._rest:
            await self._send(bytes(self._rest))
            self._rest.clear()
        while self._sending:
            await self._acknowledged()

    async def discard(self) -> None:
        """Remove what was stored. Raises LogUnavailable: then the sweep will find it."""
        # A chunk on its way would be stored after the purge.
        await asyncio.gather(*self._sending, return_exceptions=True)
        self._sending.clear()
        await purge(self._connection, chunks_of(self.nuid))

    async def _send(self, chunk: bytes) -> None:
        if len(self._sending) >= WINDOW:
            await self._acknowledged()
        self._sending.append(asyncio.create_task(self._store(chunk)))

    async def _acknowledged(self) -> None:
        seq = await asyncio.shield(self._sending[0])
        self._sending.popleft()
        if seq <= self.last_seq:
            raise LogUnavailable("The object store has mixed up the chunks; send the file again.")
        if self.chunks % MARK_EVERY == 0:
            self.marks.append(seq)
        self.chunks += 1
        self.last_seq = seq

    async def _store(self, chunk: bytes) -> int:
        ack = await ask(self._connection, chunks_of(self.nuid), chunk)
        if ack.error is not None:
            raise LogUnavailable(f"The object store refused it: {ack.error.description}")
        return ack.seq
