"""Reading back what was filed: each view shows, with its ETags, exactly what a filing answered."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support import Json, events_of, make_blob, make_bucket, problem, read

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def buckets(client: httpx.AsyncClient, *names: str) -> list[str]:
    """The ids of some new roots."""
    return [(await make_bucket(client, name))["bucket_id"] for name in names]


async def put(client: httpx.AsyncClient, path: str, **asked: Any) -> Json:
    """The body of an answer to a PUT that succeeds."""
    answer = await client.put(path, json=asked)
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


async def etag(client: httpx.AsyncClient, path: str, seq: int = 0) -> str:
    """The ETag of a thing, which is its `seq` in quotes."""
    answer = await client.get(path, headers={"Reyna-Min-Seq": str(seq)})
    assert answer.status_code == 200, answer.text
    assert answer.headers["etag"] == f'"{answer.json()["seq"]}"'
    return answer.headers["etag"]


async def inside(client: httpx.AsyncClient, bucket_id: str, **params: object) -> list[str]:
    """The ids of the blobs in a bucket, the oldest first."""
    asked = {"bucket_id": bucket_id, "sort": "created_at", **params}
    return [blob["blob_id"] for blob in (await read(client, "/blobs", 0, **asked))["items"]]


async def test_a_blob_reads_as_its_filing_answered(client: httpx.AsyncClient) -> None:
    """GET of a blob, and its place in lists, have the buckets, seq and ETag of the PUT's answer."""
    a, b, c = await buckets(client, *"abc")
    made = await make_blob(client, bucket_ids=[a])
    path = f"/blobs/{made['blob_id']}"
    for asked in (
        {"add": [b, c]},
        {"remove": [a]},
        {"add": [a], "remove": [b, c]},
        {"add": [c, b]},
        {"remove": [a, b, c]},
        {"add": [b]},
    ):
        body = await put(client, f"{path}/buckets", **asked)
        blob = await read(client, path, body["seq"])
        assert (blob["bucket_ids"], blob["seq"]) == (body["bucket_ids"], body["seq"])
        assert await etag(client, path) == f'"{body["seq"]}"'
        assert (await read(client, "/blobs"))["items"] == [blob]
        # Where it is filed says nothing of its content.
        assert blob["created_at"] == blob["updated_at"] == made["created_at"]
        for bucket in (a, b, c):
            expected = [made["blob_id"]] if bucket in body["bucket_ids"] else []
            assert await inside(client, bucket) == expected


async def test_a_bucket_reads_as_its_filling_answered(client: httpx.AsyncClient) -> None:
    """GET of a bucket, a tree's node too, has the count, seq and ETag of the PUT's answer."""
    a, b = await buckets(client, *"ab")
    made = [await make_blob(client, str(number)) for number in range(4)]
    blobs = [blob["blob_id"] for blob in made]
    other = await etag(client, f"/buckets/{b}", made[-1]["seq"])
    for asked, count in (
        ({"add": blobs[:3]}, 3),
        ({"remove": blobs[:1]}, 2),
        ({"add": blobs[3:], "remove": blobs[1:2]}, 2),
    ):
        body = await put(client, f"/buckets/{a}/blobs", **asked)
        bucket = await read(client, f"/buckets/{a}", body["seq"])
        assert (bucket["blob_count"], bucket["seq"]) == (count, body["seq"])
        assert await etag(client, f"/buckets/{a}") == f'"{body["seq"]}"'
        (node,) = (await read(client, f"/buckets/{a}/tree"))["items"]
        assert node == {**bucket, "children": []}
        assert bucket in (await read(client, "/buckets"))["items"]
    assert await inside(client, a) == blobs[2:]
    assert await etag(client, f"/buckets/{b}") == other


async def test_only_the_buckets_named_have_a_new_etag(client: httpx.AsyncClient) -> None:
    """Filing a blob leaves alone the ETags of other buckets it is in, of those above, of blobs."""
    top, kept = await buckets(client, "top", "kept")
    below = (await make_bucket(client, "below", top))["bucket_id"]
    blob = await make_blob(client, bucket_ids=[kept])
    other = await make_blob(client, bucket_ids=[kept, below])
    untouched = [f"/buckets/{top}", f"/buckets/{kept}", f"/blobs/{other['blob_id']}"]
    before = [await etag(client, path, other["seq"]) for path in untouched]
    filed = await put(client, f"/blobs/{blob['blob_id']}/buckets", add=[below])
    assert await etag(client, f"/buckets/{below}", filed["seq"]) == f'"{filed["seq"]}"'
    assert [await etag(client, path) for path in untouched] == before


