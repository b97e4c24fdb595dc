"""The contract of the buckets' routes, as a client sees it over HTTP."""

from __future__ import annotations

import asyncio
import re

import httpx
import pytest

from tests.support import Json, events_of, make_blob, make_bucket, problem, read

pytestmark = pytest.mark.asyncio(loop_scope="session")

UNKNOWN = "0" * 32
FIELDS = {
    "bucket_id",
    "user_id",
    "name",
    "type",
    "parent_bucket_id",
    "child_bucket_ids",
    "blob_count",
    "metadata",
    "tags",
    "position",
    "depth",
    "seq",
    "created_at",
    "updated_at",
}


def outline(nodes: list[Json]) -> list[object]:
    """A tree as nested lists of names."""
    return [[node["name"], *outline(node["children"])] for node in nodes]


async def test_creating_answers_where_and_when(client: httpx.AsyncClient) -> None:
    """POST buckets answers 201 with id, time, seq, Location, ETag and Reyna-Seq, all agreeing."""
    answer = await client.post("/buckets", json={"name": "Book", "type": "book"})
    body = answer.json()
    assert answer.status_code == 201
    assert set(body) == {"bucket_id", "created_at", "seq"}
    assert re.fullmatch(r"[0-9a-f]{12}7[0-9a-f]{19}", body["bucket_id"])
    assert answer.headers["location"] == f"/api/v1/buckets/{body['bucket_id']}"
    assert answer.headers["reyna-seq"] == str(body["seq"])
    assert answer.headers["etag"] == f'"{body["seq"]}"'


async def test_a_bucket_shows_its_place(client: httpx.AsyncClient) -> None:
    """GET of a bucket gives all its fields, with place, children, depth and the count of blobs."""
    root = await make_bucket(client, "Book", metadata={"k": [1]}, tags=["a", "a"])
    one = await make_bucket(client, "One", root["bucket_id"])
    two = await make_bucket(client, "Two", root["bucket_id"])
    blob = await make_blob(client, bucket_ids=[two["bucket_id"], root["bucket_id"]])
    answer = await client.get(
        f"/buckets/{root['bucket_id']}", headers={"Reyna-Min-Seq": str(blob["seq"])}
    )
    bucket = answer.json()
    assert set(bucket) == FIELDS
    assert answer.headers["etag"] == f'"{root["seq"]}"'
    assert int(answer.headers["reyna-seq"]) >= blob["seq"]
    assert (bucket["name"], bucket["type"]) == ("Book", "folder")
    assert (bucket["metadata"], bucket["tags"]) == ({"k": [1]}, ["a"])
    assert bucket["child_bucket_ids"] == [one["bucket_id"], two["bucket_id"]]
    assert (bucket["depth"], bucket["position"], bucket["blob_count"]) == (0, 0, 1)
    child = await read(client, f"/buckets/{two['bucket_id']}")
    assert child["parent_bucket_id"] == root["bucket_id"]
    assert (child["depth"], child["position"], child["blob_count"]) == (1, 1, 1)
    gone = await client.delete(f"/blobs/{blob['blob_id']}")
    seq = int(gone.headers["reyna-seq"])
    assert (await read(client, f"/buckets/{two['bucket_id']}", seq))["blob_count"] == 0


async def test_patch_renames_and_describes(client: httpx.AsyncClient) -> None:
    """PATCH merges name, type, metadata and tags; what is not named stays."""
    made = await make_bucket(client, "Old", metadata={"a": 1}, tags=["t"])
    path = f"/buckets/{made['bucket_id']}"
    answer = await client.patch(path, json={"name": "New", "metadata": {"b": 2}})
    assert answer.status_code == 200
    assert answer.headers["reyna-seq"] == str(answer.json()["seq"])
    bucket = await read(client, path, answer.json()["seq"])
    assert (bucket["name"], bucket["type"], bucket["tags"]) == ("New", "folder", ["t"])
    assert bucket["metadata"] == {"a": 1, "b": 2}
    assert bucket["seq"] == answer.json()["seq"]
    again = await client.patch(path, json={"name": "New"})
    assert (again.status_code, again.json()["seq"]) == (200, answer.json()["seq"])
    assert len(await events_of(client)) == 2


