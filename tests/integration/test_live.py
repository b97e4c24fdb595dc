"""The live socket: who gets in, what is heard and in which order, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from reyna.api import live as live_module
from reyna.identity import tokens
from reyna.ids import new_id
from reyna.settings import Settings
from tests.support import (
    DEADLINE,
    SECRET,
    Json,
    Studio,
    User,
    events_of,
    eventually,
    make_blob,
    make_bucket,
    problem,
    running_studio,
)


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    """A studio without processors."""
    settings = Settings(sync="interval", allowed_origins=("https://studio.example",))
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


@asynccontextmanager
async def writing(write: Callable[[], Awaitable[Json]]) -> AsyncIterator[list[int]]:
    """Somebody who writes all the time; gives the seqs that were acknowledged."""
    seqs: list[int] = []

    async def writer() -> None:
        while True:
            seqs.append((await write())["seq"])

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(writer())
        try:
            yield seqs
        finally:
            task.cancel()


async def seqs_of(client: httpx.AsyncClient, **params: object) -> list[int]:
    """The seqs of the caller's events."""
    return [event["seq"] for event in await events_of(client, **params)]


# ------------------------------------------------------------------ getting in


async def test_a_token_in_the_header_lets_in(studio: Studio, user: User) -> None:
    """With an Authorization header a client can subscribe at once."""
    async with studio.live(user.token) as live:
        answer = await live.subscribe()
    assert set(answer) == {"type", "ref", "epoch", "head", "recovered"}
    assert answer["recovered"] is True


async def test_a_token_in_the_subprotocols_lets_in(studio: Studio, user: User) -> None:
    """With `reyna.v1` and `bearer.<token>` offered, `reyna.v1` is chosen and the client is in."""
    offered = ["reyna.v1", f"bearer.{user.token}"]
    async with studio.live(subprotocols=offered) as live:
        assert live.connection.subprotocol == "reyna.v1"
        await live.subscribe()


async def test_a_frame_lets_in(studio: Studio, user: User) -> None:
    """Without a token at the handshake the frame `authenticate` lets in, with an ack."""
    async with studio.live() as live:
        answer = await live.ask("authenticate", token=user.token)
        assert answer["type"] == "ack"
        await live.subscribe()


@pytest.mark.parametrize("token", ["x", "", "a.b.c", "x" * 5000])
async def test_a_bad_token_at_the_handshake_closes_4401(studio: Studio, token: str) -> None:
    """A bad token in the header or the subprotocols ends the connection with 4401."""
    async with studio.live(headers={"Authorization": f"Bearer {token}"}) as live:
        assert await live.closed() == 4401
    if token:
        async with studio.live(subprotocols=["reyna.v1", f"bearer.{token}"]) as live:
            assert await live.closed() == 4401


async def test_a_bad_token_in_a_frame_closes_4401(studio: Studio) -> None:
    """A bad token in `authenticate` is said in an error frame, and then the socket closes 4401."""
    async with studio.live() as live:
        await live.say("authenticate", token="x", ref=1)
        frame = await live.hear()
        assert (frame["type"], frame["ref"], frame["problem"]["status"]) == ("error", 1, 401)
        assert await live.closed() == 4401


@pytest.mark.parametrize("action", ["subscribe", "create_blob", "unsubscribe"])
async def test_nothing_can_be_done_before_authenticating(studio: Studio, action: str) -> None:
    """Whoever acts without having authenticated is told 401 and closed with 4401."""
    async with studio.live() as live:
        fields = {"buckets": "*", "schema_id": "text-input-v1", "data": {"content": "x"}}
        await live.say(action, **fields)
        assert await live.closed() == 4401
        assert [frame["type"] for frame in live.heard] == ["error"]


