"""The contract of templates, as a client sees it over HTTP."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.support import Json, Studio, events_of, make_bucket, problem, read

pytestmark = pytest.mark.asyncio(loop_scope="session")

NAMES = ["album", "book", "conversation", "pitch", "research"]
MINE = {"name": "Mine", "type": "book", "metadata": {"k": 1}, "tags": ["t"], "template": "book"}


def count(nodes: list[Json]) -> int:
    """How many buckets a template, or a tree, has below it."""
    return sum(1 + count(node["children"]) for node in nodes)


def plain(nodes: list[Json]) -> list[object]:
    """What template and tree have in common."""
    return [(n["name"], n["type"], n["metadata"], n["tags"], plain(n["children"])) for n in nodes]


async def shipped(client: httpx.AsyncClient) -> dict[str, Json]:
    """The templates by name."""
    return {one["name"]: one for one in (await read(client, "/templates"))["items"]}


async def test_templates_are_listed_and_paged(client: httpx.AsyncClient) -> None:
    """GET templates gives name, description, type and the whole tree of each, page by page."""
    listed = await read(client, "/templates")
    assert [one["name"] for one in listed["items"]] == NAMES
    assert listed["next_cursor"] is None
    for one in listed["items"]:
        assert set(one) == {"name", "description", "type", "children"}
        assert set(one["children"][0]) == {"name", "type", "metadata", "tags", "children"}
    seen: list[str] = []
    params: dict[str, object] = {"limit": 2}
    while True:
        page = await read(client, "/templates", **params)
        seen += [one["name"] for one in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert seen == NAMES


@pytest.mark.parametrize("name", NAMES)
async def test_a_template_makes_exactly_its_tree(client: httpx.AsyncClient, name: str) -> None:
    """POST buckets with a template makes all its buckets, in order, by events that follow on."""
    template = (await shipped(client))[name]
    first = await make_bucket(client, "Before")
    answer = await client.post("/buckets", json={**MINE, "type": "mine", "template": name})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    tree = await read(client, f"/buckets/{made['bucket_id']}/tree", made["seq"])
    (root,) = tree["items"]
    assert (root["name"], root["type"]) == ("Mine", "mine")
    assert (root["metadata"], root["tags"], root["position"]) == ({"k": 1}, ["t"], 1)
    assert plain(root["children"]) == plain(template["children"])
    events = (await events_of(client))[1:]
    assert {event["type"] for event in events} == {"bucket.created"}
    assert len(events) == count(template["children"]) + 1
    assert made["seq"] == events[-1]["seq"] == int(answer.headers["reyna-seq"])
    assert events[-1]["seq"] - events[0]["seq"] == len(events) - 1
    known = {None}
    for event in events:
        assert event["data"].get("parent_bucket_id") in known
        known.add(event["bucket_id"])
    assert events[0]["bucket_id"] == made["bucket_id"]
    assert first["seq"] < events[0]["seq"]


async def test_the_etag_is_the_roots_own(client: httpx.AsyncClient) -> None:
    """The answer's ETag is that of the bucket itself: a PATCH with it as If-Match passes."""
    answer = await client.post("/buckets", json=MINE)
    path = f"/buckets/{answer.json()['bucket_id']}"
    got = await client.get(path, headers={"Reyna-Min-Seq": answer.headers["reyna-seq"]})
    assert got.headers["etag"] == answer.headers["etag"]
    headers = {"If-Match": answer.headers["etag"]}
    patched = await client.patch(path, json={"name": "Renamed"}, headers=headers)
    assert patched.status_code == 200


async def test_an_unknown_template_is_422(client: httpx.AsyncClient) -> None:
    """A name that is none is refused at /template with those there are; another type is 400."""
    body = problem(await client.post("/buckets", json={**MINE, "template": "x"}), 422, "/template")
    assert all(name in body["errors"][0]["message"] for name in NAMES)
    for wrong in ("", "../book", "book.json", "Book", "x" * 10_000):
        asked = {**MINE, "template": wrong}
        problem(await client.post("/buckets", json=asked), 422, "/template")
    problem(await client.post("/buckets", json={**MINE, "template": 5}), 400, "/template")
    without_type = {"name": "x", "template": "book"}
    problem(await client.post("/buckets", json=without_type), 400)
    assert await events_of(client) == []


async def test_all_of_a_template_or_nothing(client: httpx.AsyncClient) -> None:
    """A template that does not fit in REYNA_MAX_DEPTH is 409 and appends none of its buckets."""
    parent: str | None = None
    for level in range(30):
        parent = (await make_bucket(client, str(level), parent))["bucket_id"]
    problem(await client.post("/buckets", json={**MINE, "parent_bucket_id": parent}), 409)
    assert len(await events_of(client)) == 30
    shallow = {**MINE, "template": "conversation", "parent_bucket_id": parent}
    assert (await client.post("/buckets", json=shallow)).status_code == 201
    assert len(await events_of(client)) == 32


async def test_a_key_makes_one_tree(client: httpx.AsyncClient) -> None:
    """The same key and body give the first answer again, also all at once, and one tree."""
    headers = {"Idempotency-Key": "a book"}
    answers = await asyncio.gather(
        *(client.post("/buckets", json=MINE, headers=headers) for _ in range(8))
    )
    answers.append(await client.post("/buckets", json=MINE, headers=headers))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert len({answer.headers["etag"] for answer in answers}) == 1
    assert len({answer.headers["reyna-seq"] for answer in answers}) == 1
    written = await events_of(client)
    assert len(written) == 1 + count((await shipped(client))["book"]["children"])
    other = {**MINE, "template": "album"}
    problem(await client.post("/buckets", json=other, headers=headers), 422)
    assert len(await events_of(client)) == len(written)


async def test_trees_made_at_once_do_not_mix(studio: Studio, client: httpx.AsyncClient) -> None:
    """Templates asked for at once, through two processes, each make a whole tree of their own."""
    async with studio.beside() as other, other.client() as second:
        second.headers = client.headers
        answers = await asyncio.gather(
            *(
                one.post("/buckets", json={**MINE, "template": name})
                for one in (client, second)
                for name in NAMES
            )
        )
    assert {answer.status_code for answer in answers} == {201}
    templates = await shipped(client)
    forest = await read(client, "/buckets/tree", max(a.json()["seq"] for a in answers))
    children = {node["bucket_id"]: node["children"] for node in forest["items"]}
    for answer, name in zip(answers, NAMES * 2, strict=True):
        assert plain(children[answer.json()["bucket_id"]]) == plain(templates[name]["children"])
    assert len(children) == 10


async def test_the_socket_makes_trees_as_well(studio: Studio) -> None:
    """`create_bucket` takes a template; its ack's seq is the last bucket's."""
    user = studio.user()
    async with studio.live(user.token) as live, studio.client(user.token) as client:
        ack = await live.ask("create_bucket", **{**MINE, "template": "pitch"})
        assert ack["type"] == "ack"
        tree = await read(client, f"/buckets/{ack['bucket_id']}/tree", ack["seq"])
        pitch = (await shipped(client))["pitch"]
        assert plain(tree["items"][0]["children"]) == plain(pitch["children"])
        error = await live.ask("create_bucket", **{**MINE, "template": "novel"})
        assert error["problem"]["status"] == 422