async def test_lists_below_follow_a_filing(client: httpx.AsyncClient) -> None:
    """With `recursive` a blob is listed once, wherever and how often below, and gone after."""
    top = (await make_bucket(client, "top"))["bucket_id"]
    one, two = [(await make_bucket(client, name, top))["bucket_id"] for name in "12"]
    leaf = (await make_bucket(client, "leaf", one))["bucket_id"]
    blob = (await make_blob(client))["blob_id"]

    async def listed() -> list[int]:
        seen = [await inside(client, bucket, recursive="true") for bucket in (top, one, two, leaf)]
        assert all(found in ([], [blob]) for found in seen)
        return [len(found) for found in seen]

    assert await listed() == [0, 0, 0, 0]
    for asked, expected in (
        ({"add": [leaf]}, [1, 1, 0, 1]),
        ({"add": [top, one, two]}, [1, 1, 1, 1]),
        ({"remove": [leaf, one]}, [1, 0, 1, 0]),
        ({"remove": [top, two]}, [0, 0, 0, 0]),
    ):
        body = await put(client, f"/blobs/{blob}/buckets", **asked)
        await read(client, "/blobs", body["seq"])
        assert await listed() == expected


async def test_filed_elsewhere_while_a_bucket_is_in_the_trash(client: httpx.AsyncClient) -> None:
    """A trashed bucket is not among a blob's until it is restored, with its count and its blobs."""
    a, b = await buckets(client, *"ab")
    blob = (await make_blob(client, bucket_ids=[a]))["blob_id"]
    path = f"/blobs/{blob}"
    await client.delete(f"/buckets/{a}")
    body = await put(client, f"{path}/buckets", add=[b])
    assert body["bucket_ids"] == [b]
    assert (await read(client, path, body["seq"]))["bucket_ids"] == [b]
    problem(await client.get(f"/buckets/{a}"), 404)
    assert await inside(client, a) == []
    restored = (await client.post(f"/buckets/{a}/restore")).json()
    seen = await read(client, path, restored["seq"])
    # The blob has not changed: its ETag goes on.
    assert (seen["bucket_ids"], seen["seq"]) == ([a, b], body["seq"])
    assert (await read(client, f"/buckets/{a}"))["blob_count"] == 1
    assert await etag(client, f"/buckets/{a}") == f'"{restored["seq"]}"'
    assert await inside(client, a) == await inside(client, b) == [blob]


async def test_a_trashed_blob_counts_nowhere_until_it_is_back(client: httpx.AsyncClient) -> None:
    """Trash and restore change the counts of a blob's buckets, and no bucket's ETag."""
    a, b = await buckets(client, *"ab")
    blob = (await make_blob(client, bucket_ids=[a]))["blob_id"]
    body = await put(client, f"/blobs/{blob}/buckets", add=[b])
    before = [await etag(client, f"/buckets/{one}", body["seq"]) for one in (a, b)]
    for answer, count in (
        (await client.delete(f"/blobs/{blob}"), 0),
        (await client.post(f"/blobs/{blob}/restore"), 1),
    ):
        seq = int(answer.headers["reyna-seq"])
        at = [await read(client, f"/buckets/{one}", seq, at=seq) for one in (a, b)]
        assert [bucket["blob_count"] for bucket in at] == [count, count]
    assert [await etag(client, f"/buckets/{one}") for one in (a, b)] == before


