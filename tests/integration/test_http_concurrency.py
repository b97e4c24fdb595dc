"""Many clients of one user at once: the tree stays one, and what was acknowledged is there once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.support import Json, Studio, events_of, make_blob, make_bucket, read, running_studio

CLIENTS = 16
COMMANDS = 25


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    """A studio without processors."""
    async with running_studio(tmp_path) as running:
        yield running


async def disturb(client: httpx.AsyncClient, known: list[str], seed: int) -> list[httpx.Response]:
    """A client that creates, moves, renames, deletes and restores buckets, and files blobs."""
    chance = random.Random(seed)
    answers: list[httpx.Response] = []
    for number in range(COMMANDS):
        some, other = chance.choice(known), chance.choice([*known, None])
        match chance.randrange(8):
            case 0 | 1:
                asked = {"name": f"{seed}.{number}", "type": "folder", "parent_bucket_id": some}
                answer = await client.post("/buckets", json=asked)
                if answer.status_code == 201:
                    known.append(answer.json()["bucket_id"])
            case 2 | 3 | 4:
                body = {"parent_bucket_id": other, "position": chance.randrange(4)}
                answer = await client.post(f"/buckets/{some}/move", json=body)
            case 5:
                answer = await client.delete(f"/buckets/{some}")
            case 6:
                answer = await client.post(f"/buckets/{some}/restore")
            case _:
                blob = {
                    "schema_id": "text-input-v1",
                    "data": {"content": f"{seed}.{number}"},
                    "bucket_ids": [some],
                }
                answer = await client.post("/blobs", json=blob)
        answers.append(answer)
    return answers


def nodes_of(items: list[Json]) -> list[Json]:
    """All nodes of a tree, each held against its parent."""
    found: list[Json] = []
    pending = [(None, 0, items)]
    while pending:
        parent, depth, children = pending.pop()
        for position, node in enumerate(children):
            assert node["parent_bucket_id"] == parent
            assert (node["depth"], node["position"]) == (depth, position)
            assert node["child_bucket_ids"] == [child["bucket_id"] for child in node["children"]]
            found.append(node)
            pending.append((node["bucket_id"], depth + 1, node["children"]))
    return found


def live_buckets(events: list[Json]) -> dict[str, str | None]:
    """The buckets that are not in the trash, with their parents: a plain fold of the events."""
    parents: dict[str, str | None] = {}
    trashed: set[str] = set()
    for event in events:
        bucket = event["bucket_id"]
        match event["type"]:
            case "bucket.created" | "bucket.structure.changed":
                parents[bucket] = event["data"].get("parent_bucket_id")
            case "bucket.deleted":
                trashed.add(bucket)
            case "bucket.restored":
                trashed.discard(bucket)

    def gone(bucket: str) -> bool:
        line: str | None = bucket
        seen: set[str] = set()
        while line is not None:
            assert line not in seen, "a cycle"
            seen.add(line)
            if line in trashed:
                return True
            line = parents[line]
        return False

    return {bucket: parent for bucket, parent in parents.items() if not gone(bucket)}


async def test_sixteen_clients_in_one_tree(studio: Studio) -> None:
    """Sixteen clients at one tree: no 500, a valid tree, every acknowledged event there once."""
    user = studio.user()
    async with studio.client(user.token) as client:
        known = [(await make_bucket(client, f"root {number}"))["bucket_id"] for number in range(3)]
        results = await asyncio.gather(*(disturb(client, known, seed) for seed in range(CLIENTS)))
        answers = [answer for result in results for answer in result]
        assert {answer.status_code for answer in answers} <= {200, 201, 204, 404, 409}
        acknowledged = [
            int(answer.headers["reyna-seq"]) for answer in answers if answer.status_code < 400
        ]
        events = await events_of(client)
        seqs = [event["seq"] for event in events]
        assert seqs == sorted(set(seqs))
        assert set(acknowledged) <= set(seqs)
        created = [
            int(answer.headers["reyna-seq"]) for answer in answers if answer.status_code == 201
        ]
        assert len(set(created)) == len(created)
        assert sum(event["type"] == "bucket.created" for event in events) == len(known)
        expected = live_buckets([event for event in events if event["type"].startswith("bucket")])
        tree = await read(client, "/buckets/tree", seqs[-1])
        nodes = nodes_of(tree["items"])
        assert {node["bucket_id"]: node["parent_bucket_id"] for node in nodes} == expected
        assert len(nodes) == len(expected)


async def test_two_moves_never_make_a_cycle(studio: Studio) -> None:
    """Of A under B and B under A at once, at most one happens, again and again."""
    user = studio.user()
    async with studio.client(user.token) as client:
        for _ in range(10):
            a, b = [(await make_bucket(client, name))["bucket_id"] for name in "ab"]
            answers = await asyncio.gather(
                client.post(f"/buckets/{a}/move", json={"parent_bucket_id": b}),
                client.post(f"/buckets/{b}/move", json={"parent_bucket_id": a}),
            )
            assert sorted(answer.status_code for answer in answers) == [200, 409]


async def test_a_blob_never_lands_in_a_bucket_that_is_gone(studio: Studio) -> None:
    """Filing races deleting: a blob is either before the bucket's deletion in the log, or 404."""
    user = studio.user()
    async with studio.client(user.token) as client:
        for _ in range(10):
            bucket = (await make_bucket(client))["bucket_id"]
            blob = {"schema_id": "text-input-v1", "data": {"content": "x"}, "bucket_ids": [bucket]}
            filed, deleted = await asyncio.gather(
                client.post("/blobs", json=blob), client.delete(f"/buckets/{bucket}")
            )
            assert deleted.status_code == 204
            if filed.status_code == 201:
                assert filed.json()["seq"] < int(deleted.headers["reyna-seq"])
            else:
                assert filed.status_code == 404


async def test_two_servers_on_one_log(tmp_path: Path) -> None:
    """Two studios at one log, each with its own cache: the same promises hold across both."""
    async with running_studio(tmp_path) as one, one.beside() as two:
        user = one.user()
        async with one.client(user.token) as first, two.client(user.token) as second:
            known = [(await make_bucket(first, f"root {n}"))["bucket_id"] for n in range(3)]
            results = await asyncio.gather(
                *(disturb([first, second][seed % 2], known, seed) for seed in range(8))
            )
            codes = {answer.status_code for result in results for answer in result}
            assert codes <= {200, 201, 204, 404, 409}
            headers = {"Idempotency-Key": "both"}
            blob = {"schema_id": "text-input-v1", "data": {"content": "x"}}
            answers = await asyncio.gather(
                *(c.post("/blobs", json=blob, headers=headers) for c in [first, second] * 5)
            )
            assert len({answer.content for answer in answers}) == 1
            last = await make_blob(second)
            events = await events_of(first)
            assert sum(event["data"].get("data") == {"content": "x"} for event in events) == 1
            expected = live_buckets([e for e in events if e["type"].startswith("bucket")])
            for client in (first, second):
                tree = await read(client, "/buckets/tree", last["seq"])
                found = {n["bucket_id"]: n["parent_bucket_id"] for n in nodes_of(tree["items"])}
                assert found == expected
