"""The client's stream: whatever happens to its connections, every event is told once, in order."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from reyna.client import (
    CannotResume,
    Client,
    Event,
    Live,
    NotFound,
    Progress,
    Stream,
    StudioError,
    Unauthorized,
    Unreachable,
)
from reyna.client import session as session_module
from reyna.identity import tokens
from reyna.ids import new_id
from reyna.log import progress
from reyna.log.connection import Connection
from reyna.runtime import hub
from tests.proxy import Proxy
from tests.support import DEADLINE, SECRET, Studio, User, eventually, running_studio

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def studio(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Studio]:
    """One studio without processors for all tests here: each brings users of its own."""
    async with running_studio(tmp_path_factory.mktemp("stream")) as running:
        yield running


@pytest.fixture
def user(studio: Studio) -> User:
    """A fresh user."""
    return studio.user()


@pytest_asyncio.fixture(loop_scope="module")
async def client(studio: Studio, user: User) -> AsyncIterator[Client]:
    """The fresh user's client."""
    async with Client(studio.url, token=user.token) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def proxy(studio: Studio) -> AsyncIterator[Proxy]:
    """A line to the studio that can be cut."""
    async with Proxy(port_of(studio.url)) as proxy:
        yield proxy


@pytest_asyncio.fixture(loop_scope="module")
async def far(proxy: Proxy, user: User) -> AsyncIterator[Client]:
    """The same user's client at the other end of that line."""
    async with Client(proxy.http_url, token=user.token) as client:
        yield client


def port_of(url: str) -> int:
    """The port in a URL."""
    port = urlsplit(url).port
    assert port is not None
    return port


async def write(client: Client, text: str = "rough") -> int:
    """A new blob; gives its seq."""
    return (await client.blobs.create("text-input-v1", {"content": text})).seq


@asynccontextmanager
async def writing(client: Client) -> AsyncIterator[None]:
    """Somebody who writes all the time."""

    async def writer() -> None:
        while True:
            await write(client)

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(writer())
        try:
            yield
        finally:
            task.cancel()


async def told(stream: Stream, up_to: int) -> list[int]:
    """The seqs of the events that a stream tells, up to one."""
    seqs: list[int] = []
    async with asyncio.timeout(DEADLINE):
        async for event in stream:
            seqs.append(event.seq)
            if event.seq >= up_to:
                break
    return seqs


async def logged(client: Client, after: int = 0, up_to: int | None = None) -> list[int]:
    """The seqs of the user's events in the log."""
    events = client.events(after=after)
    return [event.seq async for event in events if up_to is None or event.seq <= up_to]


# ------------------------------------------------------------------ what is told


async def test_an_open_stream_misses_nothing(client: Client) -> None:
    """What happens once the stream is open is told, in order, and nothing from before."""
    await write(client)
    async with client.stream() as events:
        made = [await write(client) for _ in range(5)]
        assert await told(events, made[-1]) == made
        assert events.live


async def test_a_stream_begins_after_a_seq(client: Client) -> None:
    """With `after` a stream first tells what came since; it says when it has caught up."""
    made = [await write(client) for _ in range(5)]
    heard: list[object] = []
    async with client.stream(after=made[1]) as stream:
        assert not stream.live
        async for item in stream.items():
            heard.append(item.seq if isinstance(item, Event) else item)
            if isinstance(item, Live):
                break
        assert heard[:3] == made[2:]
        assert isinstance(heard[3], Live)
        assert heard[3].seq >= made[-1]
        assert (stream.live, stream.seq) == (True, heard[3].seq)


async def test_a_stream_of_buckets(client: Client) -> None:
    """A stream of a bucket tells what happens in it, with `subtree` also what does below."""
    top = (await client.buckets.create("Top")).bucket_id
    below = (await client.buckets.create("Below", parent_bucket_id=top)).bucket_id

    async def drop(*buckets: str) -> int:
        made = await client.blobs.create("text-input-v1", {"content": "x"}, bucket_ids=buckets)
        return made.seq

    async with client.stream(top) as near, client.stream([top], subtree=True) as all_below:
        made = [await drop(top), await drop(below), await drop(), await drop(top)]
        assert await told(near, made[3]) == [made[0], made[3]]
        assert await told(all_below, made[3]) == [made[0], made[1], made[3]]


