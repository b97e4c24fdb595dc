"""Commands on files: taking one in, and finding the one of a blob. Owns what a broken upload leaves
behind: nothing.

The bytes are stored first and their blob is created last. Whatever ends an upload before that
removes what it stored; what a crash leaves is found by `reyna.runtime.media_sweep`.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager

import msgspec
from msgspec import UNSET

from reyna.commands.blobs import BlobCommands
from reyna.commands.boundaries import Boundaries
from reyna.commands.handler import Caller
from reyna.commands.idempotency import Answer
from reyna.commands.media_types import TypeCheck, file_name
from reyna.commands.requests import UploadMedia
from reyna.domain.blob import Media
from reyna.errors import LogUnavailable, NotFound, Rejected, ReynaError, TooLarge, TooManyRequests
from reyna.log.media import MediaStore

logger = logging.getLogger(__name__)

# At a time, for each user and in each process: a few MB of memory each.
UPLOADS = 4
DOWNLOADS = 32
RETRY_AFTER = 5
# Bytes of a file made here that are handed on at a time.
PIECE = 1024 * 1024


class Incoming:
    """A file that is coming in, piece by piece."""

    def __init__(self, store: MediaStore, max_bytes: int) -> None:
        self.upload = store.upload()
        self._max_bytes = max_bytes
        self._name: str | None = None
        self._check = TypeCheck(None)

    def begin(self, name: str | None, declared: str | None) -> None:
        """The file's name and type as its sender says them."""
        self._name = name
        self._check = TypeCheck(declared)

    async def write(self, data: bytes) -> None:
        """The next bytes. Raises TooLarge and Invalid as soon as it is clear, LogUnavailable."""
        if self.upload.size + len(data) > self._max_bytes:
            raise TooLarge(f"The file has more than the {self._max_bytes} bytes that are taken.")
        self._check.take(data)
        await self.upload.write(data)

    async def end(self) -> Media:
        """What the file turned out to be, now that all of it is stored."""
        content_type = self._check.end()
        await self.upload.finish()
        return Media(
            file_name=file_name(self._name),
            content_type=content_type,
            bytes=self.upload.size,
            sha256=self.upload.sha256.hex(),
        )


class MediaCommands:
    """Files of blobs. `max_bytes` bounds one file."""

    def __init__(
        self, blobs: BlobCommands, boundaries: Boundaries, store: MediaStore, max_bytes: int
    ) -> None:
        self.max_bytes = max_bytes
        self._blobs = blobs
        self._boundaries = boundaries
        self._store = store
        self._uploads = _Slots(UPLOADS)
        self._downloads = _Slots(DOWNLOADS)

    @asynccontextmanager
    async def incoming(self, user_id: str) -> AsyncIterator[Incoming]:
        """A file to be written; removed at the end of the block unless a blob was made of it.

        Raises TooManyRequests when the user has too many on their way already.
        """
        with self._uploads.taken(user_id):
            incoming = Incoming(self._store, self.max_bytes)
            try:
                yield incoming
            finally:
                if not incoming.upload.committed:
                    await _or_leave(incoming.upload.discard())

    async def create(
        self, caller: Caller, asked: UploadMedia, incoming: Incoming, media: Media
    ) -> Answer:
        """Make a blob of a file that has come in whole. `caller` may have a key; its fingerprint is
        made here, of the file and the fields.
        """
        if caller.key is not None:
            digest = hashlib.sha256(msgspec.json.encode(("blobs/media", asked, media)))
            caller = msgspec.structs.replace(caller, fingerprint=digest.hexdigest())
        # One at a time: what one has just stored, the other shall not store again.
        async with self._boundaries.locked(f"media {caller.user_id} {media.sha256}"):
            kept = await self._store.keep(incoming.upload, caller.user_id)
        try:
            return await self._blobs.create_media(caller, asked, media)
        except Rejected:
            # Nothing was appended. After any other error that is not known: the sweep finds out.
            if kept.fresh:
                await _or_leave(self._store.remove(kept.object))
            raise

    async def find(self, user_id: str, blob_id: str) -> Media:
        """The file of a living blob, as the log has it now. Raises NotFound."""
        blob = await self._boundaries.bare_blob(user_id, blob_id)
        if blob is None or blob.deleted or blob.media is UNSET:
            raise NotFound(f"There is no file of a blob {blob_id}.")
        return blob.media

    async def read(
        self, user_id: str, media: Media, start: int, stop: int
    ) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` up to but not including `stop`. It has begun: the first piece is
        there, or an error was raised.

        Raises TooManyRequests, LogUnavailable, ReynaError.
        """
        pieces = self._read(user_id, media, start, stop)
        try:
            # An empty one, given when the first real piece has been read.
            await anext(pieces)
        except BaseException:
            await pieces.aclose()
            raise
        return pieces

    async def _read(
        self, user_id: str, media: Media, start: int, stop: int
    ) -> AsyncGenerator[bytes, None]:
        with self._downloads.taken(user_id):
            found = await self._store.find(user_id, media.sha256)
            if found is None:
                raise ReynaError(f"The file {media.sha256} of {user_id} is not stored.")
            async with aclosing(self._store.read(found, start, stop)) as pieces:
                first = await anext(pieces, b"")
                yield b""
                if first:
                    yield first
                async for piece in pieces:
                    yield piece


async def keep_file(
    store: MediaStore, boundaries: Boundaries, owner: str, name: str, type_: str, content: bytes
) -> Media:
    """Store a file that was made here, once however often it is asked for. It counts as new, so
    that no sweep takes it before an event refers to it. Raises LogUnavailable.
    """
    upload = store.upload()
    try:
        for start in range(0, len(content), PIECE):
            await upload.write(content[start : start + PIECE])
        await upload.finish()
        sha256 = upload.sha256.hex()
        async with boundaries.locked(f"media {owner} {sha256}"):
            await store.keep(upload, owner)
    finally:
        if not upload.committed:
            await _or_leave(upload.discard())
    return Media(file_name=file_name(name), content_type=type_, bytes=upload.size, sha256=sha256)


async def _or_leave(removal: Awaitable[object]) -> None:
    """Remove what is not needed, or leave it to the sweep while the store is away."""
    try:
        await removal
    except LogUnavailable as error:
        logger.warning("a broken upload is left to the sweep: %s", error)


class _Slots:
    """At most so many at a time for each user."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, user_id: str) -> Iterator[None]:
        """Hold one. Raises TooManyRequests when all are taken."""
        if self._taken[user_id] >= self._most:
            raise TooManyRequests(
                f"At most {self._most} transfers at a time; wait for one to end.", RETRY_AFTER
            )
        self._taken[user_id] += 1
        try:
            yield
        finally:
            self._taken[user_id] -= 1
            if not self._taken[user_id]:
                del self._taken[user_id]
