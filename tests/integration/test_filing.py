"""Filing among many: two processes on one log, sixteen clients, a worker that is late."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from reyna.commands import boundaries, trees
from reyna.commands.boundaries import Boundaries
from reyna.content import Derived, Progress, Source
from reyna.domain.bucket import Bucket, BucketBlobAdded, Tree
from reyna.log import subjects
from reyna.log.connection import Connection
from reyna.log.follow import read as read_log
from reyna.log.record import decode
from reyna.log.stream import Log
from tests.events import SCHEMA, blob_updated, bucket_created, draft, of_blob, of_tree
from tests.support import (
    DEADLINE,
    Json,
    Studio,
    events_of,
    eventually,
    make_blob,
    make_bucket,
    running_studio,
)
from tests.writing import Writer, expanded

CLIENTS = 16
COMMANDS = 25


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    """A studio without processors."""
    async with running_studio(tmp_path) as running:
        yield running


@pytest.fixture
async def beside(studio: Studio) -> AsyncIterator[Log]:
    """The studio's log, on a connection of its own."""
    connection = await Connection.open(studio.nats.url, studio.nats.token)
    yield await Log.open(connection)
    await connection.close()


async def folded(log: Log, owner: str) -> Tree:
    """An owner's tree, from every event of it."""
    tree = Tree()
    head = await log.head()
    async for batch in read_log(log.connection, [subjects.of_owner(owner)], 0, head):
        for record in map(decode, batch.messages):
            if record.subject.kind == "bucket":
                tree.fold(record.entity_id, record.event, record.seq, record.time)
    return tree


def outline(tree: Tree) -> tuple[object, ...]:
    """All there is to a tree, in a form that compares."""
    buckets = {b.bucket_id: (b.parent, b.rank, b.name, b.trashed, b.seq) for b in known(tree)}
    filings = {blob_id: (one.bucket_ids, one.seqs) for blob_id, one in tree.filings.items()}
    below = {p: [b.bucket_id for b in tree.children(p)] for p in (None, *tree.buckets)}
    return tree.seq, buckets, filings, below


def known(tree: Tree) -> list[Bucket]:
    """All buckets, those in the trash too."""
    return list(tree.buckets.values())


# ---------------------------------------------------------------- many at once


async def disturb(
    client: httpx.AsyncClient, buckets: list[str], blobs: list[str], seed: int
) -> list[httpx.Response]:
    """A client that files, and moves, deletes and restores what is filed and where."""
    chance = random.Random(seed)
    answers: list[httpx.Response] = []
    for number in range(COMMANDS):
        bucket, blob = chance.choice(buckets), chance.choice(blobs)
        match chance.randrange(14):
            case 0 | 1 | 2:
                some = chance.sample(buckets, 3)
                body: Json = {"add": some[:2], "remove": some[2:]}
                answer = await client.put(f"/blobs/{blob}/buckets", json=body)
            case 3 | 4 | 5:
                some = chance.sample(blobs, 4)
                body = {"add": some[:2], "remove": some[2:]}
                answer = await client.put(f"/buckets/{bucket}/blobs", json=body)
            case 6:
                body = {"parent_bucket_id": chance.choice([*buckets, None])}
                answer = await client.post(f"/buckets/{bucket}/move", json=body)
            case 7:
                path = chance.choice([f"/blobs/{blob}", f"/buckets/{bucket}"])
                answer = await client.delete(path)
            case 8 | 9 | 10 | 11:
                path = chance.choice([f"/blobs/{blob}", f"/buckets/{bucket}"])
                answer = await client.post(f"{path}/restore")
            case _:
                body = {"title": f"{seed}.{number}"}
                answer = await client.patch(f"/blobs/{blob}", json=body)
        answers.append(answer)
    return answers


def check_filings(events: list[Json]) -> None:
    """Each filing follows from the one before it, and none is in a bucket that is gone."""
    parents: dict[str, str | None] = {}
    trashed: set[str] = set()
    where: dict[str, list[str]] = {}
    for event in events:
        bucket, data = event.get("bucket_id", ""), event["data"]
        match event["type"]:
            case "bucket.created" | "bucket.structure.changed":
                parents[bucket] = data.get("parent_bucket_id")
            case "bucket.deleted":
                trashed.add(bucket)
            case "bucket.restored":
                trashed.discard(bucket)
            case "blob.created":
                where[event["blob_id"]] = data["bucket_ids"]
            case "bucket.blob.added" | "bucket.blob.removed":
                line: str | None = bucket
                while line is not None:
                    assert line not in trashed
                    line = parents[line]
                before = where[event["blob_id"]]
                if event["type"] == "bucket.blob.added":
                    assert bucket not in before
                    expected = [*before, bucket]
                else:
                    assert bucket in before
                    expected = [one for one in before if one != bucket]
                assert data["bucket_ids"] == expected
                where[event["blob_id"]] = expected