async def test_rules_of_names_and_tags(client: httpx.AsyncClient) -> None:
    """A blank or overlong name and bad tags are 422 at their places; a wrong type is 400."""
    problem(await client.post("/buckets", json={"name": " ", "type": "book"}), 422, "/name")
    long = {"name": "n" * 201, "type": "book", "tags": ["", "ok"]}
    problem(await client.post("/buckets", json=long), 422, "/name", "/tags/0")
    for wrong in ("Book", "a.b", "x" * 65, "", "book>"):
        problem(await client.post("/buckets", json={"name": "N", "type": wrong}), 400, "/type")
    made = await make_bucket(client)
    path = f"/buckets/{made['bucket_id']}"
    problem(await client.patch(path, json={"name": ""}), 422, "/name")
    problem(await client.patch(path, json={"name": None}), 400, "/name")
    assert len(await events_of(client)) == 1


async def test_moving(client: httpx.AsyncClient) -> None:
    """POST move puts a bucket, with all below it, under a parent at a position, or at the top."""
    book = await make_bucket(client, "Book")
    one, two, three = [
        (await make_bucket(client, name, book["bucket_id"]))["bucket_id"]
        for name in ("One", "Two", "Three")
    ]
    under = await make_bucket(client, "Under", one)

    async def move(bucket: str, parent: str | None, **fields: object) -> list[object]:
        answer = await client.post(
            f"/buckets/{bucket}/move", json={"parent_bucket_id": parent, **fields}
        )
        assert answer.status_code == 200, answer.text
        assert answer.headers["reyna-seq"] == str(answer.json()["seq"])
        tree = await read(client, "/buckets/tree", answer.json()["seq"])
        return outline(tree["items"])

    parent = book["bucket_id"]
    assert await move(three, parent, position=0) == [
        ["Book", ["Three"], ["One", ["Under"]], ["Two"]]
    ]
    assert await move(one, two) == [["Book", ["Three"], ["Two", ["One", ["Under"]]]]]
    assert await move(one, None) == [
        ["Book", ["Three"], ["Two"]],
        ["One", ["Under"]],
    ]
    assert await move(one, None, position=0) == [
        ["One", ["Under"]],
        ["Book", ["Three"], ["Two"]],
    ]
    assert await move(three, parent, position=99) == [
        ["One", ["Under"]],
        ["Book", ["Two"], ["Three"]],
    ]
    assert (await read(client, f"/buckets/{under['bucket_id']}"))["depth"] == 1


async def test_moves_that_would_break_the_tree(client: httpx.AsyncClient) -> None:
    """A move under itself or a descendant is 409, under what is unknown or in the trash 404."""
    a = (await make_bucket(client, "A"))["bucket_id"]
    b = (await make_bucket(client, "B", a))["bucket_id"]
    c = (await make_bucket(client, "C", b))["bucket_id"]
    gone = (await make_bucket(client, "Gone"))["bucket_id"]
    await client.delete(f"/buckets/{gone}")
    written = len(await events_of(client))
    for target in (a, b, c):
        problem(await client.post(f"/buckets/{a}/move", json={"parent_bucket_id": target}), 409)
    for target in (UNKNOWN, gone):
        problem(await client.post(f"/buckets/{a}/move", json={"parent_bucket_id": target}), 404)
        problem(await client.post(f"/buckets/{target}/move", json={"parent_bucket_id": a}), 404)
    for body in ({}, {"parent_bucket_id": a, "position": -1}, {"parent_bucket_id": "a.b"}):
        problem(await client.post(f"/buckets/{c}/move", json=body), 400)
    assert len(await events_of(client)) == written


