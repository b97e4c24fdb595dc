"""The contract of undo, as a client sees it over HTTP."""

from __future__ import annotations

import asyncio
import random

import httpx
import pytest

from tests.support import Json, Studio, events_of, make_blob, make_bucket, problem, read

pytestmark = pytest.mark.asyncio(loop_scope="session")

UNKNOWN = "0" * 32
FAR = 10**15


async def revert(client: httpx.AsyncClient, path: str, to: int, **headers: str) -> httpx.Response:
    """An attempt to undo."""
    return await client.post(f"{path}/revert", json={"to": to}, headers=headers)


async def patch(client: httpx.AsyncClient, path: str, **fields: object) -> int:
    """A change that is made; gives its seq."""
    answer = await client.patch(path, json=fields)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["seq"])


async def test_a_blob_becomes_what_it_was(client: httpx.AsyncClient) -> None:
    """POST revert gives data, title, tags and metadata back by one new event that says so."""
    made = await make_blob(client, "first", title="T", tags=["a"], metadata={"k": 1})
    path = f"/blobs/{made['blob_id']}"
    before = await read(client, path, made["seq"])
    await patch(client, path, data={"content": "second"}, title=None)
    last = await patch(client, path, tags=["b"], metadata={"k": 2})
    answer = await revert(client, path, made["seq"])
    body = answer.json()
    assert (answer.status_code, set(body)) == (200, {"blob_id", "updated_at", "seq"})
    assert body["blob_id"] == made["blob_id"]
    assert body["seq"] > last
    assert answer.headers["reyna-seq"] == str(body["seq"])
    assert answer.headers["etag"] == f'"{body["seq"]}"'
    after = await read(client, path, body["seq"])
    for field in ("data", "title", "tags", "metadata", "schema_id"):
        assert after[field] == before[field]
    events = await events_of(client)
    assert [event["type"] for event in events] == ["blob.created"] + ["blob.updated"] * 3
    assert events[-1]["data"]["reverted_to"] == made["seq"]
    assert set(events[-1]["data"]["changed"]) == {"data", "title", "tags", "metadata"}
    assert all("reverted_to" not in event["data"] for event in events[:-1])
    again = await revert(client, path, last)
    assert (await read(client, path, again.json()["seq"]))["tags"] == ["b"]


async def test_nothing_to_undo_appends_nothing(client: httpx.AsyncClient) -> None:
    """What is so already, then or since, is 200 with the thing's own seq, and no event."""
    blob, bucket = await make_blob(client), await make_bucket(client)
    other = await make_bucket(client, "other")
    for thing, path in (
        (blob, f"/blobs/{blob['blob_id']}"),
        (bucket, f"/buckets/{bucket['bucket_id']}"),
    ):
        for to in (thing["seq"], other["seq"]):
            answer = await revert(client, path, to)
            assert (answer.status_code, answer.json()["seq"]) == (200, thing["seq"])
    assert len(await events_of(client)) == 3


async def test_moments_that_cannot_be_gone_back_to(client: httpx.AsyncClient) -> None:
    """Before the creation, in the trash, and beyond the head are 422 at /to, each with a reason."""
    first = await make_blob(client, "something else")
    blob, bucket = await make_blob(client), await make_bucket(client)
    for thing, path, name in (
        (blob, f"/blobs/{blob['blob_id']}", "no blob"),
        (bucket, f"/buckets/{bucket['bucket_id']}", "no bucket"),
    ):
        for to, said in ((first["seq"], name), (thing["seq"] - 1, name), (FAR, "not come to")):
            body = problem(await revert(client, path, to), 422, "/to")
            assert said in body["detail"]
        trashed = int((await client.delete(path)).headers["reyna-seq"])
        back = (await client.post(f"{path}/restore")).json()["seq"]
        between = await make_blob(client)
        body = problem(await revert(client, path, trashed), 422, "/to")
        assert "trash" in body["detail"]
        for to in (thing["seq"], back, between["seq"]):
            assert (await revert(client, path, to)).status_code == 200
        head = (await make_blob(client))["seq"]
        problem(await revert(client, path, head + 1), 422, "/to")
        problem(await revert(client, path, 2**70), 422, "/to")
    types = [event["type"] for event in await events_of(client)]
    assert not {"blob.updated", "bucket.updated", "bucket.structure.changed"} & set(types)


async def test_in_the_trash_with_what_was_above(client: httpx.AsyncClient) -> None:
    """A bucket whose parent was in the trash was there too: 422, even if nothing would change."""
    root = (await make_bucket(client, "root"))["bucket_id"]
    leaf = (await make_bucket(client, "leaf", root))["bucket_id"]
    gone = int((await client.delete(f"/buckets/{root}")).headers["reyna-seq"])
    await client.post(f"/buckets/{root}/restore")
    body = problem(await revert(client, f"/buckets/{leaf}", gone), 422, "/to")
    assert "trash" in body["detail"]


