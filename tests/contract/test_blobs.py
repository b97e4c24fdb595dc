"""The contract of the blobs' routes, as a client sees it over HTTP."""

from __future__ import annotations

import asyncio
import re

import httpx
import pytest

from tests.support import events_of, make_blob, make_bucket, problem, read

pytestmark = pytest.mark.asyncio(loop_scope="session")

ID = re.compile(r"[0-9a-f]{32}\Z")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z")
FIELDS = {
    "blob_id",
    "user_id",
    "processor_id",
    "schema_id",
    "data",
    "title",
    "tags",
    "metadata",
    "bucket_ids",
    "parent_id",
    "derived_ids",
    "stale",
    "provenance",
    "media",
    "seq",
    "created_at",
    "updated_at",
}
UNKNOWN = "0" * 32


async def test_creating_answers_where_and_when(client: httpx.AsyncClient) -> None:
    """POST blobs answers 201 with id, time, seq, Location, ETag and Reyna-Seq, all agreeing."""
    asked = {"schema_id": "text-input-v1", "data": {"content": "rough"}}
    answer = await client.post("/blobs", json=asked)
    body = answer.json()
    assert answer.status_code == 201
    assert set(body) == {"blob_id", "created_at", "seq"}
    assert ID.match(body["blob_id"])
    assert body["blob_id"][12] == "7"
    assert TIME.match(body["created_at"])
    assert answer.headers["location"] == f"/api/v1/blobs/{body['blob_id']}"
    assert answer.headers["reyna-seq"] == str(body["seq"])
    assert answer.headers["etag"] == f'"{body["seq"]}"'
    assert answer.headers["content-type"] == "application/json"


async def test_location_leads_to_the_blob(client: httpx.AsyncClient) -> None:
    """GET of the Location gives the whole blob with its ETag and the view's position."""
    bucket = await make_bucket(client)
    asked = {
        "schema_id": "text-input-v1",
        "data": {"content": "rough", "style": "dry", "mine": [1, {"deep": None}]},
        "bucket_ids": [bucket["bucket_id"], bucket["bucket_id"]],
        "title": "Ein Käfer ✓",
        "tags": ["a", "b", "a"],
        "metadata": {"k": {"n": 1.5}},
    }
    made = await client.post("/blobs", json=asked)
    seq = made.json()["seq"]
    host = str(client.base_url).removesuffix("/api/v1/")
    answer = await client.get(host + made.headers["location"], headers={"Reyna-Min-Seq": str(seq)})
    blob = answer.json()
    assert answer.status_code == 200
    assert set(blob) == FIELDS
    assert int(answer.headers["reyna-seq"]) >= seq
    assert answer.headers["etag"] == f'"{seq}"'
    assert blob["data"] == asked["data"]
    assert blob["bucket_ids"] == [bucket["bucket_id"]]
    assert blob["tags"] == ["a", "b"]
    assert blob["metadata"] == asked["metadata"]
    assert blob["title"] == asked["title"]
    assert blob["created_at"] == blob["updated_at"] == made.json()["created_at"]
    assert (blob["parent_id"], blob["derived_ids"], blob["stale"]) == (None, [], False)
    assert (blob["provenance"], blob["media"], blob["processor_id"]) == (None, None, None)


async def test_merge_patch_changes_only_what_it_names(client: httpx.AsyncClient) -> None:
    """PATCH is a JSON Merge Patch: null removes, objects merge, the rest stays."""
    made = await make_blob(client, title="T", tags=["x"], metadata={"a": 1, "b": {"c": 2, "d": 3}})
    answer = await client.patch(
        f"/blobs/{made['blob_id']}",
        json={"data": {"style": "dry"}, "metadata": {"a": None, "b": {"c": 9}}},
    )
    body = answer.json()
    assert answer.status_code == 200
    assert answer.headers["etag"] == f'"{body["seq"]}"'
    assert answer.headers["reyna-seq"] == str(body["seq"])
    assert body["seq"] > made["seq"]
    blob = await read(client, f"/blobs/{made['blob_id']}", body["seq"])
    assert blob["data"] == {"content": "rough", "style": "dry"}
    assert blob["metadata"] == {"b": {"c": 9, "d": 3}}
    assert (blob["title"], blob["tags"]) == ("T", ["x"])
    assert blob["seq"] == body["seq"]
    assert blob["updated_at"] > blob["created_at"] == made["created_at"]
    answer = await client.patch(
        f"/blobs/{made['blob_id']}",
        json={"title": None, "tags": None, "metadata": None, "data": {"style": None}},
    )
    blob = await read(client, f"/blobs/{made['blob_id']}", answer.json()["seq"])
    assert (blob["title"], blob["tags"], blob["metadata"]) == (None, [], {})
    assert blob["data"] == {"content": "rough"}


async def test_a_patch_that_changes_nothing_writes_nothing(client: httpx.AsyncClient) -> None:
    """PATCH with what is there already answers 200 with the old seq, and appends no event."""
    made = await make_blob(client, title="T")
    answer = await client.patch(f"/blobs/{made['blob_id']}", json={"title": "T"})
    assert answer.status_code == 200
    assert answer.json()["seq"] == made["seq"]
    assert len(await events_of(client)) == 1