async def test_depth_is_bounded(client: httpx.AsyncClient) -> None:
    """No create and no move puts buckets deeper than REYNA_MAX_DEPTH levels: 409."""
    line = [(await make_bucket(client, "0"))["bucket_id"]]
    for level in range(1, 32):
        line.append((await make_bucket(client, str(level), line[-1]))["bucket_id"])
    deep = {"name": "32", "type": "folder", "parent_bucket_id": line[-1]}
    problem(await client.post("/buckets", json=deep), 409)
    other = await make_bucket(client, "other")
    below = await make_bucket(client, "below", other["bucket_id"])
    move = f"/buckets/{other['bucket_id']}/move"
    problem(await client.post(move, json={"parent_bucket_id": line[-2]}), 409)
    assert (await client.post(move, json={"parent_bucket_id": line[-3]})).status_code == 200
    seq = int((await client.get("/events", params={"limit": 1})).headers["reyna-seq"])
    assert (await read(client, f"/buckets/{below['bucket_id']}", seq))["depth"] == 31


async def test_deleting_a_subtree_and_restoring_it(client: httpx.AsyncClient) -> None:
    """DELETE takes all below along, blobs stay, unfiled or elsewhere; restore brings all back."""
    root = (await make_bucket(client, "Root"))["bucket_id"]
    sub = (await make_bucket(client, "Sub", root))["bucket_id"]
    leaf = (await make_bucket(client, "Leaf", sub))["bucket_id"]
    both = await make_blob(client, "both", bucket_ids=[root, leaf])
    only = await make_blob(client, "only", bucket_ids=[leaf])
    deleted = await client.delete(f"/buckets/{sub}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    seq = int(deleted.headers["reyna-seq"])
    tree = await read(client, "/buckets/tree", seq)
    assert outline(tree["items"]) == [["Root"]]
    assert tree["items"][0]["child_bucket_ids"] == []
    for gone in (sub, leaf):
        problem(await client.get(f"/buckets/{gone}"), 404)
        problem(await client.get(f"/buckets/{gone}/tree"), 404)
        problem(await client.patch(f"/buckets/{gone}", json={"name": "x"}), 404)
        problem(await client.delete(f"/buckets/{gone}"), 404)
    problem(
        await client.post(
            "/buckets", json={"name": "x", "type": "folder", "parent_bucket_id": leaf}
        ),
        404,
    )
    assert (await read(client, f"/blobs/{both['blob_id']}", seq))["bucket_ids"] == [root]
    assert (await read(client, f"/blobs/{only['blob_id']}", seq))["bucket_ids"] == []
    problem(await client.post(f"/buckets/{leaf}/restore"), 409)
    problem(await client.post(f"/buckets/{root}/restore"), 409)
    restored = await client.post(f"/buckets/{sub}/restore")
    assert restored.status_code == 200
    seq = restored.json()["seq"]
    tree = await read(client, "/buckets/tree", seq)
    assert outline(tree["items"]) == [["Root", ["Sub", ["Leaf"]]]]
    assert (await read(client, f"/blobs/{only['blob_id']}", seq))["bucket_ids"] == [leaf]
    assert (await read(client, f"/buckets/{leaf}", seq))["blob_count"] == 2


async def test_the_tree_of_one_bucket(client: httpx.AsyncClient) -> None:
    """GET {id}/tree gives that bucket alone with all below it, GET tree the whole forest."""
    a = (await make_bucket(client, "A"))["bucket_id"]
    b = (await make_bucket(client, "B", a))["bucket_id"]
    await make_bucket(client, "C", b)
    last = await make_bucket(client, "D")
    answer = await client.get(f"/buckets/{b}/tree", headers={"Reyna-Min-Seq": str(last["seq"])})
    assert outline(answer.json()["items"]) == [["B", ["C"]]]
    assert set(answer.json()["items"][0]) == FIELDS | {"children"}
    assert int(answer.headers["reyna-seq"]) >= last["seq"]
    forest = await read(client, "/buckets/tree")
    assert outline(forest["items"]) == [["A", ["B", ["C"]]], ["D"]]
    listed = await read(client, "/buckets", parent_bucket_id=a)
    assert [bucket["name"] for bucket in listed["items"]] == ["B"]


async def test_lists_filter_and_page(client: httpx.AsyncClient) -> None:
    """GET buckets filters by type, parent and tag, and its pages hold while others write."""
    book = await make_bucket(client, "Book", type="book", tags=["x", 'q"uote'])
    made = [await make_bucket(client, f"N{n}", book["bucket_id"]) for n in range(5)]
    seq = made[-1]["seq"]
    listed = await read(client, "/buckets", seq, type="book")
    assert [bucket["name"] for bucket in listed["items"]] == ["Book"]
    for tag, names in (("x", ["Book"]), ('q"uote', ["Book"]), ("X", []), ("%", [])):
        listed = await read(client, "/buckets", seq, tag=tag)
        assert [bucket["name"] for bucket in listed["items"]] == names
    seen: list[str] = []
    params: dict[str, object] = {"limit": 2, "parent_bucket_id": book["bucket_id"]}
    while True:
        page = await read(client, "/buckets", seq, **params)
        seen += [bucket["name"] for bucket in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
        # What comes before the cursor or goes does not move the rest.
        new = (await make_bucket(client, "New", book["bucket_id"]))["bucket_id"]
        moved = await client.post(
            f"/buckets/{new}/move", json={"parent_bucket_id": book["bucket_id"], "position": 0}
        )
        seq = moved.json()["seq"]
    assert seen == ["N0", "N1", "N2", "N3", "N4"]


async def test_what_is_anothers_is_404(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    """Another user's bucket is 404 to every route, parent or target, and absent from lists."""
    made = await make_bucket(client)
    theirs = made["bucket_id"]
    own = await make_bucket(stranger, "Mine")
    mine = own["bucket_id"]
    after = {"Reyna-Min-Seq": str(made["seq"])}
    path = f"/buckets/{theirs}"
    for answer in (
        await stranger.get(path, headers=after),
        await stranger.get(f"{path}/tree", headers=after),
        await stranger.patch(path, json={"name": "x"}),
        await stranger.delete(path),
        await stranger.post(f"{path}/restore"),
        await stranger.post(f"{path}/move", json={"parent_bucket_id": None}),
        await stranger.post(f"/buckets/{mine}/move", json={"parent_bucket_id": theirs}),
        await stranger.post(
            "/buckets", json={"name": "x", "type": "folder", "parent_bucket_id": theirs}
        ),
    ):
        problem(answer, 404)
    assert [b["name"] for b in (await read(stranger, "/buckets", own["seq"]))["items"]] == ["Mine"]
    assert (await read(stranger, "/buckets", parent_bucket_id=theirs))["items"] == []
    assert len(await events_of(stranger)) == 1
    assert await events_of(stranger, bucket_id=theirs) == []


async def test_if_match_makes_a_command_conditional(client: httpx.AsyncClient) -> None:
    """A stale ETag is 412 for PATCH and DELETE, and writes nothing; the current one passes."""
    made = await make_bucket(client)
    path = f"/buckets/{made['bucket_id']}"
    first = {"If-Match": f'"{made["seq"]}"'}
    answer = await client.patch(path, json={"name": "B"}, headers=first)
    assert answer.status_code == 200
    await make_bucket(client, "elsewhere")
    problem(await client.patch(path, json={"name": "C"}, headers=first), 412)
    problem(await client.delete(path, headers=first), 412)
    current = {"If-Match": f'"1", {answer.headers["etag"]}'}
    assert (await client.delete(path, headers=current)).status_code == 204
    assert len(await events_of(client)) == 4


async def test_brothers_keep_one_order(client: httpx.AsyncClient) -> None:
    """Many moves to the front at once leave every child there once, in positions 0, 1, 2, …."""
    root = (await make_bucket(client, "Root"))["bucket_id"]
    children = [(await make_bucket(client, f"{n}", root))["bucket_id"] for n in range(8)]
    answers = await asyncio.gather(
        *(
            client.post(f"/buckets/{child}/move", json={"parent_bucket_id": root, "position": 0})
            for child in children
        )
    )
    assert {answer.status_code for answer in answers} == {200}
    seq = max(answer.json()["seq"] for answer in answers)
    tree = await read(client, f"/buckets/{root}/tree", seq)
    below = tree["items"][0]["children"]
    assert sorted(node["bucket_id"] for node in below) == sorted(children)
    assert [node["position"] for node in below] == list(range(8))
    assert tree["items"][0]["child_bucket_ids"] == [node["bucket_id"] for node in below]
