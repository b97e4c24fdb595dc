"""The contract of filing blobs in buckets after their creation, as a client sees it over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from reyna.commands.requests import MAX_BUCKETS, MAX_FILED
from tests.support import Json, events_of, make_blob, make_bucket, problem

pytestmark = pytest.mark.asyncio(loop_scope="session")

UNKNOWN = "0" * 32


async def buckets(client: httpx.AsyncClient, number: int) -> list[str]:
    """The ids of some new roots."""
    return [(await make_bucket(client, str(one)))["bucket_id"] for one in range(number)]


async def put(client: httpx.AsyncClient, path: str, **asked: Any) -> Json:
    """The body of an answer to a PUT that succeeds."""
    answer = await client.put(path, json=asked)
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    assert answer.headers["reyna-seq"] == str(body["seq"])
    assert answer.headers["etag"] == f'"{body["seq"]}"'
    return body


async def where(client: httpx.AsyncClient, blob_id: str) -> list[str]:
    """The buckets a blob is in, as the next event of its own says."""
    patched = await client.patch(f"/blobs/{blob_id}", json={"title": UNKNOWN})
    assert patched.status_code == 200
    await client.patch(f"/blobs/{blob_id}", json={"title": None})
    last = (await events_of(client, blob_id=blob_id))[-1]
    found: list[str] = last["bucket_ids"]
    return found


async def test_a_blob_is_put_into_buckets_and_taken_out(client: httpx.AsyncClient) -> None:
    """PUT blobs/{id}/buckets answers where the blob is then; each bucket is an event of its own."""
    a, b, c = await buckets(client, 3)
    blob = await make_blob(client, bucket_ids=[a])
    path = f"/blobs/{blob['blob_id']}/buckets"
    body = await put(client, path, add=[b, c], remove=[a])
    assert set(body) == {"blob_id", "bucket_ids", "updated_at", "seq"}
    assert (body["blob_id"], body["bucket_ids"]) == (blob["blob_id"], [b, c])
    events = await events_of(client, after=blob["seq"])
    assert [(event["type"], event["bucket_id"]) for event in events] == [
        ("bucket.blob.removed", a),
        ("bucket.blob.added", b),
        ("bucket.blob.added", c),
    ]
    assert [event["data"]["bucket_ids"] for event in events] == [[], [b], [b, c]]
    for event in events:
        assert (event["blob_id"], event["schema_id"]) == (blob["blob_id"], "text-input-v1")
        assert event["bucket_ids"] == [event["bucket_id"]]
        assert event["time"] == body["updated_at"]
    assert events[-1]["seq"] == body["seq"]
    assert await where(client, blob["blob_id"]) == [b, c]


async def test_blobs_are_put_into_a_bucket_and_taken_out(client: httpx.AsyncClient) -> None:
    """PUT buckets/{id}/blobs answers which blobs came and went; each is an event of its own."""
    a, b = await buckets(client, 2)
    there = [(await make_blob(client, bucket_ids=[a, b]))["blob_id"] for _ in range(2)]
    elsewhere = [(await make_blob(client))["blob_id"] for _ in range(2)]
    path = f"/buckets/{a}/blobs"
    body = await put(client, path, add=[*elsewhere, there[0]], remove=[there[1]])
    assert set(body) == {"bucket_id", "added", "removed", "updated_at", "seq"}
    assert (body["bucket_id"], body["added"], body["removed"]) == (a, elsewhere, [there[1]])
    events = await events_of(client, types="bucket.blob.added,bucket.blob.removed")
    assert [event["blob_id"] for event in events] == [there[1], *elsewhere]
    assert [event["data"]["bucket_ids"] for event in events] == [[b], [a], [a]]
    assert events[-1]["seq"] == body["seq"]
    assert await where(client, there[1]) == [b]
    assert await where(client, elsewhere[0]) == [a]


async def test_nothing_to_change_writes_nothing(client: httpx.AsyncClient) -> None:
    """What is filed so already, and empty lists, are answered with the last seq and no event."""
    a, b = await buckets(client, 2)
    blob = await make_blob(client, bucket_ids=[a])
    before = await events_of(client)
    path = f"/blobs/{blob['blob_id']}/buckets"
    for asked in ({}, {"add": [a, a]}, {"remove": [b]}, {"add": [a], "remove": [b]}):
        body = await put(client, path, **asked)
        assert (body["bucket_ids"], body["seq"]) == ([a], blob["seq"])
    for asked in ({}, {"add": [blob["blob_id"]]}):
        body = await put(client, f"/buckets/{a}/blobs", **asked)
        assert (body["added"], body["removed"]) == ([], [])
    assert await events_of(client) == before


async def test_filing_is_all_or_nothing(client: httpx.AsyncClient) -> None:
    """One bucket or blob that is not there, or is in the trash, is 404, and nothing is filed."""
    a, gone = await buckets(client, 2)
    blob, trashed = [(await make_blob(client))["blob_id"] for _ in range(2)]
    await client.delete(f"/buckets/{gone}")
    await client.delete(f"/blobs/{trashed}")
    before = await events_of(client)
    for bucket in (UNKNOWN, gone):
        for asked in ({"add": [a, bucket]}, {"add": [a], "remove": [bucket]}):
            problem(await client.put(f"/blobs/{blob}/buckets", json=asked), 404)
        problem(await client.put(f"/buckets/{bucket}/blobs", json={"add": [blob]}), 404)
    for one in (UNKNOWN, trashed):
        for asked in ({"add": [blob, one]}, {"add": [blob], "remove": [one]}):
            problem(await client.put(f"/buckets/{a}/blobs", json=asked), 404)
        problem(await client.put(f"/blobs/{one}/buckets", json={"add": [a]}), 404)
    assert await events_of(client) == before


async def test_what_is_anothers_cannot_be_filed(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    """Another's blob or bucket is 404 on both sides, and nobody's log gets an event."""
    mine, my_blob = (await buckets(client, 1))[0], (await make_blob(client))["blob_id"]
    theirs, their_blob = (await buckets(stranger, 1))[0], (await make_blob(stranger))["blob_id"]
    for one, other in ((mine, their_blob), (theirs, my_blob), (theirs, their_blob)):
        problem(await client.put(f"/buckets/{one}/blobs", json={"add": [other]}), 404)
        problem(await client.put(f"/blobs/{other}/buckets", json={"add": [one]}), 404)
    assert len(await events_of(client)) == len(await events_of(stranger)) == 2


async def test_if_match_takes_the_newest_of_both(client: httpx.AsyncClient) -> None:
    """A blob's ETag counts its filings: an older one is 412 on PUT, PATCH and DELETE alike."""
    a, b = await buckets(client, 2)
    blob = await make_blob(client)
    path = f"/blobs/{blob['blob_id']}"

    def tag(seq: int) -> dict[str, str]:
        return {"If-Match": f'"{seq}"'}

    first, second = {"add": [a]}, {"add": [b]}
    filed = await client.put(f"{path}/buckets", json=first, headers=tag(blob["seq"]))
    assert filed.status_code == 200
    for answer in (
        await client.put(f"{path}/buckets", json=second, headers=tag(blob["seq"])),
        await client.patch(path, json={"title": "x"}, headers=tag(blob["seq"])),
        await client.delete(path, headers=tag(blob["seq"])),
    ):
        problem(answer, 412)
    seq = filed.json()["seq"]
    patched = await client.patch(path, json={"title": "x"}, headers=tag(seq))
    assert patched.status_code == 200
    problem(await client.put(f"{path}/buckets", json=second, headers=tag(seq)), 412)
    seq = patched.json()["seq"]
    again = await client.put(f"{path}/buckets", json=second, headers=tag(seq))
    assert again.status_code == 200
    deleted = await client.delete(path, headers=tag(again.json()["seq"]))
    assert deleted.status_code == 204
    restored = await client.post(f"{path}/restore")
    assert restored.status_code == 200
    assert await where(client, blob["blob_id"]) == [a, b]