async def test_deleting_and_restoring(client: httpx.AsyncClient) -> None:
    """DELETE answers 204 without a body, the blob is gone, and restore brings it back as it was."""
    made = await make_blob(client, title="T")
    path = f"/blobs/{made['blob_id']}"
    deleted = await client.delete(path)
    assert (deleted.status_code, deleted.content) == (204, b"")
    after = {"Reyna-Min-Seq": deleted.headers["reyna-seq"]}
    problem(await client.get(path, headers=after), 404)
    assert (await client.get("/blobs", headers=after)).json()["items"] == []
    problem(await client.delete(path), 404)
    problem(await client.patch(path, json={"title": "U"}), 404)
    restored = await client.post(f"{path}/restore")
    assert restored.status_code == 200
    assert restored.headers["reyna-seq"] == str(restored.json()["seq"])
    assert restored.json()["blob_id"] == made["blob_id"]
    assert (await read(client, path, restored.json()["seq"]))["title"] == "T"
    problem(await client.post(f"{path}/restore"), 409)
    assert [event["type"] for event in await events_of(client)] == [
        "blob.created",
        "blob.deleted",
        "blob.restored",
    ]


async def test_invalid_data_names_every_place_and_writes_nothing(
    client: httpx.AsyncClient,
) -> None:
    """A blob that breaks its schema is 422 with every error's path, and nothing is appended."""
    bad = {"schema_id": "message-v1", "data": {"content": 5, "mentions": ["u", 7]}}
    body = problem(
        await client.post("/blobs", json=bad), 422, "/data", "/data/content", "/data/mentions/1"
    )
    assert {error["keyword"] for error in body["errors"]} == {"type", "required"}
    long = {"content": "x" * 10_001, "sender_id": "me"}
    problem(
        await client.post("/blobs", json={"schema_id": "message-v1", "data": long}),
        422,
        "/data/content",
    )
    exact = {"content": "ü" * 10_000, "sender_id": "me"}
    answer = await client.post("/blobs", json={"schema_id": "message-v1", "data": exact})
    assert answer.status_code == 201
    assert len(await events_of(client)) == 1


async def test_a_patch_is_held_against_the_schema(client: httpx.AsyncClient) -> None:
    """PATCH to invalid data is 422 with paths, and the blob stays as it was."""
    made = await make_blob(client)
    path = f"/blobs/{made['blob_id']}"
    problem(await client.patch(path, json={"data": {"content": None}}), 422, "/data")
    problem(await client.patch(path, json={"data": {"content": 1}}), 422, "/data/content")
    problem(await client.patch(path, json={"data": None}), 422, "/data")
    assert (await read(client, path, made["seq"]))["data"] == {"content": "rough"}
    assert len(await events_of(client)) == 1


async def test_limits_are_rules(client: httpx.AsyncClient) -> None:
    """Too long a title, and tags too long, blank or too many, are 422 at their places."""
    asked = {
        "schema_id": "text-input-v1",
        "data": {"content": "x"},
        "title": "t" * 501,
        "tags": ["ok", "", "t" * 101],
    }
    problem(await client.post("/blobs", json=asked), 422, "/tags/1", "/tags/2", "/title")
    asked = {"schema_id": "text-input-v1", "data": {"content": "x"}, "tags": [*map(str, range(65))]}
    problem(await client.post("/blobs", json=asked), 422, "/tags")
    assert await events_of(client) == []


async def test_unknown_things_are_404(client: httpx.AsyncClient) -> None:
    """An unknown schema, bucket, parent or blob is 404 and writes nothing."""
    data = {"content": "x"}
    for asked in (
        {"schema_id": "nothing-v1", "data": data},
        {"schema_id": "text-input-v9", "data": data},
        {"schema_id": "text-input-v1", "data": data, "bucket_ids": [UNKNOWN]},
        {"schema_id": "text-input-v1", "data": data, "parent_id": UNKNOWN},
    ):
        problem(await client.post("/blobs", json=asked), 404)
    path = f"/blobs/{UNKNOWN}"
    for answer in (
        await client.get(path),
        await client.patch(path, json={"title": "x"}),
        await client.delete(path),
        await client.post(f"{path}/restore"),
    ):
        problem(answer, 404)
    assert await events_of(client) == []