async def test_sixteen_clients_filing_in_one_tree(
    studio: Studio, beside: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen clients at two servers file, move, delete and restore: no 5xx, no filing lost."""
    # How long sixteen turns take says more about the machine.
    monkeypatch.setattr(boundaries, "TURN_WITHIN", DEADLINE)
    user = studio.user()
    kept = Boundaries(beside)
    async with (
        studio.beside() as other,
        studio.client(user.token) as one,
        other.client(user.token) as two,
    ):
        buckets = [(await make_bucket(one, f"{n}"))["bucket_id"] for n in range(6)]
        blobs = [(await make_blob(one, bucket_ids=buckets[:2]))["blob_id"] for _ in range(8)]
        before = (await kept.tree(user.user_id)).seq
        results = await asyncio.gather(
            *(disturb([one, two][seed % 2], buckets, blobs, seed) for seed in range(CLIENTS))
        )
        answers = [answer for result in results for answer in result]
        assert {answer.status_code for answer in answers} <= {200, 204, 404, 409}
        events = await events_of(one)
    written = [int(answer.headers["reyna-seq"]) for answer in answers if answer.is_success]
    assert set(written) <= {event["seq"] for event in events}
    types = [event["type"] for event in events]
    assert types.count("bucket.blob.added") > CLIENTS
    check_filings(events)
    every = await folded(beside, user.user_id)
    assert (await kept.tree(user.user_id)).seq == before
    assert outline(await kept.tree(user.user_id, fresh=True)) == outline(every)
    assert outline(await Boundaries(beside).tree(user.user_id)) == outline(every)


@pytest.mark.parametrize("number", [3, trees.READ_SINGLY + 4, 1030])
async def test_a_tree_with_filings_is_read_whole(log: Log, number: int) -> None:
    """However many buckets have filings, a tree that is read anew is the one that was kept."""
    kept = Boundaries(log)
    await kept.tree("u1")
    seq = 0
    ids = [f"k{one}" for one in range(number)]
    for start in range(0, number, 1000):
        made = [draft("u1", one, bucket_created()) for one in ids[start : start + 1000]]
        seq = await log.append(made, of_tree(seq, "u1"))
    for turn in range(2):
        for start in range(0, number, 500):
            event = BucketBlobAdded(blob_id=f"b{turn}", schema_id=SCHEMA, bucket_ids=("k0",))
            filed = [draft("u1", one, event) for one in ids[start : start + 500]]
            seq = await log.append(filed, of_tree(seq, "u1"))
    every = outline(await folded(log, "u1"))
    assert outline(await kept.tree("u1", fresh=True)) == every
    assert outline(await kept.own_tree("u1")) == every
    filings = (await kept.tree("u1")).filings
    assert [len(filings[blob_id].seqs) for blob_id in ("b0", "b1")] == [number, number]


# ---------------------------------------------------------------- two processes


async def test_another_process_decides_on_what_was_filed_meanwhile(studio: Studio) -> None:
    """A process that knew an older tree updates, matches, files and deletes by the newest one."""
    user = studio.user()
    async with (
        studio.beside() as other,
        studio.client(user.token) as one,
        other.client(user.token) as two,
    ):
        a, b = [(await make_bucket(one, name))["bucket_id"] for name in "ab"]
        blob = await make_blob(one, bucket_ids=[a])
        path = f"/blobs/{blob['blob_id']}"
        old = {"If-Match": f'"{blob["seq"]}"'}
        assert (await two.put(f"{path}/buckets", json={"add": [a]})).json()["seq"] == blob["seq"]
        moved = await one.put(f"{path}/buckets", json={"add": [b], "remove": [a]})
        assert (await two.patch(path, json={"title": "x"}, headers=old)).status_code == 412
        new = {"If-Match": moved.headers["etag"]}
        assert (await two.patch(path, json={"title": "x"}, headers=new)).status_code == 200
        back = await one.put(f"{path}/buckets", json={"add": [a], "remove": [b]})
        assert (await two.delete(path)).status_code == 204
        await one.post(f"{path}/restore")
        nothing = await two.put(f"{path}/buckets", json={"add": [a]})
        assert nothing.json()["bucket_ids"] == [a]
        await one.put(f"{path}/buckets", json={"add": [b], "remove": [a]})
        again = await two.put(f"{path}/buckets", json={"add": [a]})
        assert again.json()["bucket_ids"] == [b, a]
        assert again.json()["seq"] > back.json()["seq"]
        own = await events_of(one, types="blob.updated,blob.deleted,blob.restored")
        assert [event["bucket_ids"] for event in own] == [[b], [a], [a]]


async def test_a_restarted_server_decides_the_same(tmp_path: Path) -> None:
    """After a restart ETags, filings and histories are what they were."""
    async with running_studio(tmp_path) as studio:
        user = studio.user()
        async with studio.client(user.token) as client:
            a, b = [(await make_bucket(client, name))["bucket_id"] for name in "ab"]
            path = f"/blobs/{(await make_blob(client, bucket_ids=[a]))['blob_id']}"
            await client.patch(path, json={"title": "x"})
            filed = await client.put(f"{path}/buckets", json={"add": [b], "remove": [a]})
            before = (await client.get(f"{path}/history")).json()
    async with running_studio(tmp_path) as studio, studio.client(user.token) as client:
        nothing = await client.put(f"{path}/buckets", json={"add": [b]})
        assert (nothing.json()["bucket_ids"], nothing.headers["etag"]) == (
            [b],
            filed.headers["etag"],
        )
        assert (await client.get(f"{path}/history")).json() == before


# ---------------------------------------------------------------- live, and workers


async def test_a_refiled_blob_is_heard_where_it_is_now(studio: Studio) -> None:
    """Filing is heard in both buckets, what comes after it in the new one alone."""
    user = studio.user()
    async with studio.client(user.token) as client:
        root = (await make_bucket(client, "root"))["bucket_id"]
        k1 = (await make_bucket(client, "k1"))["bucket_id"]
        k2 = (await make_bucket(client, "k2", root))["bucket_id"]
        blob = await make_blob(client, bucket_ids=[k1])
        path = f"/blobs/{blob['blob_id']}"
        async with (
            studio.live(user.token) as one,
            studio.live(user.token) as two,
            studio.live(user.token) as above,
        ):
            await one.subscribe([k1])
            await two.subscribe([k2])
            await above.subscribe([root], subtree=True)
            moved = await client.put(f"{path}/buckets", json={"add": [k2], "remove": [k1]})
            updated = await client.patch(path, json={"title": "x"})
            seqs = [moved.json()["seq"], updated.json()["seq"]]
            last = await make_blob(client, bucket_ids=[k1, k2])
            for live in (one, two, above):
                await live.until("blob.created", seq=last["seq"])
            assert [event["seq"] for event in one.events] == [seqs[0] - 1, last["seq"]]
            for live in (two, above):
                assert [event["seq"] for event in live.events] == [*seqs, last["seq"]]
            removed, added = one.events[0], two.events[0]
            assert removed["type"] == "bucket.blob.removed"
            assert (removed["bucket_id"], removed["bucket_ids"]) == (k1, [k1])
            assert (added["type"], added["blob_id"]) == ("bucket.blob.added", blob["blob_id"])
            assert (added["bucket_id"], added["schema_id"]) == (k2, SCHEMA)
            assert added["data"]["bucket_ids"] == [k2]


async def test_an_event_that_knew_no_filing_is_heard_where_the_blob_is(
    studio: Studio, beside: Log
) -> None:
    """An update decided before its blob was filed anew reaches the watchers of the new bucket."""
    user = studio.user()
    async with studio.client(user.token) as client, studio.live(user.token) as live:
        k2 = (await make_bucket(client))["bucket_id"]
        blob = await make_blob(client)
        await live.subscribe([k2])
        await client.put(f"/blobs/{blob['blob_id']}/buckets", json={"add": [k2]})
        late = draft(user.user_id, blob["blob_id"], blob_updated("late"))
        seq = await beside.append([late], of_blob(blob["seq"], user.user_id, blob["blob_id"]))
        heard = await live.until("blob.updated", seq=seq)
        assert heard["data"]["data"] == {"content": "late"}
        async with studio.live(user.token) as after:
            await after.subscribe([k2], after=0)
            assert seq in [event["seq"] for event in after.events]


async def test_what_is_derived_is_filed_where_its_source_is_by_then(tmp_path: Path) -> None:
    """A source filed anew while its processor writes takes the derived blob along."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def wait(source: Source, progress: Progress) -> Derived:
        asked.set()
        await go_on.wait()
        return expanded(source)

    async with running_studio(tmp_path, processors=[Writer(wait)]) as studio:
        user = studio.user()
        async with studio.beside() as other, other.client(user.token) as client:
            a, b = [(await make_bucket(client, name))["bucket_id"] for name in "ab"]
            blob = await make_blob(client, bucket_ids=[a])
            async with asyncio.timeout(30):
                await asked.wait()
            path = f"/blobs/{blob['blob_id']}/buckets"
            await client.put(path, json={"add": [b], "remove": [a]})
            go_on.set()
            derived: list[Json] = []

            async def there() -> bool:
                derived[:] = await events_of(client, types="blob.derived")
                return bool(derived)

            await eventually(there)
            assert derived[0]["bucket_ids"] == [b]