async def test_what_is_not_there_is_404(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    """What is unknown, another user's or in the trash now is 404, and nothing is written."""
    blob, bucket = await make_blob(client), await make_bucket(client)
    paths = [f"/blobs/{blob['blob_id']}", f"/buckets/{bucket['bucket_id']}"]
    for path in (*paths, f"/blobs/{UNKNOWN}", f"/buckets/{UNKNOWN}"):
        problem(await revert(stranger, path, bucket["seq"]), 404)
    for path in paths:
        await client.delete(path)
        for to in (1, bucket["seq"], FAR):
            problem(await revert(client, path, to), 404)
    assert await events_of(stranger) == []
    assert len(await events_of(client)) == 4


async def test_what_is_no_seq_is_400(client: httpx.AsyncClient) -> None:
    """`to` is a whole number from 1, else 400 at its place; without it 400."""
    blob, bucket = await make_blob(client), await make_bucket(client)
    for path in (f"/blobs/{blob['blob_id']}", f"/buckets/{bucket['bucket_id']}"):
        for wrong in (0, -1, 1.5, "1", None, [1], True):
            answer = await client.post(f"{path}/revert", json={"to": wrong})
            problem(answer, 400, "/to")
        problem(await client.post(f"{path}/revert", json={}), 400)
    assert len(await events_of(client)) == 2


async def test_a_bucket_gets_everything_back(client: httpx.AsyncClient) -> None:
    """Name, type, metadata, tags and place come back by two events that follow on."""
    root = (await make_bucket(client, "root"))["bucket_id"]
    made = [await make_bucket(client, n, root, tags=[n], metadata={"n": n}) for n in "abc"]
    path = f"/buckets/{made[1]['bucket_id']}"
    before = await read(client, path, made[2]["seq"])
    await patch(client, path, name="new", type="part", tags=[], metadata={"n": None})
    await client.post(f"{path}/move", json={"parent_bucket_id": None, "position": 0})
    answer = await revert(client, path, made[2]["seq"])
    body = answer.json()
    assert (answer.status_code, set(body)) == (200, {"bucket_id", "updated_at", "seq"})
    assert answer.headers["etag"] == f'"{body["seq"]}"'
    after = await read(client, path, body["seq"])
    changing = {"seq", "updated_at"}
    assert {k: v for k, v in after.items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }
    assert after["seq"] == body["seq"]
    updated, moved = (await events_of(client))[-2:]
    assert (updated["type"], moved["type"]) == ("bucket.updated", "bucket.structure.changed")
    assert moved["seq"] == updated["seq"] + 1 == body["seq"]
    assert moved["data"]["reverted_to"] == updated["data"]["reverted_to"] == made[2]["seq"]
    assert moved["data"]["position"] == 1
    tree = await read(client, f"/buckets/{root}/tree")
    assert [child["name"] for child in tree["items"][0]["children"]] == ["a", "b", "c"]


async def test_a_place_that_is_taken(client: httpx.AsyncClient) -> None:
    """Where another stands in the old place by now, the bucket comes right before it."""
    a, b = await make_bucket(client, "a"), await make_bucket(client, "b")
    path = f"/buckets/{b['bucket_id']}"
    await client.post(f"{path}/move", json={"parent_bucket_id": a["bucket_id"]})
    await make_bucket(client, "new")
    answer = await revert(client, path, b["seq"])
    tree = await read(client, "/buckets/tree", answer.json()["seq"])
    assert [node["name"] for node in tree["items"]] == ["a", "b", "new"]
    again = await revert(client, path, b["seq"])
    assert again.json()["seq"] == answer.json()["seq"]


async def test_a_place_that_cannot_be_any_more(client: httpx.AsyncClient) -> None:
    """A parent in the trash, a circle and too great a depth are 409, and not even the name comes
    back.
    """
    a = (await make_bucket(client, "a"))["bucket_id"]
    b = await make_bucket(client, "b", a)
    path = f"/buckets/{b['bucket_id']}"
    await patch(client, path, name="renamed")
    await client.post(f"{path}/move", json={"parent_bucket_id": None})
    await client.delete(f"/buckets/{a}")
    body = problem(await revert(client, path, b["seq"]), 409)
    assert "in the trash" in body["detail"]
    await client.post(f"/buckets/{a}/restore")
    await client.post(f"/buckets/{a}/move", json={"parent_bucket_id": b["bucket_id"]})
    body = problem(await revert(client, path, b["seq"]), 409)
    assert "under one of its own" in body["detail"]
    line = [b["bucket_id"]]
    await client.post(f"/buckets/{a}/move", json={"parent_bucket_id": None})
    for level in range(31):
        line.append((await make_bucket(client, str(level), line[-1]))["bucket_id"])
    body = problem(await revert(client, path, b["seq"]), 409)
    assert "deep" in body["detail"]
    assert (await read(client, path))["name"] == "renamed"
    await client.delete(f"/buckets/{line[1]}")
    answer = await revert(client, path, b["seq"])
    after = await read(client, path, answer.json()["seq"])
    assert (after["name"], after["parent_bucket_id"]) == ("b", a)


async def test_if_match_makes_undo_conditional(client: httpx.AsyncClient) -> None:
    """A stale ETag is 412, and writes nothing; the current one passes."""
    blob, bucket = await make_blob(client, title="a"), await make_bucket(client)
    for thing, path, change in (
        (blob, f"/blobs/{blob['blob_id']}", {"title": "b"}),
        (bucket, f"/buckets/{bucket['bucket_id']}", {"name": "b"}),
    ):
        stale, to = f'"{thing["seq"]}"', thing["seq"]
        seq = await patch(client, path, **change)
        written = len(await events_of(client))
        problem(await revert(client, path, to, **{"If-Match": stale}), 412)
        problem(await revert(client, path, FAR, **{"If-Match": stale}), 412)
        assert len(await events_of(client)) == written
        assert (await revert(client, path, to, **{"If-Match": f'"{seq}"'})).status_code == 200


async def test_a_key_undoes_once(client: httpx.AsyncClient) -> None:
    """The same key and body give the first answer again, also after further changes."""
    blob, bucket = await make_blob(client, title="a"), await make_bucket(client)
    await make_bucket(client, "other")
    for number, (thing, path, change) in enumerate(
        (
            (blob, f"/blobs/{blob['blob_id']}", {"title": "b"}),
            (bucket, f"/buckets/{bucket['bucket_id']}", {"name": "b"}),
        )
    ):
        await patch(client, path, **change)
        if thing is bucket:
            await client.post(f"{path}/move", json={"parent_bucket_id": None})
        key = {"Idempotency-Key": f"undo {number}"}
        answers = await asyncio.gather(
            *(revert(client, path, thing["seq"], **key) for _ in range(5))
        )
        await patch(client, path, **change)
        written = len(await events_of(client))
        answers.append(await revert(client, path, thing["seq"], **key))
        assert {answer.status_code for answer in answers} == {200}
        assert len({(a.content, a.headers["reyna-seq"], a.headers["etag"]) for a in answers}) == 1
        assert len(await events_of(client)) == written
        problem(await revert(client, path, thing["seq"] + 1, **key), 422)


@pytest.mark.parametrize("seed", range(3))
async def test_any_moment_of_a_history(client: httpx.AsyncClient, seed: int) -> None:
    """However a blob and a bucket came to be what they are, each seq of theirs can be gone back
    to, in any order, and is exactly what was seen then.
    """
    chance = random.Random(seed)
    roots = [(await make_bucket(client, f"{n}"))["bucket_id"] for n in range(3)]
    bucket, blob = await make_bucket(client, "it", roots[0]), await make_blob(client)
    paths = (f"/buckets/{bucket['bucket_id']}", f"/blobs/{blob['blob_id']}")
    seen: dict[tuple[str, int], Json] = {}
    for _ in range(15):
        for path in paths:
            thing = await read(client, path, max([blob["seq"], *(seq for _, seq in seen)]))
            seen[path, thing["seq"]] = thing
        await make_bucket(client, "brother", chance.choice(roots))
        where = {"parent_bucket_id": chance.choice([None, *roots]), "position": chance.randrange(3)}
        moved = await client.post(f"{paths[0]}/move", json=where)
        metadata = {"n": chance.randrange(3)}
        changed = [await patch(client, path, metadata=metadata) for path in paths]
        last = max(moved.json()["seq"], *changed)
        for path in paths:
            thing = await read(client, path, last)
            seen[path, thing["seq"]] = thing
    moments = list(seen)
    chance.shuffle(moments)
    for path, seq in moments:
        answer = await revert(client, path, seq)
        assert answer.status_code == 200, answer.text
        now = await read(client, path, answer.json()["seq"])
        for field in ("data", "title", "name", "tags", "metadata", "parent_bucket_id"):
            assert now.get(field) == seen[path, seq].get(field)


async def test_undo_and_edits_at_once_lose_nothing(
    studio: Studio, client: httpx.AsyncClient
) -> None:
    """Edits and reverts from two processes at once: each answer is an event, the last stands."""
    made = await make_bucket(client, "first", metadata={"n": -1})
    blob = await make_blob(client, "first")
    paths = (f"/buckets/{made['bucket_id']}", f"/blobs/{blob['blob_id']}")
    async with studio.beside() as other, other.client() as second:
        second.headers = client.headers

        async def storm(path: str, one: httpx.AsyncClient, seq: int) -> list[httpx.Response]:
            answers: list[httpx.Response] = []
            for number in range(8):
                answers.append(await one.patch(path, json={"metadata": {"n": number}}))
                answers.append(await revert(one, path, seq))
            return answers

        results = await asyncio.gather(
            *(
                storm(path, one, thing["seq"])
                for path, thing in zip(paths, (made, blob), strict=True)
                for one in (client, second)
            )
        )
    assert {answer.status_code for answers in results for answer in answers} == {200}
    written = {event["seq"]: event for event in await events_of(client)}
    told = {answer.json()["seq"] for answers in results for answer in answers}
    assert told | {made["seq"], blob["seq"]} == set(written)
    for path, kind in zip(paths, ("bucket", "blob"), strict=True):
        last: Json = [e for e in written.values() if e["type"].startswith(kind)][-1]
        now = await read(client, path, max(written))
        assert (now["metadata"], now["seq"]) == (last["data"]["metadata"], last["seq"])