async def test_progress_is_told_among_the_items(studio: Studio, client: Client, user: User) -> None:
    """The pieces of a text that is being written are items of the stream, with their offsets."""
    connection = await Connection.open(studio.place.nats_url, studio.place.nats_token)
    async with client.stream() as stream:
        for offset, text in ((0, "The "), (4, "end.")):
            piece = progress.Progress(
                run_id="r", processor_id="p", blob_id="b", offset=offset, text=text
            )
            await progress.announce(connection, user.user_id, piece)
        await connection.close()
        pieces: list[Progress] = []
        async with asyncio.timeout(DEADLINE):
            async for item in stream.items():
                if isinstance(item, Progress):
                    pieces.append(item)
                if len(pieces) == 2:
                    break
    assert [(piece.offset, piece.text) for piece in pieces] == [(0, "The "), (4, "end.")]


# ------------------------------------------------------------------ broken connections


async def test_cut_lines_lose_and_double_nothing(proxy: Proxy, client: Client, far: Client) -> None:
    """While the line is cut again and again under a writer, every event is told once, in order."""
    heard: list[int] = []
    async with far.stream() as stream:
        begin = stream.seq or 0
        async with writing(client):
            for _ in range(12):
                heard += [(await anext(stream)).seq for _ in range(random.randrange(1, 40))]
                await proxy.cut_lines()
        heard += await told(stream, await write(client))
    assert heard == await logged(client, begin)


async def test_a_line_that_is_cut_in_the_handshake_is_made_again(
    proxy: Proxy, client: Client, far: Client
) -> None:
    """A connection that breaks before it stands is tried again."""
    seq = await write(client)
    proxy.cut_at_answer()
    async with far.stream(after=seq - 1) as stream:
        assert proxy.cut.is_set()
        assert await told(stream, seq) == [seq]


