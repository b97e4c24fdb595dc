"""Files over HTTP where something goes wrong: clients that leave, limits, two processes, no log."""

from __future__ import annotations

import asyncio
import hashlib
import random
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from reyna.commands import media
from reyna.log.media import MediaStore
from reyna.log.objects import CHUNK, STREAM
from reyna.settings import Settings
from tests.files import (
    Held,
    file_part,
    form,
    held,
    part,
    post_form,
    sending,
    status_of,
    store_of,
    upload,
)
from tests.support import Studio, User, events_of, eventually, problem, running_studio

CONTENT = random.Random(11).randbytes(CHUNK * 30 + 7)
BYTES = "application/octet-stream"
NOTHING = Held(frozenset(), frozenset())
LIMIT = 16_000_000


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    """A studio without processors, that takes files of LIMIT bytes."""
    settings = Settings(sync="interval", max_media_bytes=LIMIT)
    async with running_studio(tmp_path, settings) as running:
        yield running


@pytest.fixture
def user(studio: Studio) -> User:
    """A fresh user."""
    return studio.user()


@pytest.fixture
async def client(studio: Studio, user: User) -> AsyncIterator[httpx.AsyncClient]:
    """The fresh user's client."""
    async with studio.client(user.token) as client:
        yield client


@pytest.fixture
async def store(studio: Studio) -> AsyncIterator[MediaStore]:
    """The studio's object store."""
    async with store_of(studio) as store:
        yield store


