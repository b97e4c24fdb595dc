"""The object store on a real nats-server: chunks, ranges, guards, and what the sweep takes."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from nats.js import api

from reyna.domain.blob import MEDIA_SCHEMA, BlobCreated, Media
from reyna.errors import LogUnavailable, ReynaError
from reyna.log import embedded
from reyna.log.connection import Connection
from reyna.log.media import MediaStore, Object
from reyna.log.objects import BUCKET, CHUNK, MARK_EVERY, STREAM, chunks_of
from reyna.log.stream import Log
from reyna.runtime.media_sweep import MediaSweep, Swept
from tests.events import draft, of_blob
from tests.files import Held, held

NOTHING = Held(frozenset(), frozenset())
# Several batches of the reader's, several marks, and an end that fills no chunk.
SIZE = CHUNK * (2 * MARK_EVERY + 5) + 123
CONTENT = random.Random(7).randbytes(SIZE)
NOW = timedelta(0)


@pytest.fixture
async def store(connection: Connection) -> MediaStore:
    """An empty store."""
    return await MediaStore.open(connection)


@pytest.fixture
def sweep(log: Log, store: MediaStore) -> MediaSweep:
    """Its sweep."""
    return MediaSweep(log, store)


async def put(store: MediaStore, content: bytes, owner: str = "u1") -> Object:
    """An object, kept."""
    upload = store.upload()
    await upload.write(content)
    await upload.finish()
    kept = await store.keep(upload, owner)
    if not kept.fresh:
        await upload.discard()
    return kept.object


async def read(store: MediaStore, found: Object, start: int = 0, stop: int | None = None) -> bytes:
    """Bytes of an object."""
    stop = found.info.size if stop is None else stop
    return b"".join([piece async for piece in store.read(found, start, stop)])


async def handed_out(store: MediaStore, found: Object) -> int:
    """How many bytes of a broken object are handed out before that is noticed: it must be."""
    count = 0

    async def take() -> None:
        nonlocal count
        async for piece in store.read(found, 0, found.info.size):
            count += len(piece)

    with pytest.raises(ReynaError):
        await take()
    return count


async def refer(log: Log, owner: str, found: Object) -> None:
    """Append the event of a blob that has the object as its file."""
    sha256 = found.info.name.rpartition("/")[2]
    media = Media(file_name="a", content_type="x/y", bytes=found.info.size, sha256=sha256)
    event = BlobCreated(schema_id=MEDIA_SCHEMA, data=b"{}", media=media)  # type: ignore[arg-type]
    await log.append([draft(owner, "b1", event)], of_blob(0, owner, "b1"))


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, SIZE])
async def test_what_was_stored_is_read_back(store: MediaStore, size: int) -> None:
    """Files of any size come back to the byte, in pieces no larger than a chunk."""
    made = await put(store, CONTENT[:size])
    found = await store.find("u1", hashlib.sha256(CONTENT[:size]).hexdigest())
    assert found == made
    pieces = [piece async for piece in store.read(made, 0, size)]
    assert b"".join(pieces) == CONTENT[:size]
    assert all(0 < len(piece) <= CHUNK for piece in pieces)


async def test_other_clients_of_nats_read_it(store: MediaStore, connection: Connection) -> None:
    """The layout is NATS's own: its client finds the object by name, and its digest holds."""
    made = await put(store, CONTENT)
    theirs = await connection.client.jetstream().object_store(BUCKET)
    got = await theirs.get(made.info.name)
    assert got.data == CONTENT
    assert [info.name for info in await theirs.list()] == [made.info.name]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[MediaStore, Object]]:
    """An object whose chunks lie among those of another that was stored at the same time."""
    async with embedded.running(tmp_path_factory.mktemp("ranges"), "interval") as server:
        connection = await Connection.open(server.url, server.token)
        store = await MediaStore.open(connection)
        upload, other = store.upload(), store.upload()
        for start in range(0, SIZE, CHUNK):
            await upload.write(CONTENT[start : start + CHUNK])
            await other.write(CONTENT[start : start + 2 * CHUNK])
        await upload.finish()
        await other.finish()
        yield store, (await store.keep(upload, "u1")).object
        await connection.close()


@pytest.mark.asyncio(loop_scope="module")
@given(st.integers(0, SIZE), st.integers(0, SIZE))
async def test_a_range_is_a_slice(shared: tuple[MediaStore, Object], start: int, stop: int) -> None:
    """Any range is what slicing the file gives, though its chunks do not lie side by side."""
    store, found = shared
    assert await read(store, found, start, stop) == CONTENT[start:stop]


async def test_the_end_of_a_file_is_read_without_its_beginning(
    store: MediaStore, connection: Connection
) -> None:
    """A range needs only the chunks from the mark before it: what is before may be gone."""
    made = await put(store, CONTENT)
    manager = connection.client.jetstream()
    for seq in range(1, MARK_EVERY + 1):
        await manager.delete_msg(STREAM, seq)
    start = MARK_EVERY * CHUNK
    assert await read(store, made, start) == CONTENT[start:]