async def test_a_restarting_server_is_followed(
    studio: Studio, proxy: Proxy, client: Client, far: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that goes down with 1012 and comes back costs a stream nothing."""
    caplog.set_level(logging.INFO, "reyna.client")
    async with studio.beside() as other:
        proxy.to = port_of(other.url)
        stream = far.stream()
        await stream.__aenter__()
        before = await write(client)
        assert await told(stream, before) == [before]
    # Its successor answers at the same address.
    proxy.to = port_of(studio.url)
    after = [await write(client) for _ in range(3)]
    assert await told(stream, after[-1]) == after
    assert "closed with 1012" in caplog.text
    await stream.aclose()


async def test_who_is_too_slow_still_gets_everything(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A reader whom the server lets go for being slow resumes, and gets every event once."""
    caplog.set_level(logging.INFO, "reyna.client")
    monkeypatch.setattr(hub, "OUTBOX_FRAMES", 20)
    async with client.stream() as stream:
        for _ in range(10):
            await asyncio.gather(*(write(client, "x" * 200_000) for _ in range(15)))
        made = await logged(client)
        assert await told(stream, made[-1]) == made
    assert "closed with 4410" in caplog.text


async def test_nobody_there_ends_a_stream_with_unreachable(user: User) -> None:
    """A stream whose patience has ended raises the one error of the network, and is over."""
    async with Client("http://127.0.0.1:1", token=user.token) as client:
        stream = client.stream(patience=0.0)
        with pytest.raises(Unreachable):
            await anext(stream)
        assert [event async for event in stream] == []


# ------------------------------------------------------------------ what cannot go on


@pytest.mark.parametrize(("after", "epoch"), [(0, "of another log"), (10**15, None)])
async def test_a_cursor_of_another_log_cannot_be_resumed(
    client: Client, after: int, epoch: str | None
) -> None:
    """Another epoch, or a seq beyond the head, is CannotResume; nothing is passed over."""
    await write(client)
    stream = client.stream(after=after, epoch=epoch)
    with pytest.raises(CannotResume) as refused:
        await anext(stream)
    assert (refused.value.after, refused.value.epoch != epoch) == (after, True)
    async with client.stream(after=0, epoch=refused.value.epoch) as stream:
        assert len(await told(stream, refused.value.head)) == 1


async def test_a_strangers_bucket_is_not_found(studio: Studio, client: Client) -> None:
    """A stream of a bucket that is somebody else's ends with NotFound."""
    async with Client(studio.url, token=studio.user().token) as stranger:
        bucket = await stranger.buckets.create("Mine")
    with pytest.raises(NotFound):
        await anext(client.stream(bucket.bucket_id))


async def test_a_token_that_cannot_be_renewed_ends_a_stream(studio: Studio, user: User) -> None:
    """With an access token alone a stream ends with Unauthorized when that expires."""

    def clock() -> float:
        return time.time() - tokens.ACCESS_LIFETIME + 2.0

    token = tokens.Tokens(SECRET, clock).issue(user.user_id, new_id(), ("user",)).token
    async with Client(studio.url, token=token) as client:
        async with client.stream() as stream:
            with pytest.raises(Unauthorized):
                await anext(stream)
        with pytest.raises(Unauthorized):
            await anext(client.stream())


# ------------------------------------------------------------------ tokens


@pytest_asyncio.fixture(loop_scope="module")
async def member(studio: Studio) -> AsyncIterator[Client]:
    """A signed-in client."""
    async with Client(studio.url) as client:
        await client.register(email=f"{uuid4().hex}@example.com", password="correct horse")
        yield client


async def test_a_token_is_renewed_on_the_open_socket(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream outlives its tokens on one connection."""
    caplog.set_level(logging.INFO, "reyna.client")
    monkeypatch.setattr(tokens, "ACCESS_LIFETIME", 4)
    monkeypatch.setattr(session_module, "RENEW_PART", 0.75)
    async with Client(studio.url) as client:
        await client.register(email=f"{uuid4().hex}@example.com", password="correct horse")
        async with client.stream() as stream:
            seen: set[str | None] = set()
            # Six tokens, each renewed a second after it was given, outlive the first.
            while len(seen) < 6:
                seq = await write(client)
                assert await told(stream, seq) == [seq]
                seen.add(client.refresh_token)
    assert "broke" not in caplog.text


async def test_an_expired_token_is_renewed_and_the_stream_resumed(
    studio: Studio, member: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """A socket that is closed with 4401 is opened again with a new token, and resumed."""
    caplog.set_level(logging.INFO, "reyna.client")
    async with (
        Client(studio.url, token="x", refresh_token=member.refresh_token) as client,
        client.stream(after=0) as stream,
    ):
        seq = await write(client)
        assert await told(stream, seq) == [seq]
    assert "not valid" in caplog.text


async def test_a_stream_does_not_change_hands(studio: Studio, member: Client) -> None:
    """A stream never goes on under another sign-in than its own."""
    async with Client(studio.url) as client:
        await client.register(email=f"{uuid4().hex}@example.com", password="correct horse")
        async with client.stream() as stream:
            await client.register(email=f"{uuid4().hex}@example.com", password="correct horse")
            with pytest.raises(StudioError, match="another sign-in"):
                await stream._access()


# ------------------------------------------------------------------ the end


async def test_a_cancelled_reader_loses_nothing(client: Client) -> None:
    """A wait for the next event can be cancelled at any time; the next wait gets it."""
    heard: list[int] = []
    async with client.stream() as stream:
        begin = stream.seq or 0
        async with writing(client):
            while len(heard) < 100:
                try:
                    async with asyncio.timeout(random.uniform(0.0, 0.02)):
                        while True:
                            heard.append((await anext(stream)).seq)
                except TimeoutError:
                    continue
        heard += await told(stream, await write(client))
    assert heard == await logged(client, begin)


async def test_a_client_closes_its_streams(studio: Studio, user: User) -> None:
    """With the client end the sockets of its streams, also of those that nobody closed."""

    async def sockets() -> float:
        async with httpx.AsyncClient() as http:
            text = (await http.get(f"{studio.url}/metrics")).text
        return next(float(s.split()[1]) for s in text.splitlines() if s.startswith("reyna_live_s"))

    async def open_here(number: float) -> None:
        async def holds() -> bool:
            return await sockets() == number

        await eventually(holds)

    before = await sockets()
    async with Client(studio.url, token=user.token) as client:
        await write(client)
        async for _ in client.stream(after=0):
            break
        waiting = asyncio.create_task(told(client.stream(), 10**15))
        await open_here(before + 2)
    assert await waiting == []
    await open_here(before)
