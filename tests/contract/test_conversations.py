"""Conversations: buckets whose threads are buckets, whose messages are blobs, read newest first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import pytest
import pytest_asyncio

from reyna.domain.blob import BlobCreated
from reyna.domain.event import Meta
from reyna.ids import new_id, rfc3339
from reyna.log.connection import Connection
from reyna.log.stream import Draft, Log
from tests.events import of_blob
from tests.support import Json, Studio, User, make_bucket, problem, read

pytestmark = pytest.mark.asyncio(loop_scope="session")

MESSAGES = 10_000
BATCH = 1000
PAGE = 200


@pytest_asyncio.fixture(loop_scope="session")
async def log(studio: Studio) -> AsyncIterator[Log]:
    """The studio's log, on a connection of its own."""
    connection = await Connection.open(studio.nats.url, studio.nats.token)
    yield await Log.open(connection)
    await connection.close()


class Place(msgspec.Struct, frozen=True):
    """A conversation with two threads."""

    conversation: str
    threads: tuple[str, str]


async def converse(client: httpx.AsyncClient) -> Place:
    """A new conversation from the template, with a second thread."""
    asked = {"name": "Harbour", "type": "conversation", "template": "conversation"}
    made = (await client.post("/buckets", json=asked)).json()
    root = made["bucket_id"]
    (first,) = (await read(client, f"/buckets/{root}", made["seq"]))["child_bucket_ids"]
    second = (await make_bucket(client, "Second", root, type="thread"))["bucket_id"]
    return Place(root, (first, second))


async def post(
    client: httpx.AsyncClient, bucket_id: str, content: str, **fields: object
) -> httpx.Response:
    """Post a message."""
    data = {"content": content, "sender_id": "ann", **fields}
    asked = {"schema_id": "message-v1", "data": data, "bucket_ids": [bucket_id]}
    return await client.post("/blobs", json=asked)


async def pages(client: httpx.AsyncClient, **params: object) -> AsyncIterator[list[Json]]:
    """The pages of a conversation, newest first; all but the last are full."""
    cursor: dict[str, object] = {}
    while True:
        page = await read(client, "/blobs", 0, limit=PAGE, **params, **cursor)
        yield page["items"]
        if page["next_cursor"] is None:
            return
        assert len(page["items"]) == PAGE
        cursor = {"cursor": page["next_cursor"]}


async def append_history(log: Log, owner: str, place: Place) -> int:
    """Append MESSAGES, each a millisecond later, to the threads in turn; gives the last seq."""
    start = datetime.now(UTC) - timedelta(hours=1)
    seq = 0
    for batch in range(0, MESSAGES, BATCH):
        drafts = []
        for number in range(batch, batch + BATCH):
            data = {"content": f"message {number}", "sender_id": "ann" if number % 3 else "bob"}
            event = BlobCreated(
                schema_id="message-v1",
                data=msgspec.Raw(msgspec.json.encode(data)),
                bucket_ids=(place.threads[number % 2],),
            )
            time = rfc3339(start + timedelta(milliseconds=number))
            meta = Meta(id=new_id(), time=time, type="blob.created", actor=f"user:{owner}")
            drafts.append(Draft(owner, new_id(), event, meta))
        seq = await log.append(drafts, of_blob(0, owner, drafts[0].entity_id))
    return seq


async def test_a_long_conversation_is_read_newest_first_while_it_goes_on(
    client: httpx.AsyncClient, user: User, log: Log
) -> None:
    """Ten thousand messages come page by page, all, in order, none twice, while new ones arrive."""
    place = await converse(client)
    last = await append_history(log, user.user_id, place)
    await read(client, "/blobs", last, limit=1)
    texts = [f"message {number}" for number in reversed(range(MESSAGES))]
    whole: dict[str, object] = {"bucket_id": place.conversation, "recursive": "true"}
    for params, expected in (
        (whole, texts),
        ({"bucket_id": place.threads[0]}, texts[1::2]),
        ({**whole, "schema_id": "message-v1", "sort": "-updated_at"}, texts),
    ):
        found: list[Json] = []
        async for page in pages(client, **params):
            found += page
            answer = await post(client, place.threads[len(found) % 2], "new")
            assert answer.status_code == 201
        assert len({blob["blob_id"] for blob in found}) == len(found)
        old = [blob["data"]["content"] for blob in found if blob["seq"] <= last]
        assert old == expected
        assert [blob["seq"] for blob in found] == sorted((b["seq"] for b in found), reverse=True)


