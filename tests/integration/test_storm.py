"""A storm in one tree: sixteen clients do everything at once, at one server or two on one log.

Afterwards the log has each acknowledged change exactly once and nothing else, and what HTTP shows,
now and in the middle of it, is what plain folds make of that log.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import msgspec
import pytest

from reyna.commands import boundaries
from reyna.database import open_engine
from reyna.domain import blob
from reyna.domain.blob import Blob
from reyna.domain.bucket import Tree
from reyna.log import subjects
from reyna.log.connection import Connection
from reyna.log.follow import read as read_log
from reyna.log.record import Record, decode
from reyna.log.stream import Log
from reyna.runtime.replay import Replay
from reyna.runtime.views import Views
from tests.support import (
    DEADLINE,
    Json,
    Studio,
    make_blob,
    make_bucket,
    projections,
    read,
    running_studio,
)

CLIENTS = 16
COMMANDS = 30
Call = tuple[str, str, Json | None]
Answers = list[tuple[Call, httpx.Response]]
# What each command that is not answered with a problem has written, where it is always one event.
ONE_EVENT = {
    ("POST", "blobs", ""): "blob.created",
    ("POST", "buckets", ""): "bucket.created",
    ("DELETE", "blobs", ""): "blob.deleted",
    ("DELETE", "buckets", ""): "bucket.deleted",
    ("POST", "blobs", "restore"): "blob.restored",
    ("POST", "buckets", "restore"): "bucket.restored",
}


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    """A studio without processors."""
    async with running_studio(tmp_path) as running:
        yield running


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No limit to a turn: how long sixteen of them take says more about the machine."""
    monkeypatch.setattr(boundaries, "TURN_WITHIN", DEADLINE)


@pytest.fixture
async def beside(studio: Studio) -> AsyncIterator[Log]:
    """The studio's log, on a connection of its own."""
    connection = await Connection.open(studio.nats.url, studio.nats.token)
    yield await Log.open(connection)
    await connection.close()


# ------------------------------------------------------------------ what the clients do


class Disturber:
    """A client that does anything to what is there, what others have just made included."""

    def __init__(
        self, client: httpx.AsyncClient, seed: int, buckets: list[str], blobs: list[str]
    ) -> None:
        self.client = client
        self.name = f"{seed}"
        self.chance = random.Random(seed)
        self.buckets = buckets
        self.blobs = blobs
        self.answers: Answers = []
        self.seqs = [1]

    async def run(self) -> None:
        """Send the commands, one after the other."""
        for number in range(COMMANDS):
            call = self.chosen(f"{self.name}.{number}")
            method, path, body = call
            answer = await self.client.request(method, path, json=body)
            self.answers.append((call, answer))
            if not answer.is_success:
                continue
            self.seqs.append(int(answer.headers["reyna-seq"]))
            if call[:2] == ("POST", "/buckets"):
                self.buckets.append(answer.json()["bucket_id"])
            if call[:2] == ("POST", "/blobs"):
                self.blobs.append(answer.json()["blob_id"])

    def chosen(self, name: str) -> Call:
        """A command; what it brings in is called `name`."""
        chance, buckets, blobs = self.chance, self.buckets, self.blobs
        bucket, one = chance.choice(buckets), chance.choice(blobs)
        thing = chance.choice([f"/buckets/{bucket}", f"/blobs/{one}"])
        parent = chance.choice([*buckets, None])
        some = chance.sample(buckets, 3)
        filing = {"add": some[:2], "remove": some[2:]}
        several = chance.sample(blobs, 4)
        data = {"schema_id": "text-input-v1", "data": {"content": name}}
        calls: list[tuple[int, Call]] = [
            (2, ("POST", "/buckets", {"name": name, "type": "part", "parent_bucket_id": parent})),
            (2, ("POST", "/blobs", {**data, "bucket_ids": some[:2]})),
            (3, ("PATCH", f"/blobs/{one}", {"title": name})),
            (3, ("PATCH", f"/buckets/{bucket}", {"name": name})),
            (4, ("POST", f"/buckets/{bucket}/move", {"parent_bucket_id": parent, "position": 1})),
            (2, ("DELETE", thing, None)),
            (6, ("POST", f"{thing}/restore", None)),
            (4, ("PUT", f"/blobs/{one}/buckets", filing)),
            (3, ("PUT", f"/buckets/{bucket}/blobs", {"add": several[:2], "remove": several[2:]})),
            (3, ("POST", f"{thing}/revert", {"to": chance.choice(self.seqs)})),
        ]
        return chance.choices([call for _, call in calls], [weight for weight, _ in calls])[0]


