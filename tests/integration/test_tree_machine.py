"""Many writers in one tree, in two processes' worth of handlers, on a real log.

Whatever they do to one another, the log folds to a valid tree, and what was acknowledged is in it
exactly once.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import schemas
from reyna.commands.blobs import BlobCommands
from reyna.commands.boundaries import Boundaries
from reyna.commands.bucket_types import BucketTypes
from reyna.commands.buckets import BucketCommands
from reyna.commands.handler import Caller, Handler
from reyna.commands.idempotency import Answer, Idempotency
from reyna.commands.requests import CreateBlob, CreateBucket, MoveBucket, UpdateBucket
from reyna.commands.schemas import Schemas
from reyna.commands.templates import Templates
from reyna.database import open_engine, sqlite_url
from reyna.domain.blob import BlobCreated
from reyna.domain.bucket import Tree
from reyna.errors import Rejected
from reyna.judge.pool import Judges
from reyna.log import embedded, subjects
from reyna.log.connection import Connection
from reyna.log.follow import Follower
from reyna.log.record import Record, decode
from reyna.log.stream import Log
from tests.events import SCHEMA, bucket_created, draft, of_tree

MAX_DEPTH = 5
WRITERS = 6
COMMANDS = 100


class Process(msgspec.Struct, frozen=True):
    """The commands of one process: its own connection, caches and locks."""

    log: Log
    boundaries: Boundaries
    blobs: BlobCommands
    buckets: BucketCommands


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """The database of answers, which processes share."""
    engine = open_engine(sqlite_url(tmp_path / "accounts.db"))
    yield engine
    await engine.dispose()


@pytest.fixture
async def processes(nats: embedded.Server, engine: AsyncEngine) -> AsyncIterator[list[Process]]:
    """Two processes over one log."""
    async with AsyncExitStack() as stack:
        yield [await process(stack, nats, engine) for _ in range(2)]


async def process(stack: AsyncExitStack, nats: embedded.Server, engine: AsyncEngine) -> Process:
    """One process, with the schemas that ship."""
    connection = await Connection.open(nats.url, nats.token)
    stack.push_async_callback(connection.close)
    log = await Log.open(connection)
    idempotency = Idempotency(engine)
    await idempotency.prepare()
    boundaries = Boundaries(log)
    handler = Handler(log, boundaries, idempotency)
    judges = Judges()
    stack.push_async_callback(judges.close)
    checked = Schemas(log, boundaries, judges)
    await checked.ship(schemas.load())
    return Process(
        log,
        boundaries,
        BlobCommands(handler, boundaries, checked, 1024 * 1024),
        BucketCommands(handler, boundaries, BucketTypes(log, checked), Templates({}), MAX_DEPTH),
    )


class Writer:
    """A user's hands in one process: it does what comes to mind, and remembers the answers."""

    def __init__(self, process: Process, known: list[str], chance: random.Random) -> None:
        self.process = process
        self.known = known
        self.chance = chance
        self.answers: list[Answer] = []
        self.refused = 0

    async def write(self, number: int) -> None:
        """Give some commands, one after the other."""
        for _ in range(number):
            command = self.chance.choices(
                (self.create, self.move, self.delete, self.restore, self.rename, self.drop),
                (4, 6, 1, 2, 1, 3),
            )[0]
            try:
                answer = await command()
            except Rejected:
                self.refused += 1
            else:
                self.answers.append(answer)

    async def create(self) -> Answer:
        asked = CreateBucket(name="n", type="book", parent_bucket_id=self.any_or_none())
        answer = await self.process.buckets.create(Caller(user_id="u1"), asked)
        self.known.append(answer.entity_id)
        return answer

    async def move(self) -> Answer:
        asked = MoveBucket(
            parent_bucket_id=self.any_or_none(), position=self.chance.choice((None, 0, 1, 2))
        )
        return await self.process.buckets.move(Caller(user_id="u1"), self.any(), asked)

    async def delete(self) -> Answer:
        return await self.process.buckets.delete(Caller(user_id="u1"), self.any(), None)

    async def restore(self) -> Answer:
        return await self.process.buckets.restore(Caller(user_id="u1"), self.any())

    async def rename(self) -> Answer:
        asked = UpdateBucket(name=self.chance.choice("abc"))
        return await self.process.buckets.describe(
            Caller(user_id="u1"), self.any(), asked, if_match=None
        )

    async def drop(self) -> Answer:
        asked = CreateBlob(
            schema_id=SCHEMA, data={"content": "words"}, bucket_ids=(self.any(), self.any())
        )
        return await self.process.blobs.create(Caller(user_id="u1"), asked)

    def any(self) -> str:
        return self.chance.choice(self.known) if self.known else "nobody"

    def any_or_none(self) -> str | None:
        return None if self.chance.random() < 0.15 else self.any()


async def everything(log: Log) -> list[Record]:
    """All of the user's events."""
    records: list[Record] = []
    head = await log.head()
    batches = Follower(log.connection, [subjects.of_owner("u1")], 0).batches()
    try:
        async for batch in batches:
            records.extend(decode(message) for message in batch.messages)
            if not batch.pending:
                break
    finally:
        await batches.aclose()
    assert head == await log.head()
    return records


def check(tree: Tree) -> None:
    """The tree is one: every parent exists, nothing is above itself, no live path is too long."""
    for bucket in tree.buckets.values():
        path = [bucket.bucket_id]
        while (parent := tree.buckets[path[-1]].parent) is not None:
            assert parent in tree.buckets
            assert parent not in path
            path.append(parent)
        if not any(tree.buckets[one].trashed for one in path):
            assert len(path) <= MAX_DEPTH
    held = [b.bucket_id for parent in (None, *tree.buckets) for b in tree.children(parent)]
    assert sorted(held) == sorted(b.bucket_id for b in tree.buckets.values() if not b.trashed)


