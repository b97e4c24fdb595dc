"""The contract of GET events: the caller's own events, in order."""

from __future__ import annotations

import httpx
import pytest

from tests.support import events_of, make_blob, make_bucket, read

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_events_are_the_callers_own_in_order(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    """GET events gives all of the caller's events, strictly by seq, and nobody else's."""
    bucket = await make_bucket(client, "Mine")
    await make_blob(stranger)
    blob = await make_blob(client, bucket_ids=[bucket["bucket_id"]])
    await make_bucket(stranger)
    patched = await client.patch(f"/blobs/{blob['blob_id']}", json={"title": "T"})
    found = await events_of(client)
    assert [event["type"] for event in found] == ["bucket.created", "blob.created", "blob.updated"]
    assert [event["seq"] for event in found] == [
        bucket["seq"],
        blob["seq"],
        patched.json()["seq"],
    ]
    created = found[1]
    assert created["blob_id"] == blob["blob_id"]
    assert created["schema_id"] == "text-input-v1"
    assert created["bucket_id"] == bucket["bucket_id"]
    assert created["bucket_ids"] == [bucket["bucket_id"]]
    assert created["data"]["data"] == {"content": "rough"}
    assert created["time"] == blob["created_at"]
    assert "meta" not in created["data"]


async def test_filters_of_events(client: httpx.AsyncClient) -> None:
    """`after`, `bucket_id`, `blob_id` and `types` each narrow the list, alone and together."""
    one, two = await make_bucket(client, "1"), await make_bucket(client, "2")
    here = await make_blob(client, bucket_ids=[one["bucket_id"]])
    there = await make_blob(client, bucket_ids=[two["bucket_id"]])
    gone = await client.delete(f"/blobs/{here['blob_id']}")
    last = int(gone.headers["reyna-seq"])

    async def seqs(**params: object) -> list[int]:
        return [event["seq"] for event in await events_of(client, **params)]

    assert await seqs(after=two["seq"]) == [here["seq"], there["seq"], last]
    assert await seqs(after=last) == []
    assert await seqs(after=10**15) == []
    assert await seqs(bucket_id=one["bucket_id"]) == [one["seq"], here["seq"], last]
    assert await seqs(blob_id=here["blob_id"]) == [here["seq"], last]
    assert await seqs(types="blob.created,bucket.created", after=one["seq"]) == [
        two["seq"],
        here["seq"],
        there["seq"],
    ]
    assert await seqs(types="blob.deleted", bucket_id=two["bucket_id"]) == []
    assert await seqs(types="nothing.such") == []


async def test_events_page_by_page(client: httpx.AsyncClient) -> None:
    """Pages of events join without a gap or a repetition while more is written."""
    for number in range(5):
        await make_blob(client, str(number))
    seen: list[int] = []
    cursor: dict[str, object] = {}
    while len(seen) < 8:
        page = await read(client, "/events", 0, limit=2, **cursor)
        seen += [event["seq"] for event in page["items"]]
        if page["next_cursor"] is None:
            break
        await make_blob(client, "more")
        cursor = {"cursor": page["next_cursor"]}
    assert seen == [event["seq"] for event in await events_of(client)][: len(seen)]
    assert len(seen) >= 5