async def test_what_is_posted_comes_first(client: httpx.AsyncClient) -> None:
    """Messages that many post at once, in one thread and another, are all there, newest first."""
    place = await converse(client)
    answers = await asyncio.gather(
        *(post(client, place.threads[number % 2], str(number)) for number in range(60))
    )
    made = [answer.json() for answer in answers]
    last = max(message["seq"] for message in made)
    listed: dict[str, object] = {"bucket_id": place.conversation, "recursive": "true"}
    items = (await read(client, "/blobs", last, limit=100, **listed))["items"]
    assert {blob["blob_id"] for blob in items} == {message["blob_id"] for message in made}
    ages = [(blob["created_at"], blob["blob_id"]) for blob in items]
    assert ages == sorted(ages, reverse=True)
    (conversation,) = (await read(client, "/buckets/tree"))["items"]
    assert conversation["blob_count"] == 0
    assert [thread["blob_count"] for thread in conversation["children"]] == [30, 30]
    latest = (await post(client, place.threads[0], "the latest")).json()
    page = await read(client, "/blobs", latest["seq"], limit=1, **listed)
    assert page["items"][0]["data"]["content"] == "the latest"


async def test_a_conversations_messages(client: httpx.AsyncClient) -> None:
    """Messages keep replies, mentions, reactions and unknown fields; they are searched by word."""
    place = await converse(client)
    first = (await post(client, place.conversation, "the tide is high")).json()
    extra = {"mentions": ["bob"], "reactions": {"+1": ["bob"]}, "mood": "calm"}
    reply = await post(client, place.threads[0], "so it is", reply_to=first["blob_id"], **extra)
    seq = reply.json()["seq"]
    blob = await read(client, f"/blobs/{reply.json()['blob_id']}", seq)
    assert blob["data"]["reply_to"] == first["blob_id"]
    assert {name: blob["data"][name] for name in extra} == extra
    inside: dict[str, object] = {"bucket_id": place.conversation, "recursive": "true", "q": "tide"}
    (hit,) = (await read(client, "/blobs", 0, **inside))["items"]
    assert hit["blob_id"] == first["blob_id"]
    assert hit["excerpt"].startswith("the <mark>tide</mark> is high")


async def test_what_is_no_message(client: httpx.AsyncClient) -> None:
    """A message without a sender, or of more than 10,000 characters, is 422 at its place."""
    place = await converse(client)
    assert (await post(client, place.threads[0], "x" * 10_000)).status_code == 201
    problem(await post(client, place.threads[0], "x" * 10_001), 422, "/data/content")
    asked = {"schema_id": "message-v1", "data": {"content": "x"}, "bucket_ids": [place.threads[0]]}
    problem(await client.post("/blobs", json=asked), 422)


async def test_a_thread_in_the_trash_takes_its_messages_along(client: httpx.AsyncClient) -> None:
    """Messages of a trashed thread are not in the conversation until the thread is back."""
    place = await converse(client)
    for number, thread in enumerate(place.threads):
        await post(client, thread, str(number))
    listed: dict[str, object] = {"bucket_id": place.conversation, "recursive": "true"}
    gone = await client.delete(f"/buckets/{place.threads[0]}")
    seq = int(gone.headers["reyna-seq"])
    items = (await read(client, "/blobs", seq, **listed))["items"]
    assert [blob["data"]["content"] for blob in items] == ["1"]
    back = (await client.post(f"/buckets/{place.threads[0]}/restore")).json()
    items = (await read(client, "/blobs", back["seq"], **listed))["items"]
    assert [blob["data"]["content"] for blob in items] == ["1", "0"]