def outline(tree: Tree) -> list[tuple[str, ...]]:
    """All there is to a tree, in a form that compares."""
    return sorted(
        (b.bucket_id, str(b.parent), b.rank, b.name, str(b.trashed), str(b.seq))
        for b in tree.buckets.values()
    )


@pytest.mark.parametrize("seed", range(4))
async def test_concurrent_writers_leave_a_tree(processes: list[Process], seed: int) -> None:
    """After any storm of commands every prefix of the log is a valid tree without lost answers."""
    known: list[str] = []
    writers = [
        Writer(processes[number % 2], known, random.Random(seed * 100 + number))
        for number in range(WRITERS)
    ]
    async with asyncio.TaskGroup() as tasks:
        for writer in writers:
            tasks.create_task(writer.write(COMMANDS))

    records = await everything(processes[0].log)
    by_seq = {record.seq: record for record in records}
    written: Counter[int] = Counter()
    for answer in (answer for writer in writers for answer in writer.answers):
        event = by_seq[answer.seq]
        assert event.entity_id == answer.entity_id
        # A command that changed nothing answers with an earlier event, and a time of its own.
        written[answer.seq] += event.time == answer.time
    assert written == dict.fromkeys(by_seq, 1)
    assert len(records) > WRITERS * COMMANDS / 20
    assert sum(writer.refused for writer in writers)

    tree = Tree()
    for record in records:
        if isinstance(record.event, BlobCreated):
            for bucket_id in record.event.bucket_ids:
                tree.live(bucket_id)
        else:
            tree.fold(record.entity_id, record.event, record.seq, record.time)
            check(tree)
    for process_ in processes:
        cached = await process_.boundaries.tree("u1", fresh=True)
        check(cached)
        assert outline(cached) == outline(tree)


async def test_nobody_is_refused_because_a_cache_is_old(processes: list[Process]) -> None:
    """What one process has made or changed counts at once in another that knew an older tree."""
    caller = Caller(user_id="u1")
    above: str | None = None
    for number in range(MAX_DEPTH):
        buckets = processes[number % 2].buckets
        asked = CreateBucket(name="n", type="part", parent_bucket_id=above)
        above = (await buckets.create(caller, asked)).entity_id
    assert above is not None
    await processes[0].buckets.delete(caller, above, None)
    await processes[1].buckets.restore(caller, above)
    asked_blob = CreateBlob(schema_id=SCHEMA, data={"content": "words"}, bucket_ids=(above,))
    await processes[0].blobs.create(caller, asked_blob)


async def test_an_event_that_was_read_before_its_answer_came_counts_once(
    processes: list[Process],
) -> None:
    """A cached tree takes what it was told of only when that comes right after what it has."""
    log, boundaries = processes[0].log, processes[0].boundaries
    await boundaries.tree("u1")
    drafts = [draft("u1", "k1", bucket_created())]
    seq = await log.append(drafts, of_tree(0, "u1"))
    boundaries.appended(seq + 1, seq, drafts)
    assert (await boundaries.tree("u1")).children(None) == []
    tree = await boundaries.tree("u1", fresh=True)
    boundaries.appended(seq, 0, drafts)
    assert [bucket.bucket_id for bucket in tree.children(None)] == ["k1"]


async def test_two_moves_never_make_a_cycle(processes: list[Process]) -> None:
    """Of two moves that together would make a cycle, from two processes at once, one is refused."""
    caller = Caller(user_id="u1")
    first, second = processes
    for _ in range(20):
        a = (await first.buckets.create(caller, CreateBucket(name="a", type="part"))).entity_id
        b = (await second.buckets.create(caller, CreateBucket(name="b", type="part"))).entity_id
        outcomes = await asyncio.gather(
            first.buckets.move(caller, a, MoveBucket(parent_bucket_id=b)),
            second.buckets.move(caller, b, MoveBucket(parent_bucket_id=a)),
            return_exceptions=True,
        )
        assert sorted(isinstance(outcome, Rejected) for outcome in outcomes) == [False, True]
    check(await first.boundaries.tree("u1", fresh=True))


Ask = Callable[[Process, Caller], Awaitable[Answer]]


@pytest.mark.parametrize(
    "ask",
    [
        lambda process, caller: process.buckets.create(caller, CreateBucket(name="n", type="book")),
        lambda process, caller: process.blobs.create(
            caller, CreateBlob(schema_id=SCHEMA, data={"content": "words"})
        ),
    ],
    ids=["bucket", "blob"],
)
async def test_one_key_is_one_answer_in_all_processes(processes: list[Process], ask: Ask) -> None:
    """The same request with the same key, in two processes at once, writes and answers once."""
    for number in range(10):
        caller = Caller(user_id="u1", key=f"key {number}", fingerprint="the same")
        answers = await asyncio.gather(*(ask(process_, caller) for process_ in processes * 2))
        assert len({(answer.entity_id, answer.seq) for answer in answers}) == 1
    assert len(await everything(processes[0].log)) == 10


async def test_a_tree_of_more_buckets_than_one_read_has(processes: list[Process]) -> None:
    """Over 1024 buckets are loaded by following the log, and are the same tree."""
    caller = Caller(user_id="u1")
    first, second = processes
    for _ in range(1100):
        await first.buckets.create(caller, CreateBucket(name="n", type="book"))
    loaded = await second.boundaries.tree("u1")
    assert len(loaded.children(None)) == 1100
    assert outline(loaded) == outline(await first.boundaries.tree("u1"))