async def test_the_moments_within_one_batch(client: httpx.AsyncClient) -> None:
    """At each seq of a batch exactly the filings up to it have happened; its time has them all."""
    a, b, c = await buckets(client, *"abc")
    made = await make_blob(client, bucket_ids=[a])
    body = await put(client, f"/blobs/{made['blob_id']}/buckets", add=[b, c], remove=[a])
    first = body["seq"] - 2
    expected = {first - 1: [a], first: [], first + 1: [b], first + 2: [b, c]}
    for seq, where in expected.items():
        blob = await read(client, f"/blobs/{made['blob_id']}", at=seq)
        assert (blob["bucket_ids"], blob["seq"]) == (where, max(seq, made["seq"]))
        for bucket in (a, b, c):
            held = int(bucket in where)
            assert len(await inside(client, bucket, at=seq)) == held
            assert (await read(client, f"/buckets/{bucket}", at=seq))["blob_count"] == held
    blob = await read(client, f"/blobs/{made['blob_id']}", at=body["updated_at"])
    assert blob["bucket_ids"] == [b, c]


async def test_a_bucket_filled_in_one_batch(client: httpx.AsyncClient) -> None:
    """A hundred blobs filed at once come one by one in the past, and count so at every seq."""
    (a,) = await buckets(client, "a")
    blobs = [(await make_blob(client, str(number)))["blob_id"] for number in range(100)]
    body = await put(client, f"/buckets/{a}/blobs", add=blobs)
    await read(client, "/blobs", body["seq"])
    for number in (0, 1, 50, 99, 100):
        at = body["seq"] - 100 + number
        assert (await read(client, f"/buckets/{a}", at=at))["blob_count"] == number
        assert await inside(client, a, at=at, limit=200) == blobs[:number]


async def test_the_etag_that_is_read_is_the_one_that_counts(client: httpx.AsyncClient) -> None:
    """After any filing, PATCH, PUT and DELETE take the ETag of a GET, and refuse the one before."""
    a, b = await buckets(client, *"ab")
    made = await make_blob(client, bucket_ids=[a])
    blob, seq = made["blob_id"], made["seq"]
    of_blob, of_bucket = f"/blobs/{blob}", f"/buckets/{b}"
    steps: list[tuple[str, str, str, Json | None]] = [
        (of_blob, "PUT", f"{of_blob}/buckets", {"add": [b]}),
        (of_bucket, "PUT", f"{of_bucket}/blobs", {"remove": [blob]}),
        (of_blob, "PATCH", of_blob, {"title": "x"}),
        (of_bucket, "PATCH", of_bucket, {"name": "x"}),
        (of_bucket, "PUT", f"{of_bucket}/blobs", {"add": [blob]}),
        (of_blob, "PATCH", of_blob, {"title": "y"}),
        (of_blob, "PUT", f"{of_blob}/buckets", {"remove": [b]}),
        (of_bucket, "DELETE", of_bucket, None),
        (of_blob, "DELETE", of_blob, None),
    ]
    for thing, method, path, body in steps:
        tag = await etag(client, thing, seq)
        stale = {"If-Match": f'"{int(tag.strip(chr(34))) - 1}"'}
        problem(await client.request(method, path, json=body, headers=stale), 412)
        answer = await client.request(method, path, json=body, headers={"If-Match": tag})
        assert answer.is_success, answer.text
        seq = int(answer.headers["reyna-seq"])
        if method != "DELETE":
            assert await etag(client, thing, seq) == answer.headers["etag"]


async def test_all_that_is_behind_a_blob(client: httpx.AsyncClient) -> None:
    """History and `GET events?blob_id=` are exactly the events since which the blob is so."""
    a, b = await buckets(client, *"ab")
    blob = (await make_blob(client, bucket_ids=[a]))["blob_id"]
    path = f"/blobs/{blob}"
    await make_blob(client, bucket_ids=[a])
    await put(client, f"/buckets/{b}/blobs", add=[blob])
    await client.patch(path, json={"title": "x"})
    await put(client, f"{path}/buckets", remove=[a])
    events = await events_of(client, blob_id=blob)
    history = (await read(client, f"{path}/history"))["items"]
    assert history == events[::-1]
    # The view changes at exactly these seqs, between the first event and the last.
    last = events[-1]["seq"]
    changes = []
    before: Json | None = None
    for seq in range(events[0]["seq"] - 1, last + 1):
        answer = await client.get(path, params={"at": str(seq)})
        now = answer.json() if answer.status_code == 200 else None
        if now != before:
            changes.append(seq)
        before = now
    assert changes == [event["seq"] for event in events]