async def test_a_client_that_leaves_leaves_nothing(
    studio: Studio, user: User, client: httpx.AsyncClient, store: MediaStore
) -> None:
    """A connection cut in the middle of a file: what was stored of it goes; there is no event."""
    whole = form(file_part(CONTENT, "a", BYTES))

    async def some() -> bool:
        return bool((await held(store)).chunk_sets)

    async def nothing() -> bool:
        return await held(store) == NOTHING

    for sent in (100, len(whole) // 2, len(whole) - 1):
        async with sending(studio, user.token, len(whole)) as (_, writer):
            writer.write(whole[:sent])
            await writer.drain()
            if sent > CHUNK:
                await eventually(some)
        await eventually(nothing)
    assert await events_of(client) == []
    # Nor do they count any more.
    for _ in range(media.UPLOADS + 1):
        await upload(client, CONTENT, "a", BYTES)


async def test_what_is_announced_too_large_is_413_at_once(
    studio: Studio, user: User, store: MediaStore
) -> None:
    """By its Content-Length a form is refused before any of it is sent."""
    async with sending(studio, user.token, LIMIT * 2) as (reader, _):
        assert await status_of(reader) == 413
    assert await held(store) == NOTHING


async def test_what_grows_too_large_is_413(
    studio: Studio, user: User, client: httpx.AsyncClient, store: MediaStore
) -> None:
    """A file is refused at the first byte too many, announced or not; the limit itself is taken."""
    fits = bytes(LIMIT)
    too_large = form(file_part(fits + b"!", "a", BYTES))

    async def unannounced() -> AsyncIterator[bytes]:
        for start in range(0, len(too_large), 50_000):
            yield too_large[start : start + 50_000]

    problem(await post_form(client, too_large), 413)
    problem(await post_form(client, unannounced()), 413)
    async with sending(studio, user.token, len(too_large)) as (reader, writer):
        # The end of the form is never sent: the answer does not wait for it.
        writer.write(too_large[:-10])
        assert await status_of(reader) == 413
    assert await held(store) == NOTHING
    assert await events_of(client) == []
    assert (await post_form(client, form(file_part(fits, "a", BYTES)))).status_code == 201


async def test_the_same_file_at_once_is_stored_once(
    studio: Studio, user: User, client: httpx.AsyncClient, store: MediaStore
) -> None:
    """Uploads of the same bytes at the same time, in two processes: as many blobs, one object."""
    async with studio.beside() as second, second.client(user.token) as other:
        made = await asyncio.gather(
            *(upload(one, CONTENT, "a", BYTES) for one in (client, other) for _ in range(3))
        )
        after = await held(store)
        assert (len(after.objects), len(after.chunk_sets)) == (1, 1)
        assert len({one["blob_id"] for one in made}) == 6
        for one in made:
            answer = await other.get(f"/blobs/{one['blob_id']}/media")
            assert answer.content == CONTENT


async def test_a_refused_upload_takes_only_its_own(
    studio: Studio, user: User, client: httpx.AsyncClient, store: MediaStore
) -> None:
    """Uploads that fail beside ones that succeed with the same bytes take nothing from them."""
    good = form(file_part(CONTENT, "a", BYTES))
    bad = form(file_part(CONTENT, "a", BYTES), part("bucket_ids", b"0" * 32))
    async with studio.beside() as second, second.client(user.token) as other:
        for _ in range(3):
            answers = await asyncio.gather(
                post_form(client, bad),
                post_form(other, good),
                post_form(other, bad),
                post_form(client, good),
            )
            assert [answer.status_code for answer in answers] == [404, 201, 404, 201]
            for answer in (answers[1], answers[3]):
                got = await client.get(f"/blobs/{answer.json()['blob_id']}/media")
                assert got.content == CONTENT
    assert len((await held(store)).chunk_sets) == 1
    assert len(await events_of(client)) == 6


async def test_a_key_at_once_in_two_processes_is_one_blob(
    studio: Studio, user: User, client: httpx.AsyncClient, store: MediaStore
) -> None:
    """The same keyed upload at the same moment everywhere: one answer, one event, one object."""
    body, headers = form(file_part(CONTENT, "a", BYTES)), {"Idempotency-Key": "once"}
    async with studio.beside() as second, second.client(user.token) as other:
        answers = await asyncio.gather(
            *(post_form(one, body, headers) for one in (client, other, client, other))
        )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert len(await events_of(client)) == 1
    assert len((await held(store)).chunk_sets) == 1


async def test_a_damaged_file_is_never_a_whole_answer(
    studio: Studio, client: httpx.AsyncClient, store: MediaStore
) -> None:
    """Where bytes are missing the answer is an error, or breaks off before its announced length."""
    blob_id = (await upload(client, CONTENT, "a", BYTES))["blob_id"]
    manager = store._connection.client.jetstream()
    await manager.delete_msg(STREAM, 20)
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get(f"/blobs/{blob_id}/media")
    # What does not need it is still there.
    start = await client.get(f"/blobs/{blob_id}/media", headers={"Range": "bytes=0-99"})
    assert start.content == CONTENT[:100]
    await manager.delete_msg(STREAM, 1)
    problem(await client.get(f"/blobs/{blob_id}/media"), 500)


async def test_without_the_log_a_transfer_is_503(studio: Studio, client: httpx.AsyncClient) -> None:
    """While nats-server is silent uploads and downloads are 503; afterwards both work."""
    blob_id = (await upload(client, CONTENT, "a", BYTES))["blob_id"]
    studio.signal_nats(signal.SIGSTOP)
    try:
        answers = await asyncio.gather(
            post_form(client, form(file_part(b"more" * CHUNK, "b", BYTES))),
            client.get(f"/blobs/{blob_id}/media"),
        )
    finally:
        studio.signal_nats(signal.SIGCONT)
    for answer in answers:
        problem(answer, 503)
        assert int(answer.headers["retry-after"]) >= 1
    got = await client.get(f"/blobs/{blob_id}/media")
    assert hashlib.sha256(got.content).digest() == hashlib.sha256(CONTENT).digest()
    await upload(client, b"more" * CHUNK, "b", BYTES)


async def test_a_reader_that_takes_nothing_holds_nobody_up(
    studio: Studio, user: User, client: httpx.AsyncClient
) -> None:
    """Readers that stand still are bounded, delay nobody, and are let go when they leave."""
    large = random.Random(12).randbytes(LIMIT)
    path = f"/blobs/{(await upload(client, large, 'a', BYTES))['blob_id']}/media"
    with ExitStack() as standing:
        for _ in range(media.DOWNLOADS):
            await stand_still(studio, user, path, standing)
        refused = await client.get(path)
        problem(refused, 429)
        assert int(refused.headers["retry-after"]) >= 1
        async with studio.client(studio.user().token) as stranger:
            theirs = (await upload(stranger, CONTENT, "a", BYTES))["blob_id"]
            assert (await stranger.get(f"/blobs/{theirs}/media")).content == CONTENT

    async def free() -> bool:
        return (await client.get(path)).status_code == 200

    await eventually(free)


async def stand_still(studio: Studio, user: User, path: str, standing: ExitStack) -> None:
    """Ask for a file, and take no more of it than the status."""
    host, _, port = studio.url.removeprefix("http://").partition(":")
    reader = standing.enter_context(socket.socket())
    # The kernel, too, shall take little.
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(reader, (host, int(port)))
    lines = [f"GET /api/v1{path} HTTP/1.1", "Host: x", f"Authorization: Bearer {user.token}"]
    await loop.sock_sendall(reader, "\r\n".join([*lines, "", ""]).encode())
    assert await loop.sock_recv(reader, 12) == b"HTTP/1.1 200"
