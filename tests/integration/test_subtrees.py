"""A bucket with all below it, read from the log as it was at one moment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest

from reyna.commands import subtrees
from reyna.commands.subtrees import Subtree
from reyna.domain.subtree import FilledBucket
from reyna.errors import NotFound, Permanent
from reyna.log.connection import Connection
from reyna.log.stream import Log
from tests.support import Studio, make_blob, make_bucket, running_studio

TEXT = "text-input-v1"


class Place(msgspec.Struct, frozen=True):
    """A studio without processors, a user of it, and its log seen from beside."""

    studio: Studio
    client: httpx.AsyncClient
    user_id: str
    log: Log

    async def open(self, bucket_id: str) -> Subtree:
        """The user's bucket as it is now."""
        return await Subtree.open(self.log, self.user_id, bucket_id)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """A studio, and a connection of the test's own."""
    async with running_studio(tmp_path) as studio:
        connection = await Connection.open(studio.nats.url, studio.nats.token)
        user = studio.user()
        async with studio.client(user.token) as client:
            yield Place(studio, client, user.user_id, await Log.open(connection))
        await connection.close()


def told(bucket: FilledBucket) -> object:
    """A bucket's name, texts and children."""
    texts = [msgspec.json.decode(one.data)["content"] for one in bucket.blobs]
    return [bucket.name, texts, [told(child) for child in bucket.children]]


async def test_what_happens_while_it_is_read_is_not_in_it(place: Place) -> None:
    """A subtree is as it was when it was opened, whatever is written, moved, filed or thrown away
    before its texts are read.
    """
    client = place.client
    top = (await make_bucket(client, "top"))["bucket_id"]
    one, two = [(await make_bucket(client, name, top))["bucket_id"] for name in ("one", "two")]
    blobs = [(await make_blob(client, content, bucket_ids=[one]))["blob_id"] for content in "abc"]
    await make_blob(client, "d", bucket_ids=[two, one])
    await client.put(f"/blobs/{blobs[2]}/buckets", json={"add": [two], "remove": [one]})
    before = await place.open(top)
    await client.patch(f"/blobs/{blobs[0]}", json={"data": {"content": "later"}})
    await client.delete(f"/blobs/{blobs[1]}")
    await client.put(f"/blobs/{blobs[2]}/buckets", json={"remove": [two]})
    await client.post(f"/buckets/{two}/move", json={"parent_bucket_id": top, "position": 0})
    await make_blob(client, "new", bucket_ids=[one])
    after = await place.open(top)
    assert told(await before.read([TEXT])) == [
        "top",
        [],
        [["one", ["a", "b", "d"], []], ["two", ["c", "d"], []]],
    ]
    assert told(await after.read([TEXT])) == [
        "top",
        [],
        [["two", ["d"], []], ["one", ["later", "d", "new"], []]],
    ]
    assert before.seq < after.seq


async def test_only_what_was_asked_for_is_read(place: Place) -> None:
    """Blobs of other schemas, of other buckets and of others' are not in it."""
    client = place.client
    top = (await make_bucket(client, "top"))["bucket_id"]
    beside = (await make_bucket(client, "beside"))["bucket_id"]
    await make_blob(client, "a", bucket_ids=[top])
    await make_blob(client, "b", bucket_ids=[beside])
    message = {"content": "c", "sender_id": "s"}
    await client.post(
        "/blobs", json={"schema_id": "message-v1", "data": message, "bucket_ids": [top]}
    )
    assert told(await (await place.open(top)).read([TEXT])) == ["top", ["a"], []]
    assert told(await (await place.open(top)).read([])) == ["top", [], []]
    with pytest.raises(NotFound):
        await Subtree.open(place.log, place.studio.user().user_id, top)


async def test_more_than_may_be_held_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many blobs, bytes or buckets are refused in a sentence; those elsewhere do not count."""
    client = place.client
    top = (await make_bucket(client, "top"))["bucket_id"]
    await make_bucket(client, "child", top)
    beside = (await make_bucket(client, "beside"))["bucket_id"]
    await make_blob(client, "a" * 100, bucket_ids=[top])
    for _ in range(3):
        await make_blob(client, "b" * 100, bucket_ids=[beside])
    monkeypatch.setattr(subtrees, "MAX_BLOBS", 1)
    assert told(await (await place.open(top)).read([TEXT])) == [
        "top",
        ["a" * 100],
        [["child", [], []]],
    ]
    for limit, value in (("MAX_BYTES", 50), ("MAX_BUCKETS", 1)):
        with monkeypatch.context() as patched:
            patched.setattr(subtrees, limit, value)
            with pytest.raises(Permanent, match="at most"):
                await (await place.open(top)).read([TEXT])
    with pytest.raises(Permanent, match="too much in it"):
        await (await place.open(beside)).read([TEXT])


async def test_thousands_of_texts_are_read_whole(place: Place) -> None:
    """A bucket of more texts than one answer of the log holds is read whole and in order."""
    client = place.client
    top = (await make_bucket(client, "top"))["bucket_id"]
    made = [await make_blob(client, f"{number}", bucket_ids=[top]) for number in range(1100)]
    whole = await (await place.open(top)).read([TEXT])
    assert [one.blob_id for one in whole.blobs] == [one["blob_id"] for one in made]