@pytest.mark.parametrize("chunk", [0, 1, MARK_EVERY, 20, SIZE // CHUNK])
async def test_a_missing_chunk_is_noticed(
    store: MediaStore, connection: Connection, chunk: int
) -> None:
    """Where a chunk is missing reading raises, with fewer bytes handed out than asked for."""
    made = await put(store, CONTENT)
    await connection.client.jetstream().delete_msg(STREAM, chunk + 1)
    assert await handed_out(store, made) < SIZE


async def test_changed_bytes_are_noticed(store: MediaStore, connection: Connection) -> None:
    """A whole file whose digest is wrong is never handed out to its end."""
    made = await put(store, CONTENT)
    # The last chunk, replaced by another of the same length.
    await connection.client.jetstream().delete_msg(STREAM, SIZE // CHUNK + 1)
    await connection.client.jetstream().publish(chunks_of(made.info.nuid), bytes(123))
    assert await handed_out(store, made) < SIZE


async def test_the_same_bytes_are_one_object_of_each_owner(store: MediaStore) -> None:
    """Of uploads of the same bytes at once one is kept for each owner; all answer it."""
    uploads = [store.upload() for _ in range(6)]
    for upload in uploads:
        await upload.write(CONTENT[:1000])
        await upload.finish()
    owners = ["u1", "u1", "u1", "u2", "u2", "u2"]
    kept = await asyncio.gather(
        *(store.keep(upload, owner) for upload, owner in zip(uploads, owners, strict=True))
    )
    assert [one.fresh for one in kept[:3]].count(True) == 1
    assert [one.fresh for one in kept[3:]].count(True) == 1
    assert len({one.object.info.nuid for one in kept[:3]}) == 1
    assert len({one.object.info.nuid for one in kept}) == 2
    for upload, one in zip(uploads, kept, strict=True):
        assert upload.committed is one.fresh


async def test_a_discarded_upload_leaves_nothing(store: MediaStore) -> None:
    """Chunks that were stored, and those still on their way, are gone after discarding."""
    upload = store.upload()
    await upload.write(CONTENT)
    await upload.discard()
    assert await held(store) == NOTHING


async def test_what_others_need_is_not_removed(store: MediaStore) -> None:
    """Removing an object as it was found fails once somebody has needed it; then succeeds."""
    first = await put(store, b"words")
    again = await put(store, b"words")
    assert not await store.remove(first)
    assert await read(store, again) == b"words"
    assert await store.remove(again)
    assert await held(store) == NOTHING
    assert await read(store, await put(store, b"words")) == b"words"


async def test_the_sweep_takes_what_nothing_refers_to(
    log: Log, store: MediaStore, sweep: MediaSweep
) -> None:
    """Objects without an event and chunks without an object go; what an event refers to stays."""
    referred = await put(store, CONTENT[:1000])
    await refer(log, "u1", referred)
    # Another owner's event is not this one's.
    await put(store, CONTENT[:1000], "u2")
    await put(store, b"left over")
    broken = store.upload()
    await broken.write(CONTENT)
    await broken.finish()
    before = await held(store)
    assert await sweep.sweep() == Swept(0, 0)
    assert await held(store) == before
    assert await sweep.sweep(NOW) == Swept(2, 1)
    assert await held(store) == Held(
        frozenset({referred.info.name}), frozenset({referred.info.nuid})
    )
    assert await read(store, referred) == CONTENT[:1000]
    assert await sweep.sweep(NOW) == Swept(0, 0)


async def test_what_a_sweep_has_claimed_becomes_no_object(
    store: MediaStore, sweep: MediaSweep
) -> None:
    """An upload that slept through a sweep fails, instead of making an object without chunks."""
    for purged in (True, False):
        upload = store.upload()
        await upload.write(CONTENT)
        await upload.finish()
        if purged:
            assert await sweep.sweep(NOW) == Swept(0, 1)
        else:
            assert await store.claim(upload.nuid, "9999")
        with pytest.raises(LogUnavailable):
            await store.keep(upload, "u1")
        await sweep.sweep(NOW)
        assert await held(store) == NOTHING


async def test_what_is_needed_again_is_not_swept(log: Log, store: MediaStore) -> None:
    """An object that is given again while a sweep decides on it stays."""
    await put(store, b"words")

    class Slow(MediaSweep):
        async def _referred(self) -> set[str]:
            found = await super()._referred()
            await refer(log, "u1", await put(store, b"words"))
            return found

    assert await Slow(log, store).sweep(NOW) == Swept(0, 0)
    found = await store.find("u1", hashlib.sha256(b"words").hexdigest())
    assert found is not None
    assert await read(store, found) == b"words"


async def test_sweeps_do_not_hinder_each_other(
    log: Log, store: MediaStore, sweep: MediaSweep
) -> None:
    """Two sweeps at once leave what one would have left."""
    kept = await put(store, b"kept")
    await refer(log, "u1", kept)
    for number in range(5):
        await put(store, f"left over {number}".encode())
        broken = store.upload()
        await broken.write(CONTENT[:CHUNK])
        await broken.finish()
    swept = await asyncio.gather(*(sweep.sweep(NOW) for _ in range(3)))
    assert sum(one.objects for one in swept) == 5
    await sweep.sweep(NOW)
    assert (await held(store)).objects == {kept.info.name}
    assert await read(store, kept) == b"kept"


async def test_more_objects_than_a_page_are_seen(store: MediaStore) -> None:
    """All objects are listed, also more than one answer holds."""
    for start in range(0, 300, 50):
        await asyncio.gather(*(put(store, f"{start + number}".encode()) for number in range(50)))
    found = await held(store)
    assert (len(found.objects), len(found.chunk_sets)) == (300, 300)


async def test_the_stream_is_one_of_nats(connection: Connection, store: MediaStore) -> None:
    """The stream is on disk, refuses what does not fit, and opening it again changes nothing."""
    await put(store, b"words")
    again = await MediaStore.open(connection)
    assert len((await held(again)).objects) == 1
    config = (await connection.client.jetstream().stream_info(STREAM)).config
    assert config.storage == api.StorageType.FILE
    assert config.discard == api.DiscardPolicy.NEW