async def test_silence_closes_4408(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not authenticate in time is closed with 4408, pings notwithstanding."""
    monkeypatch.setattr(live_module, "AUTHENTICATE_WITHIN", 0.3)
    async with studio.live() as live:
        await live.say("ping")
        assert await live.closed() == 4408
        assert live.heard == [{"type": "pong"}]


def short_lived(user_id: str, seconds: float) -> str:
    """A token that expires in so many seconds."""

    def clock() -> float:
        return time.time() - tokens.ACCESS_LIFETIME + seconds

    return tokens.Tokens(SECRET, clock).issue(user_id, new_id(), ("user",)).token


async def test_expiry_closes_an_open_socket_4401(studio: Studio, user: User) -> None:
    """When the token expires the socket closes with 4401; renewed in time it stays open."""
    async with (
        studio.live(short_lived(user.user_id, 2)) as ending,
        studio.live(short_lived(user.user_id, 2)) as renewed,
    ):
        await ending.subscribe()
        await renewed.subscribe()
        assert (await renewed.ask("authenticate", token=user.token))["type"] == "ack"
        assert await ending.closed() == 4401
        assert (await renewed.ask("ping"))["type"] == "pong"
    async with studio.live(short_lived(user.user_id, -1)) as live:
        assert await live.closed() == 4401


async def test_a_socket_stays_its_users_own(studio: Studio, user: User) -> None:
    """Another user's token does not take over an open socket."""
    async with studio.live(user.token) as live:
        answer = await live.ask("authenticate", token=studio.user().token)
        assert (answer["type"], answer["problem"]["status"]) == ("error", 401)
        made = await live.ask("create_bucket", name="B", type="book")
        async with studio.client(user.token) as client:
            assert await seqs_of(client) == [made["seq"]]


async def test_a_foreign_origin_closes_4403(studio: Studio, user: User) -> None:
    """A page of another origin is refused with 4403; the own one and the allowed ones are not."""
    for origin in (
        "https://evil.example",
        "null",
        "http://127.0.0.1:1",
        "https://studio.example.x",
    ):
        async with studio.live(user.token, headers={"Origin": origin}) as live:
            assert await live.closed() == 4403
    for origin in (studio.url, "https://studio.example"):
        async with studio.live(user.token, headers={"Origin": origin}) as live:
            await live.subscribe()


# ------------------------------------------------------------------ frames


async def test_bad_frames_close_4400(studio: Studio, user: User) -> None:
    """What is not JSON text, or nested without end, closes the socket with 4400."""
    bad: list[str | bytes] = [
        b'{"action": "ping"}',
        "",
        "{",
        "ping",
        '{"action": NaN}',
        '{"ref": 1, "action": 5, "more": [',
        '{"action": "ping", "more": ' + "[" * 100_000,
    ]
    for frame in bad:
        async with studio.live(user.token) as live:
            await live.connection.send(frame)
            assert await live.closed() == 4400


async def test_frames_that_mean_nothing_are_errors(studio: Studio, user: User) -> None:
    """An unknown action or a wrong field is an error frame with its ref; the socket lives on."""
    async with studio.live(user.token) as live:
        for frame in (
            {"action": "fly", "ref": 1},
            {"ref": 1},
            {"action": "subscribe", "ref": 1},
            {"action": "subscribe", "buckets": [], "ref": 1},
            {"action": "subscribe", "buckets": ["a.b"], "ref": 1},
            {"action": "subscribe", "buckets": ["a\n"], "ref": 1},
            {"action": "subscribe", "buckets": "*", "after": -1, "ref": 1},
            {"action": "subscribe", "buckets": "*", "after": "1", "ref": 1},
            {"action": "create_blob", "ref": 1},
            {"action": "delete_blob", "blob_id": ">", "ref": 1},
            {"action": "update_blob", "blob_id": "a.b", "title": "x", "ref": 1},
        ):
            await live.connection.send(msgspec.json.encode(frame).decode())
            answer = await live.hear()
            assert (answer["type"], answer["ref"]) == ("error", 1)
            assert answer["problem"]["status"] in {400, 404}
        assert await live.ask("ping") == {"type": "pong", "ref": live.heard[-1]["ref"]}


async def test_a_huge_frame_ends_the_socket(studio: Studio, user: User) -> None:
    """A frame larger than a blob may be is refused, and others do not notice."""
    async with studio.live(user.token) as live, studio.live(user.token) as other:
        await other.subscribe()
        content = "x" * (2 * 1024 * 1024)
        await live.say("create_blob", schema_id="text-input-v1", data={"content": content})
        assert await live.closed() == 1009
        assert (await other.ask("ping"))["type"] == "pong"


async def test_commands_are_acknowledged(
    studio: Studio, user: User, client: httpx.AsyncClient
) -> None:
    """Every command can be sent over the socket; its ack repeats the ref and names id and seq."""
    async with studio.live(user.token) as live:
        bucket = await live.ask("create_bucket", name="B", type="book", tags=["t"])
        assert set(bucket) == {"type", "ref", "bucket_id", "seq"}
        bucket_id = bucket["bucket_id"]
        data = {"content": "rough"}
        blob = await live.ask(
            "create_blob", schema_id="text-input-v1", data=data, bucket_ids=[bucket_id]
        )
        assert set(blob) == {"type", "ref", "blob_id", "seq"}
        updated = await live.ask("update_blob", blob_id=blob["blob_id"], title="T")
        renamed = await live.ask("update_bucket", bucket_id=bucket_id, name="C")
        other = await live.ask("create_bucket", name="O", type="book")
        moved = await live.ask(
            "move_bucket", bucket_id=bucket_id, parent_bucket_id=other["bucket_id"]
        )
        deleted = await live.ask("delete_blob", blob_id=blob["blob_id"])
    answers = [bucket, blob, updated, renamed, other, moved, deleted]
    assert {answer["type"] for answer in answers} == {"ack"}
    found = await events_of(client)
    assert [event["seq"] for event in found] == [answer["seq"] for answer in answers]
    assert [event["type"] for event in found] == [
        "bucket.created",
        "blob.created",
        "blob.updated",
        "bucket.updated",
        "bucket.created",
        "bucket.structure.changed",
        "blob.deleted",
    ]


async def test_refused_commands_are_errors_with_a_problem(
    studio: Studio, user: User, client: httpx.AsyncClient
) -> None:
    """A refused command is an error frame with the problem that HTTP gives, and writes nothing."""
    theirs = studio.user()
    async with studio.client(theirs.token) as stranger:
        foreign = await make_blob(stranger)
    async with studio.live(user.token) as live:
        for status, action, fields in (
            (422, "create_blob", {"schema_id": "text-input-v1", "data": {"content": 1}}),
            (404, "create_blob", {"schema_id": "none-v1", "data": {}}),
            (404, "update_blob", {"blob_id": foreign["blob_id"], "title": "x"}),
            (404, "delete_blob", {"blob_id": foreign["blob_id"]}),
            (422, "create_bucket", {"name": "", "type": "book"}),
            (400, "create_bucket", {"name": "x", "type": "a.b"}),
        ):
            answer = await live.ask(action, **fields)
            assert answer["type"] == "error"
            assert answer["problem"]["status"] == status
            assert {"type", "title", "detail"} <= set(answer["problem"])
        first = await live.ask("create_bucket", name="B", type="book")
        await live.ask("update_bucket", bucket_id=first["bucket_id"], name="C")
        stale = await live.ask(
            "update_bucket", bucket_id=first["bucket_id"], name="D", if_match=first["seq"]
        )
        assert stale["problem"]["status"] == 412
    assert len(await seqs_of(client)) == 2


# ------------------------------------------------------------------ what is heard


async def test_an_event_as_it_is_heard(
    studio: Studio, user: User, client: httpx.AsyncClient
) -> None:
    """An event's frame has its type, seq, time, user, buckets and fields, as the contract says."""
    bucket = (await make_bucket(client))["bucket_id"]
    async with studio.live(user.token) as live:
        await live.subscribe()
        made = await make_blob(client, bucket_ids=[bucket])
        frame = await live.until("blob.created")
    assert frame["seq"] == made["seq"]
    assert frame["time"] == made["created_at"]
    assert (frame["blob_id"], frame["schema_id"]) == (made["blob_id"], "text-input-v1")
    assert (frame["bucket_id"], frame["bucket_ids"]) == (bucket, [bucket])
    assert frame["user_id"] == user.user_id
    assert frame["data"]["data"] == {"content": "rough"}


async def test_nobody_hears_another_user(studio: Studio, user: User) -> None:
    """`*` means everything of mine: not one frame of another user arrives."""
    theirs = studio.user()
    async with studio.client(theirs.token) as stranger, studio.live(user.token) as live:
        await live.subscribe(after=0)
        bucket = await make_bucket(stranger)
        await make_blob(stranger, bucket_ids=[bucket["bucket_id"]])
        answer = await live.ask("subscribe", buckets=[bucket["bucket_id"]])
        assert (answer["type"], answer["problem"]["status"]) == ("error", 404)
        own = await live.ask("create_bucket", name="Mine", type="book")
        await live.until("bucket.created")
        assert [event["seq"] for event in live.events] == [own["seq"]]


async def test_one_bucket_or_its_subtree(
    studio: Studio, user: User, client: httpx.AsyncClient
) -> None:
    """A bucket's subscription hears that bucket, with `subtree` all below it as well."""
    root = (await make_bucket(client, "Root"))["bucket_id"]
    sub = (await make_bucket(client, "Sub", root))["bucket_id"]
    away = (await make_bucket(client, "Away"))["bucket_id"]
    async with studio.live(user.token) as one, studio.live(user.token) as below:
        await one.subscribe([root])
        await below.subscribe([root], subtree=True)
        expected_one, expected_below = [], []

        async def drop(*buckets: str) -> int:
            seq: int = (await make_blob(client, bucket_ids=list(buckets)))["seq"]
            return seq

        both = await drop(root, away)
        expected_one.append(both)
        expected_below.append(both)
        expected_below.append(await drop(sub))
        await drop(away)
        await drop()
        moved = await client.post(f"/buckets/{away}/move", json={"parent_bucket_id": sub})
        expected_below.append(moved.json()["seq"])
        expected_below.append(await drop(away))
        out = await client.post(f"/buckets/{sub}/move", json={"parent_bucket_id": None})
        expected_one.append(out.json()["seq"])
        expected_below.append(out.json()["seq"])
        await drop(away)
        last = await drop(root)
        expected_one.append(last)
        expected_below.append(last)
        await one.until("blob.created", seq=last)
        await below.until("blob.created", seq=last)
        assert [event["seq"] for event in one.events] == expected_one
        assert [event["seq"] for event in below.events] == expected_below


async def test_a_bucket_can_be_heard_as_soon_as_it_is_there(studio: Studio, user: User) -> None:
    """Whoever has made a bucket can subscribe to it at once, and hears what is dropped into it."""

    async def make_and_listen(name: str) -> None:
        async with studio.live(user.token) as live:
            for number in range(15):
                made = await live.ask("create_bucket", name=f"{name} {number}", type="folder")
                bucket = made["bucket_id"]
                await live.subscribe([bucket], subtree=True)
                blob = {"schema_id": "text-input-v1", "data": {"content": name}}
                dropped = await live.ask("create_blob", bucket_ids=[bucket], **blob)
                if dropped["seq"] not in [event["seq"] for event in live.events]:
                    await live.until("blob.created", seq=dropped["seq"])

    async with asyncio.TaskGroup() as tasks:
        for name in "abcdefgh":
            tasks.create_task(make_and_listen(name))


async def test_unsubscribing(studio: Studio, user: User, client: httpx.AsyncClient) -> None:
    """After `unsubscribe` nothing of that bucket is heard, the others go on."""
    a, b = [(await make_bucket(client, name))["bucket_id"] for name in "ab"]
    async with studio.live(user.token) as live:
        await live.subscribe([a, b])
        first = await make_blob(client, bucket_ids=[a])
        await live.until("blob.created", seq=first["seq"])
        assert (await live.ask("unsubscribe", buckets=[a]))["type"] == "ack"
        await make_blob(client, bucket_ids=[a])
        second = await make_blob(client, bucket_ids=[b])
        await live.until("blob.created", seq=second["seq"])
        assert [event["seq"] for event in live.events] == [first["seq"], second["seq"]]


async def test_two_subscriptions(studio: Studio, user: User, client: httpx.AsyncClient) -> None:
    """Two subscriptions of one socket together hear both buckets, an event at most once each."""
    a, b = [(await make_bucket(client, name))["bucket_id"] for name in "ab"]
    async with studio.live(user.token) as live:
        await live.subscribe([a])
        await live.subscribe([b])
        made = [
            (await make_blob(client, bucket_ids=buckets))["seq"]
            for buckets in ([a], [b], [a, b], [a])
        ]
        await live.until("blob.created", seq=made[-1])
        heard = [event["seq"] for event in live.events]
        assert sorted(set(heard)) == made
        assert heard == sorted(heard)
        assert all(heard.count(seq) <= 2 for seq in heard)


# ------------------------------------------------------------------ resuming


async def test_resuming_after_a_cursor(
    studio: Studio, user: User, client: httpx.AsyncClient
) -> None:
    """`after` gives exactly the events after it, then `live`, then what comes."""
    seqs = [(await make_blob(client, str(number)))["seq"] for number in range(5)]
    async with studio.live(user.token) as live:
        answer = await live.subscribe(after=seqs[1])
        assert answer["recovered"] is True
        assert answer["head"] >= seqs[-1]
        assert [event["seq"] for event in live.events] == seqs[2:]
        more = await make_blob(client)
        await live.until("blob.created", seq=more["seq"])
        assert [event["seq"] for event in live.events] == [*seqs[2:], more["seq"]]
    async with studio.live(user.token) as live:
        again = await live.subscribe(after=0, epoch=answer["epoch"])
        assert again["recovered"] is True
        assert [event["seq"] for event in live.events] == [*seqs, more["seq"]]


async def test_a_cursor_that_cannot_be_resumed(
    studio: Studio, user: User, client: httpx.AsyncClient
) -> None:
    """A cursor of another epoch, or beyond the head, is answered `recovered: false`, then live."""
    made = await make_blob(client)
    for fields in (
        {"after": made["seq"], "epoch": "another"},
        {"after": made["seq"] + 1000},
        {"after": 2**62},
    ):
        async with studio.live(user.token) as live:
            answer = await live.subscribe(**fields)
            assert answer["recovered"] is False
            assert live.events == []
            more = await make_blob(client)
            await live.until("blob.created", seq=more["seq"])
            assert [event["seq"] for event in live.events] == [more["seq"]]


async def test_catching_up_under_a_writer_has_no_gap(
    studio: Studio, user: User, client: httpx.AsyncClient
) -> None:
    """Whoever subscribes while others write hears every event after its cursor once, in order."""
    start = [(await make_blob(client, str(number)))["seq"] for number in range(30)]
    async with (
        studio.live(user.token) as one,
        studio.live(user.token) as two,
        studio.live(user.token) as three,
    ):
        async with writing(lambda: make_blob(client)) as written:
            await one.subscribe(after=0)
            await two.subscribe(after=start[9])
            await three.subscribe()
            cut = len(written)
            while len(written) < cut + 40:
                await one.hear()
        last = await make_blob(client, "last")
        for live in (one, two, three):
            await live.until("blob.created", seq=last["seq"])
        every = await seqs_of(client)
        heard = [[event["seq"] for event in live.events] for live in (one, two, three)]
        assert heard[0] == every
        assert heard[1] == every[10:]
        assert heard[2] == every[every.index(heard[2][0]) :]


async def test_reconnecting_loses_nothing(
    studio: Studio, user: User, client: httpx.AsyncClient
) -> None:
    """A client that drops and resumes by its last seq, again and again, has every event once."""
    cursor, heard = 0, []
    async with writing(lambda: make_blob(client)):
        for _ in range(8):
            async with studio.live(user.token) as live:
                await live.ask("subscribe", buckets="*", after=cursor)
                while len(live.events) < 12:
                    await live.hear()
                heard += [event["seq"] for event in live.events]
                cursor = heard[-1]
    every = await seqs_of(client)
    assert heard == every[: len(heard)]
    assert len(heard) >= 96


async def test_a_restart_closes_1012_and_the_cursor_still_works(tmp_path: Path) -> None:
    """A restarting server says 1012; after it a client resumes where it was, in the same epoch."""
    async with running_studio(tmp_path) as studio:
        user = studio.user()
        async with studio.client(user.token) as client:
            first = await make_blob(client, "1")
        connecting = studio.live(user.token)
        live = await connecting.__aenter__()
        answer = await live.subscribe(after=0)
    assert await live.closed() == 1012
    await connecting.__aexit__(None, None, None)
    async with running_studio(tmp_path) as studio, studio.client(user.token) as client:
        second = await make_blob(client, "2")
        async with studio.live(user.token) as live:
            resumed = await live.subscribe(after=first["seq"], epoch=answer["epoch"])
            assert resumed["recovered"] is True
            assert [event["seq"] for event in live.events] == [second["seq"]]


# ------------------------------------------------------------------ slow clients, lost servers


async def test_a_slow_client_is_let_go_and_delays_nobody(
    studio: Studio, user: User, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that never reads is closed as too slow, while another hears every event at once."""
    monkeypatch.setattr(live_module, "SEND_WITHIN", 0.5)
    large = "x" * 400_000
    async with (
        studio.live(user.token, max_queue=1) as slow,
        studio.live(user.token) as quick,
    ):
        await slow.ask("subscribe", buckets="*")
        await quick.subscribe()
        slow.connection.transport.pause_reading()
        for number in range(60):
            made = await make_blob(client, f"{number} {large}")
            await quick.until("blob.created", seq=made["seq"])

        async def alone() -> bool:
            async with httpx.AsyncClient(base_url=studio.url) as anybody:
                return "reyna_live_sockets 1.0" in (await anybody.get("/metrics")).text

        await eventually(alone)
        slow.connection.transport.resume_reading()
        assert await slow.closed() in {4410, 1006}
        assert (await quick.ask("ping"))["type"] == "pong"


async def test_listeners_survive_a_lost_log(
    studio: Studio, user: User, client: httpx.AsyncClient
) -> None:
    """When nats-server dies, open sockets stay, hear what comes after, and miss nothing."""
    async with studio.live(user.token) as live:
        await live.subscribe()
        before = await make_blob(client, "before")
        studio.kill_nats()

        async def writable() -> bool:
            answer = await client.post(
                "/blobs",
                json={"schema_id": "text-input-v1", "data": {"content": "after"}},
                headers={"Idempotency-Key": "after"},
            )
            if answer.status_code != 201:
                problem(answer, 503)
            return answer.status_code == 201

        await eventually(writable)
        after = (await events_of(client))[-1]
        await live.until("blob.created", seq=after["seq"])
        assert [event["seq"] for event in live.events] == [before["seq"], after["seq"]]
        made = await live.ask("create_bucket", name="B", type="book")
        assert made["type"] == "ack"


async def test_many_listeners_hear_the_same(
    studio: Studio, user: User, client: httpx.AsyncClient
) -> None:
    """Twenty sockets of one user hear the same events in the same order."""

    async def listen(heard: list[list[int]], ready: asyncio.Semaphore) -> None:
        async with studio.live(user.token) as live:
            await live.subscribe()
            ready.release()
            while len(live.events) < 20:
                await live.hear()
            heard.append([event["seq"] for event in live.events])

    heard: list[list[int]] = []
    ready = asyncio.Semaphore(0)
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
        for _ in range(20):
            tasks.create_task(listen(heard, ready))
        for _ in range(20):
            await ready.acquire()
        for number in range(20):
            await make_blob(client, str(number))
    assert heard == [await seqs_of(client)] * 20


async def test_acks_and_events_come_on_one_socket(studio: Studio, user: User) -> None:
    """Who writes on the socket it listens on hears each of its own events once, in order."""
    async with studio.live(user.token) as live:
        await live.subscribe()
        made = [
            await live.ask("create_blob", schema_id="text-input-v1", data={"content": str(n)})
            for n in range(10)
        ]
        while len(live.events) < len(made):
            await live.hear()
        assert [event["seq"] for event in live.events] == [one["seq"] for one in made]
        assert all(isinstance(frame["type"], str) for frame in live.heard)