async def test_what_is_anothers_is_404(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    """Another user's blobs and buckets cannot be read, changed, filed into or derived from."""
    bucket = await make_bucket(client)
    made = await make_blob(client, bucket_ids=[bucket["bucket_id"]])
    path, seq = f"/blobs/{made['blob_id']}", {"Reyna-Min-Seq": str(made["seq"])}
    for answer in (
        await stranger.get(path, headers=seq),
        await stranger.patch(path, json={"title": "mine"}),
        await stranger.delete(path),
        await stranger.post(f"{path}/restore"),
        await stranger.post(
            "/blobs",
            json={
                "schema_id": "text-input-v1",
                "data": {"content": "x"},
                "bucket_ids": [bucket["bucket_id"]],
            },
        ),
        await stranger.post(
            "/blobs",
            json={
                "schema_id": "text-input-v1",
                "data": {"content": "x"},
                "parent_id": made["blob_id"],
            },
        ),
    ):
        problem(answer, 404)
    for params in (
        {},
        {"bucket_id": bucket["bucket_id"]},
        {"parent_id": made["blob_id"]},
        {"schema_id": "text-input-v1"},
    ):
        listed = await stranger.get("/blobs", params=params, headers=seq)
        assert listed.json()["items"] == []
    assert await events_of(stranger) == []
    assert await events_of(stranger, blob_id=made["blob_id"]) == []


async def test_if_match_makes_a_command_conditional(client: httpx.AsyncClient) -> None:
    """A stale or foreign ETag is 412 and writes nothing; the current one, a list, `*` pass."""
    made = await make_blob(client)
    path = f"/blobs/{made['blob_id']}"
    first = f'"{made["seq"]}"'
    second = (await client.patch(path, json={"title": "2"}, headers={"If-Match": first})).headers[
        "etag"
    ]
    for stale in (first, '"abc"', "5", f"W/{second}", f'{first}, "1"', '""'):
        problem(await client.patch(path, json={"title": "3"}, headers={"If-Match": stale}), 412)
        problem(await client.delete(path, headers={"If-Match": stale}), 412)
    assert len(await events_of(client)) == 2
    current = second
    for good in ("{}", "*", '"1", {}', '"1",{}'):
        headers = {"If-Match": good.format(current)}
        answer = await client.patch(path, json={"title": good}, headers=headers)
        assert answer.status_code == 200
        current = answer.headers["etag"]
    assert (await client.delete(path, headers={"If-Match": current})).status_code == 204


async def test_of_two_with_the_same_etag_one_wins(client: httpx.AsyncClient) -> None:
    """Concurrent PATCHes under one ETag: exactly one is 200, all others are 412."""
    made = await make_blob(client)
    answers = await asyncio.gather(
        *(
            client.patch(
                f"/blobs/{made['blob_id']}",
                json={"title": str(number)},
                headers={"If-Match": f'"{made["seq"]}"'},
            )
            for number in range(10)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 9
    assert len(await events_of(client)) == 2


async def test_a_parent_can_be_named(client: httpx.AsyncClient) -> None:
    """A blob made with a `parent_id` and a `processor_id` shows both and is listed under it."""
    parent = await make_blob(client)
    child = await make_blob(client, parent_id=parent["blob_id"], processor_id="by-hand")
    listed = await read(client, "/blobs", child["seq"], parent_id=parent["blob_id"])
    assert [blob["blob_id"] for blob in listed["items"]] == [child["blob_id"]]
    assert listed["items"][0]["processor_id"] == "by-hand"
    assert listed["items"][0]["parent_id"] == parent["blob_id"]


async def test_listing_filters(client: httpx.AsyncClient) -> None:
    """GET blobs filters by bucket, schema and tag, and sorts newest first or as asked."""
    bucket = (await make_bucket(client))["bucket_id"]
    one = await make_blob(client, "1", bucket_ids=[bucket], tags=["x", "50%"])
    two = await make_blob(client, "2", tags=["xy"])
    message = {"schema_id": "message-v1", "data": {"content": "3", "sender_id": "me"}}
    three = (await client.post("/blobs", json=message)).json()
    seq = three["seq"]

    async def ids(**params: object) -> list[str]:
        return [b["blob_id"] for b in (await read(client, "/blobs", seq, **params))["items"]]

    everything = [three["blob_id"], two["blob_id"], one["blob_id"]]
    assert await ids() == everything
    assert await ids(sort="created_at") == everything[::-1]
    assert await ids(bucket_id=bucket) == [one["blob_id"]]
    assert await ids(schema_id="message-v1") == [three["blob_id"]]
    assert await ids(tag="x") == [one["blob_id"]]
    assert await ids(tag="50%") == [one["blob_id"]]
    assert await ids(tag="%") == []
    assert await ids(bucket_id=UNKNOWN) == []
    changed = await client.patch(f"/blobs/{one['blob_id']}", json={"title": "new"})
    seq = changed.json()["seq"]
    assert (await ids(sort="-updated_at"))[0] == one["blob_id"]
    problem(await client.get("/blobs", params={"sort": "title"}), 400)


async def test_a_cursor_holds_while_others_write(client: httpx.AsyncClient) -> None:
    """Page by page each blob that was there is seen once, whatever is written meanwhile."""
    made = [await make_blob(client, str(number)) for number in range(7)]
    ids = [blob["blob_id"] for blob in made]
    seen: list[str] = []
    params: dict[str, object] = {"limit": 2}
    seq = made[-1]["seq"]
    while True:
        page = await read(client, "/blobs", seq, **params)
        assert len(page["items"]) <= 2
        seen += [blob["blob_id"] for blob in page["items"]]
        seq = (await make_blob(client, "meanwhile"))["seq"]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
        gone = await client.delete(f"/blobs/{seen[-1]}")
        seq = int(gone.headers["reyna-seq"])
    assert seen == ids[::-1]