async def count_up(client: httpx.AsyncClient, path: str) -> None:
    """Add one to a number in a blob, read and changed under its ETag, until that was in time."""
    seq = 0
    while True:
        found = await client.get(path, headers={"Reyna-Min-Seq": str(seq)})
        metadata = {"count": found.json()["metadata"].get("count", 0) + 1}
        headers = {"If-Match": found.headers["etag"]}
        answer = await client.patch(path, json={"metadata": metadata}, headers=headers)
        if answer.status_code == 200:
            return
        assert answer.status_code == 412, answer.text
        # The view follows the log: wait for whatever was faster.
        seq = int((await client.get("/events", params={"limit": 1})).headers["reyna-seq"])


# ------------------------------------------------------------------ what the log says


async def records_of(log: Log, owner: str) -> list[Record]:
    """All that happened to an owner, in order."""
    head = await log.head()
    batches = read_log(log.connection, [subjects.of_owner(owner)], 0, head)
    return [decode(message) async for batch in batches for message in batch.messages]


def fold(records: Sequence[Record]) -> tuple[Tree, dict[str, Blob]]:
    """The tree and the blobs that come of some events."""
    tree = Tree()
    blobs: dict[str, Blob] = {}
    for record in records:
        key = record.entity_id
        if record.subject.kind == "bucket":
            tree.fold(key, record.event, record.seq, record.time)
            continue
        state = blob.fold(blobs.get(key), key, record.event, record.seq, record.time)
        assert state is not None
        blobs[key] = state
    return tree, blobs


def check_log(records: Sequence[Record], answers: Answers, before: int) -> None:
    """Each acknowledged change is in the log exactly once, and nothing else is since `before`."""
    done = [(call, answer) for call, answer in answers if answer.is_success]
    new = [record for record in records if record.seq > before]
    told = {int(answer.headers["reyna-seq"]) for _, answer in done}
    assert told <= {record.seq for record in records}
    ends = {r.seq + r.meta.batch - 1 for r in new if r.meta.batch > 1}
    inside = {s for r in new if r.meta.batch > 1 for s in range(r.seq, r.seq + r.meta.batch)}
    assert {record.seq for record in new} - inside | ends <= told
    types = Counter(record.type for record in new)
    asked = Counter(ONE_EVENT.get(_kind(call)) for call, _ in done)
    for event in ONE_EVENT.values():
        assert types[event] == asked[event], event
    names = Counter(_named(record) for record in new)
    for (method, _, body), answer in answers:
        for name in (body or {}).get("title"), (body or {}).get("name"):
            if name is not None:
                assert names[name] == int(answer.is_success), (method, name)


def _kind(call: Call) -> tuple[str, str, str]:
    """The method, the resource, and what is to be done with one of it."""
    method, path, _ = call
    _, resource, *rest = path.split("/")
    return method, resource, rest[1] if len(rest) > 1 else ""


def _named(record: Record) -> object:
    """The new title or name that an event brings, unless an earlier event is brought back."""
    event = record.event
    if isinstance(getattr(event, "reverted_to", None), int):
        return None
    changed = getattr(event, "changed", ("name",))
    named = {"title", "name"} & set(changed)
    return next((getattr(event, name, None) for name in named), None)


# ------------------------------------------------------------------ what is shown


async def every(client: httpx.AsyncClient, path: str, **params: object) -> list[Json]:
    """All items of a list, page by page."""
    found: list[Json] = []
    cursor: dict[str, object] = {}
    while True:
        page = await read(client, path, 0, limit=200, **params, **cursor)
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