async def test_a_buckets_etag_counts_its_filings(client: httpx.AsyncClient) -> None:
    """After a blob came, the bucket's older ETag is 412; another bucket's stays as it was."""
    made, other = await make_bucket(client), await make_bucket(client)
    blob = (await make_blob(client))["blob_id"]
    path = f"/buckets/{made['bucket_id']}"
    old = {"If-Match": f'"{made["seq"]}"'}
    filed = await client.put(f"{path}/blobs", json={"add": [blob]}, headers=old)
    assert filed.status_code == 200
    problem(await client.put(f"{path}/blobs", json={"remove": [blob]}, headers=old), 412)
    problem(await client.patch(path, json={"name": "x"}, headers=old), 412)
    new = {"If-Match": filed.headers["etag"]}
    assert (await client.patch(path, json={"name": "x"}, headers=new)).status_code == 200
    untouched = {"If-Match": f'"{other["seq"]}"'}
    answer = await client.patch(
        f"/buckets/{other['bucket_id']}", json={"name": "x"}, headers=untouched
    )
    assert answer.status_code == 200


async def test_limits_of_filing(client: httpx.AsyncClient) -> None:
    """Too long a list, an id in both lists and a blob in too many buckets are 422 at the place."""
    (bucket,) = await buckets(client, 1)
    blob = (await make_blob(client))["blob_id"]
    ids = [f"x{number}" for number in range(MAX_FILED + 1)]
    for path in (f"/blobs/{blob}/buckets", f"/buckets/{bucket}/blobs"):
        problem(await client.put(path, json={"add": ids}), 422, "/add")
        problem(await client.put(path, json={"add": ids, "remove": ids}), 422, "/add", "/remove")
        both = {"add": ["x", "y"], "remove": ["z", "y"]}
        problem(await client.put(path, json=both), 422, "/remove/1")
        problem(await client.put(path, json={"add": ["a.b"]}), 400, "/add/0")
        problem(await client.put(path, json={"remove": ["x", 1]}), 400, "/remove/1")
        problem(await client.put(path, json={"add": "x"}), 400, "/add")
        problem(await client.put(path, json=[]), 400)
    assert len(await events_of(client)) == 2


