"""The contract of histories: the events of one blob or bucket, newest first."""

from __future__ import annotations

import httpx
import pytest

from tests.support import Json, events_of, make_blob, make_bucket, problem, read

pytestmark = pytest.mark.asyncio(loop_scope="session")

UNKNOWN = "0" * 32


async def history(client: httpx.AsyncClient, path: str, limit: int = 50) -> list[Json]:
    """All of a history, page by page; every page but the last is full."""
    found: list[Json] = []
    params: dict[str, object] = {"limit": limit}
    while True:
        page = await read(client, f"{path}/history", 0, **params)
        assert set(page) == {"items", "next_cursor"}
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        assert len(page["items"]) == limit
        params["cursor"] = page["next_cursor"]


async def test_a_blobs_history_is_its_events_and_filings(client: httpx.AsyncClient) -> None:
    """All events of the blob, filings too, newest first, just as GET events has them."""
    a, b = [(await make_bucket(client, name))["bucket_id"] for name in "ab"]
    blob = await make_blob(client, bucket_ids=[a])
    other = await make_blob(client, bucket_ids=[a])
    path = f"/blobs/{blob['blob_id']}"
    await client.patch(path, json={"title": "1"})
    both = {"add": [blob["blob_id"], other["blob_id"]]}
    await client.put(f"/buckets/{b}/blobs", json=both)
    await client.put(f"{path}/buckets", json={"remove": [a]})
    await client.patch(path, json={"title": "2"})
    await client.delete(path)
    found = await history(client, path)
    assert [event["type"] for event in found] == [
        "blob.deleted",
        "blob.updated",
        "bucket.blob.removed",
        "bucket.blob.added",
        "blob.updated",
        "blob.created",
    ]
    assert found[::-1] == await events_of(client, blob_id=blob["blob_id"])
    assert found[0]["bucket_ids"] == [b]


async def test_a_buckets_history_is_its_events(client: httpx.AsyncClient) -> None:
    """All events of the bucket, newest first, also when it is in the trash."""
    bucket = (await make_bucket(client))["bucket_id"]
    path = f"/buckets/{bucket}"
    blob = (await make_blob(client, bucket_ids=[bucket]))["blob_id"]
    await client.patch(path, json={"name": "x"})
    await client.put(f"{path}/blobs", json={"remove": [blob]})
    await client.put(f"{path}/blobs", json={"add": [blob]})
    await client.delete(path)
    found = await history(client, path)
    assert [event["type"] for event in found] == [
        "bucket.deleted",
        "bucket.blob.added",
        "bucket.blob.removed",
        "bucket.updated",
        "bucket.created",
    ]


async def test_a_long_history_page_by_page(client: httpx.AsyncClient) -> None:
    """Hundreds of edits and filings come in pages without a gap or a repetition."""
    a, b = [(await make_bucket(client, name))["bucket_id"] for name in "ab"]
    blob = (await make_blob(client, bucket_ids=[a]))["blob_id"]
    path = f"/blobs/{blob}"
    for number in range(150):
        await client.patch(path, json={"title": str(number)})
        if number % 5 == 0:
            here, there = (a, b) if number % 2 else (b, a)
            await client.put(f"{path}/buckets", json={"add": [here], "remove": [there]})
        if number % 50 == 0:
            await client.delete(path)
            await client.post(f"{path}/restore")
    every = await events_of(client, blob_id=blob, limit=200)
    assert len(every) == 1 + 150 + 2 * 30 + 2 * 3
    for limit in (7, 50, 200):
        assert await history(client, path, limit) == every[::-1]


async def test_a_page_stays_while_more_is_written(client: httpx.AsyncClient) -> None:
    """Older pages are not moved by what is appended meanwhile."""
    blob = (await make_blob(client))["blob_id"]
    path = f"/blobs/{blob}"
    seqs = [(await client.patch(path, json={"title": str(n)})).json()["seq"] for n in range(5)]
    first = await read(client, f"{path}/history", limit=2)
    await client.patch(path, json={"title": "more"})
    second = await read(client, f"{path}/history", 0, limit=2, cursor=first["next_cursor"])
    assert [event["seq"] for event in (*first["items"], *second["items"])] == seqs[:0:-1]


async def test_only_ones_own_has_a_history(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    """What never was, and what is another's, is 404; a bad cursor or limit is 400."""
    blob = (await make_blob(stranger))["blob_id"]
    bucket = (await make_bucket(stranger))["bucket_id"]
    for path in (
        f"/blobs/{blob}",
        f"/blobs/{UNKNOWN}",
        f"/buckets/{bucket}",
        f"/buckets/{UNKNOWN}",
    ):
        problem(await client.get(f"{path}/history"), 404)
    for params in ({"cursor": "x"}, {"cursor": "WyJhIl0"}, {"limit": "0"}, {"limit": "201"}):
        problem(await stranger.get(f"/blobs/{blob}/history", params=params), 400)


async def test_a_history_waits_for_no_seq_that_never_was(client: httpx.AsyncClient) -> None:
    """Reyna-Min-Seq beyond the log is 503; the answer says up to where the log was read."""
    blob = await make_blob(client)
    path = f"/blobs/{blob['blob_id']}/history"
    answer = await client.get(path, headers={"Reyna-Min-Seq": str(blob["seq"])})
    assert int(answer.headers["reyna-seq"]) >= blob["seq"]
    problem(await client.get(path, headers={"Reyna-Min-Seq": str(10**15)}), 503)