async def check_views(client: httpx.AsyncClient, records: Sequence[Record], **at: object) -> None:
    """Trees, lists and things are exactly what the folds of the log make of it."""
    tree, blobs = fold(records)
    shown = {one["blob_id"]: one for one in await every(client, "/blobs", **at)}
    trash = await every(client, "/blobs", trashed="true", **at)
    assert set(shown) == {key for key, one in blobs.items() if not one.deleted}
    assert {one["blob_id"] for one in trash} == {key for key, one in blobs.items() if one.deleted}
    for key, one in shown.items():
        state, filing = blobs[key], tree.filings.get(key)
        where = tree.filed(key, state.bucket_ids)
        assert one["title"] == state.title
        assert one["data"] == msgspec.json.decode(state.data)
        assert one["metadata"] == msgspec.json.decode(state.metadata)
        assert one["bucket_ids"] == [bucket for bucket in where if tree.is_live(bucket)]
        assert one["seq"] == max(state.seq, filing.seqs[-1] if filing else 0)
    forest = (await read(client, "/buckets/tree", 0, **at))["items"]
    assert [_outline(node) for node in forest] == _expected(tree, shown, None)
    living = [key for key in tree.buckets if tree.is_live(key)]
    listed = await every(client, "/buckets", **at)
    assert sorted(one["bucket_id"] for one in listed) == sorted(living)
    for bucket in living[:: max(1, len(living) // 5)]:
        inside = await every(client, "/blobs", bucket_id=bucket, **at)
        assert {one["blob_id"] for one in inside} == _inside(shown, {bucket})
        below = {node.bucket_id for node, _ in tree.subtree(tree.buckets[bucket])}
        deep = await every(client, "/blobs", bucket_id=bucket, recursive="true", **at)
        assert [one["blob_id"] for one in deep] == sorted(
            _inside(shown, below), key=lambda one: (shown[one]["created_at"], one), reverse=True
        )


def _inside(shown: dict[str, Json], buckets: set[str]) -> set[str]:
    return {key for key, one in shown.items() if buckets & set(one["bucket_ids"])}


def _outline(node: Json) -> object:
    fields = ("bucket_id", "name", "seq", "position", "depth", "blob_count")
    return [*(node[name] for name in fields), [_outline(child) for child in node["children"]]]


def _expected(
    tree: Tree, shown: dict[str, Json], parent: str | None, depth: int = 0
) -> list[object]:
    return [
        [
            one.bucket_id,
            one.name,
            one.seq,
            position,
            depth,
            len(_inside(shown, {one.bucket_id})),
            _expected(tree, shown, one.bucket_id, depth + 1),
        ]
        for position, one in enumerate(tree.children(parent))
    ]


async def check_replay(studio: Studio, log: Log) -> None:
    """Every table of every view is what a rebuild makes of the log."""
    engine = open_engine(studio.place.views_url)
    try:
        views = Views(engine, log.epoch, wait_timeout=30)
        for projection in projections():
            await views.reached(projection, await log.head())
        proofs = await Replay(log, views).verify(projections(), lambda _, __: None)
        assert [proof.table for proof in proofs if not proof.same] == []
        assert {"blob_versions", "bucket_versions"} <= {proof.table for proof in proofs}
    finally:
        await engine.dispose()


@pytest.mark.parametrize("servers", [1, 2])
async def test_sixteen_clients_do_everything_at_once(
    studio: Studio, beside: Log, servers: int
) -> None:
    """No 5xx, no lost update, nothing that was refused in the log; views equal its folds."""
    user = studio.user()
    async with AsyncExitStack() as stack:
        doors = [studio]
        if servers == 2:
            doors.append(await stack.enter_async_context(studio.beside()))
        clients = [
            await stack.enter_async_context(doors[number % servers].client(user.token))
            for number in range(CLIENTS)
        ]
        first = clients[0]
        buckets = [(await make_bucket(first, f"b{n}"))["bucket_id"] for n in range(6)]
        blobs = [(await make_blob(first, bucket_ids=buckets[:2]))["blob_id"] for _ in range(8)]
        before = await beside.head()
        disturbers = [Disturber(c, seed, buckets, blobs) for seed, c in enumerate(clients)]
        await asyncio.gather(*(one.run() for one in disturbers))
        answers = [answer for one in disturbers for answer in one.answers]
        statuses = Counter(answer.status_code for _, answer in answers)
        assert set(statuses) <= {200, 201, 204, 404, 409, 422}, statuses
        assert statuses[200] + statuses[201] + statuses[204] > len(answers) // 5
        records = await records_of(beside, user.user_id)
        check_log(records, answers, before)
        last = records[-1].seq
        for client in clients[:servers]:
            await read(client, "/blobs", last)
            await check_views(client, records)
        for cut in range(before, last, (last - before) // 4):
            await check_views(first, [r for r in records if r.seq <= cut], at=cut)
        await check_replay(studio, beside)


@pytest.mark.parametrize("servers", [1, 2])
async def test_sixteen_clients_count_in_one_blob(studio: Studio, servers: int) -> None:
    """What each reads, changes and writes under If-Match is never lost, though others file it."""
    user = studio.user()
    async with AsyncExitStack() as stack:
        doors = [studio]
        if servers == 2:
            doors.append(await stack.enter_async_context(studio.beside()))
        clients = [
            await stack.enter_async_context(doors[number % servers].client(user.token))
            for number in range(CLIENTS)
        ]
        buckets = [(await make_bucket(clients[0], f"b{n}"))["bucket_id"] for n in range(2)]
        made = await make_blob(clients[0])
        path = f"/blobs/{made['blob_id']}"
        for client in clients[:servers]:
            await read(client, path, made["seq"])

        async def refile() -> None:
            for number in range(8):
                here, there = buckets[number % 2], buckets[(number + 1) % 2]
                body = {"add": [here], "remove": [there]}
                answer = await clients[-1].put(f"{path}/buckets", json=body)
                assert answer.status_code == 200, answer.text

        await asyncio.gather(*(count_up(one, path) for one in clients), refile())
        head = (await clients[0].get("/events", params={"limit": 1})).headers["reyna-seq"]
        found = await read(clients[0], path, int(head))
        assert found["metadata"] == {"count": CLIENTS}
        assert found["bucket_ids"] == [buckets[1]]