async def test_a_blob_is_in_a_hundred_buckets_at_most(client: httpx.AsyncClient) -> None:
    """One bucket over the limit is 422 from either side; taking one out makes room for it."""
    full = await buckets(client, MAX_BUCKETS)
    (one_more,) = await buckets(client, 1)
    free, blob = [(await make_blob(client))["blob_id"] for _ in range(2)]
    path = f"/blobs/{blob}/buckets"
    assert (await put(client, path, add=full))["bucket_ids"] == full
    problem(await client.put(path, json={"add": [one_more]}), 422, "/add")
    filling = {"add": [free, blob]}
    problem(await client.put(f"/buckets/{one_more}/blobs", json=filling), 422, "/add/1")
    body = await put(client, path, add=[one_more], remove=[full[0]])
    assert body["bucket_ids"] == [*full[1:], one_more]


async def test_five_hundred_blobs_at_once(client: httpx.AsyncClient) -> None:
    """The longest lists there may be are one batch, in the order asked for."""
    a, b = await buckets(client, 2)
    made = [(await make_blob(client, bucket_ids=[a]))["blob_id"] for _ in range(MAX_FILED)]
    body = await put(client, f"/buckets/{b}/blobs", add=made)
    assert body["added"] == made
    seqs = [event["seq"] for event in await events_of(client, types="bucket.blob.added", limit=200)]
    assert seqs == list(range(seqs[0], body["seq"] + 1))
    assert len(seqs) == MAX_FILED


async def test_a_trashed_bucket_is_not_shown_and_comes_back(client: httpx.AsyncClient) -> None:
    """Filing a blob elsewhere keeps it in a bucket in the trash, which the answer leaves out."""
    a, b = await buckets(client, 2)
    blob = (await make_blob(client, bucket_ids=[a]))["blob_id"]
    await client.delete(f"/buckets/{a}")
    path = f"/blobs/{blob}/buckets"
    assert (await put(client, path, add=[b]))["bucket_ids"] == [b]
    await client.post(f"/buckets/{a}/restore")
    assert (await put(client, path))["bucket_ids"] == [a, b]


async def test_events_of_filing_are_found_by_blob_and_bucket(client: httpx.AsyncClient) -> None:
    """GET events with `blob_id` or `bucket_id` has the filings of that blob or bucket."""
    a, b = await buckets(client, 2)
    blob = await make_blob(client, bucket_ids=[a])
    await make_blob(client)
    path = f"/blobs/{blob['blob_id']}/buckets"
    moved = (await put(client, path, add=[b], remove=[a]))["seq"]

    async def seqs(**params: object) -> list[int]:
        return [event["seq"] for event in await events_of(client, after=blob["seq"], **params)]

    assert await seqs(blob_id=blob["blob_id"]) == [moved - 1, moved]
    assert await seqs(bucket_id=a) == [moved - 1]
    assert await seqs(bucket_id=b) == [moved]
