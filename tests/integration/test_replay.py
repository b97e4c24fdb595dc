"""Rebuilding views from the log: what comes of it, what is seen meanwhile, what may go wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, Text, inspect, select, text
from sqlalchemy import Connection as SyncConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from reyna.content import (
    Derived,
    ProcessorSpec,
    Progress,
    Projection,
    Readiness,
    Source,
    Tx,
)
from reyna.database import open_engine, reading, sqlite_url, writing
from reyna.domain.blob import BlobCreated, BlobDeleted
from reyna.domain.bucket import BucketDeleted, BucketStructureChanged
from reyna.errors import CannotApply, DatabaseUnavailable
from reyna.log import embedded
from reyna.log.connection import Connection
from reyna.log.record import Record
from reyna.log.stream import STREAM, Log
from reyna.runtime.projector import Projector
from reyna.runtime.replay import MARK, Rebuilt, Replay
from reyna.runtime.views import Views, aside
from reyna.settings import Settings
from tests.events import (
    SCHEMA,
    append_blob,
    blob_updated,
    bucket_created,
    draft,
    of_blob,
    of_tree,
)
from tests.support import eventually, make_blob, projections, read, running_studio

ROOT = Path(__file__).parents[2]
OWNER = "u1"
FORGE = "UPDATE blob_versions SET title = 'forged' WHERE blob_id = 'b1'"

metadata = MetaData()
words = Table(
    "words",
    metadata,
    Column("blob_id", String(64), primary_key=True),
    Column("seq", Integer, nullable=False),
    Column("text", Text, nullable=False),
)


class _Content(msgspec.Struct):
    content: str


class Words(Projection):
    """What each blob said first. A rebuild, unlike the live fold, waits at the gate, if any."""

    name = "words"
    kinds = frozenset({"blob"})
    tables = metadata

    def __init__(
        self, version: int = 1, *, gate: Gate | None = None, poison: str | None = None
    ) -> None:
        self.version = version
        self._gate = gate
        self._poison = poison

    async def apply(self, tx: Tx, records: Sequence[Record]) -> None:
        """Fold a batch; raises CannotApply for the poison."""
        if self._gate is not None and tx[words].name != words.name:
            await self._gate.pass_through()
        rows = []
        for record in records:
            if isinstance(record.event, BlobCreated):
                said = msgspec.json.decode(record.event.data, type=_Content).content
                if said == self._poison:
                    raise CannotApply(f"no {said}")
                shown = said if self.version == 1 else said.upper()
                rows.append({"blob_id": record.entity_id, "seq": record.seq, "text": shown})
        await tx.upsert(words, rows)


class Gate:
    """Holds whoever comes to it until it is opened."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self._open = asyncio.Event()

    async def pass_through(self) -> None:
        """Say that somebody is here, and wait."""
        self.arrived.set()
        await self._open.wait()

    def open(self) -> None:
        """Let them all through, now and later."""
        self._open.set()


class FillsTheDisk(Words):
    """A view for whose rebuild there is no room, whatever the record."""

    async def apply(self, tx: Tx, records: Sequence[Record]) -> None:
        """Write more than the database may hold."""
        if tx[words].name != words.name:
            await tx.connection.exec_driver_sql("PRAGMA max_page_count = 1")
            await tx.upsert(words, [{"blob_id": "large", "seq": 0, "text": "x" * 100_000}])
        await super().apply(tx, records)


class Shouting:
    """A processor that counts how often it was run."""

    spec = ProcessorSpec(
        processor_id="shouting",
        name="Shouting",
        description="Says it louder.",
        version="1",
        input_schema_id=SCHEMA,
        output_schema_id="message-v1",
        default_active=True,
    )

    def __init__(self) -> None:
        self.runs = 0

    @asynccontextmanager
    async def lifespan(self, settings: Settings) -> AsyncIterator[None]:
        """Nothing to open."""
        yield

    def readiness(self) -> Readiness:
        """Always."""
        return Readiness(True)

    async def run(self, source: Source, progress: Progress) -> Derived:
        """Count."""
        self.runs += 1
        return Derived(data=msgspec.Raw(b'{"content": "LOUD", "sender_id": "shouting"}'))


@pytest.fixture
async def engine(any_database: str) -> AsyncIterator[AsyncEngine]:
    """An engine on an empty database."""
    engine = open_engine(any_database)
    yield engine
    await engine.dispose()


@pytest.fixture
def views(engine: AsyncEngine, log: Log) -> Views:
    """The views of the log."""
    return Views(engine, log.epoch, wait_timeout=30)


def quiet(_: int, __: int) -> None:
    """Take a report of progress."""


@asynccontextmanager
async def projecting(log: Log, views: Views, parts: Sequence[Projection]) -> AsyncIterator[None]:
    """The views, kept up to date for the length of the block."""
    await views.prepare(parts)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(Projector(log.connection, views, parts).run())
        yield
        running.cancel()


async def up_to_date(log: Log, views: Views, parts: Sequence[Projection]) -> None:
    """Fold all there is, live."""
    async with projecting(log, views, parts):
        for part in parts:
            await views.reached(part, await log.head())


async def append_blobs(log: Log, count: int) -> int:
    """Append the creation of blobs named b0, b1, … in one batch; gives the last seq."""
    drafts = [
        draft(OWNER, f"b{i}", BlobCreated(schema_id=SCHEMA, data=msgspec.Raw(b'{"content":"x"}')))
        for i in range(count)
    ]
    return await log.append(drafts, of_blob(0, OWNER, "b0"))


async def rows(views: Views, part: Projection) -> tuple[int, list[str]]:
    """A view's position, and the texts in it in the order of the log."""
    async with views.read(part) as view:
        found = await view.connection.scalars(select(words.c.text).order_by(words.c.seq))
        return view.position, list(found)


async def tables(engine: AsyncEngine) -> set[str]:
    """The names of all tables."""
    async with reading(engine) as connection:
        return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))


async def indexes(engine: AsyncEngine) -> set[tuple[str, tuple[str | None, ...]]]:
    """The tables' indexes, by their columns."""

    def of_all(connection: SyncConnection) -> set[tuple[str, tuple[str | None, ...]]]:
        found = inspect(connection).get_multi_indexes()
        return {
            (table, tuple(index["column_names"]))
            for (_, table), several in found.items()
            for index in several
        }

    async with reading(engine) as connection:
        return await connection.run_sync(of_all)


async def append_history(log: Log) -> None:
    """Append some of everything: a tree that changes, blobs in it that change."""
    tree = 0
    for name in ("top", "below", "beside"):
        tree = await log.append([draft(OWNER, name, bucket_created(name))], of_tree(tree, OWNER))
    moved = BucketStructureChanged(rank="a1", position=0, parent_bucket_id="top")
    tree = await log.append([draft(OWNER, "below", moved)], of_tree(tree, OWNER))
    for i in range(40):
        created = BlobCreated(
            schema_id=SCHEMA, data=msgspec.Raw(b'{"content":"rough"}'), bucket_ids=("below",)
        )
        seq = await log.append([draft(OWNER, f"b{i}", created)], of_blob(0, OWNER, f"b{i}"))
        if i % 3 == 0:
            updated = draft(OWNER, f"b{i}", blob_updated(f"finer {i}"))
            seq = await log.append([updated], of_blob(seq, OWNER, f"b{i}"))
        if i % 4 == 0:
            deleted = BlobDeleted(schema_id=SCHEMA, bucket_ids=("below",))
            await log.append([draft(OWNER, f"b{i}", deleted)], of_blob(seq, OWNER, f"b{i}"))
    gone = BucketDeleted(bucket_ids=("top", "below"))
    await log.append([draft(OWNER, "top", gone)], of_tree(tree, OWNER))


async def test_a_rebuild_equals_the_live_views_to_the_byte(log: Log, views: Views) -> None:
    """What was folded live, in whatever batches it came, is what the log gives in large ones."""
    parts = projections()
    async with projecting(log, views, parts):
        await append_history(log)
        for part in parts:
            await views.reached(part, await log.head())
    replay = Replay(log, views)
    head = await log.head()
    live = await replay.verify(parts, quiet)
    assert [(proof.table, proof.same, proof.position) for proof in live] == [
        (proof.table, True, head) for proof in live
    ]
    versions = {"blob_versions": 40 + 14 + 10, "bucket_versions": 3 + 1 + 2}
    assert versions.items() <= {p.table: p.rows for p in live}.items()
    await replay.rebuild(parts, None, quiet)
    assert await replay.verify(parts, quiet) == live


async def test_a_rebuilt_view_has_all_indexes(log: Log, views: Views, engine: AsyncEngine) -> None:
    """Also those that are only made at the end of a rebuild, each on the same columns as before."""
    parts = projections()
    await append_history(log)
    await up_to_date(log, views, parts)
    before = await indexes(engine)
    await Replay(log, views).rebuild(parts, None, quiet)
    assert await indexes(engine) == before
    assert ("blob_versions", ("user_id", "updated_at", "blob_id", "until")) in before


async def test_verify_names_the_table_that_differs_and_changes_nothing(
    log: Log, views: Views, engine: AsyncEngine
) -> None:
    """A row that the log does not account for is found, and is left as it is."""
    parts = projections()
    await append_history(log)
    await up_to_date(log, views, parts)
    async with writing(engine) as connection:
        await connection.execute(
            text("UPDATE blob_versions SET title = 'forged' WHERE blob_id = 'b1'")
        )
    before = await tables(engine)
    proofs = await Replay(log, views).verify(parts, quiet)
    assert [proof.table for proof in proofs if not proof.same] == ["blob_versions"]
    assert await tables(engine) == before
    async with reading(engine) as connection:
        forged = await connection.scalar(
            text("SELECT title FROM blob_versions WHERE blob_id = 'b1'")
        )
    assert forged == "forged"


async def test_a_rebuild_is_not_seen_before_it_is_whole(log: Log, views: Views) -> None:
    """While new tables are filled, queries see the old ones, whole and at their own position."""
    gate = Gate()
    part = Words(gate=gate)
    head = await append_blobs(log, 1000)
    await up_to_date(log, views, [part])
    async with asyncio.TaskGroup() as tasks:
        rebuild = tasks.create_task(Replay(log, views).rebuild([part], None, quiet))
        await gate.arrived.wait()
        assert await rows(views, part) == (head, ["x"] * 1000)
        gate.open()
        while not rebuild.done():
            assert await rows(views, part) == (head, ["x"] * 1000)
    assert rebuild.result() == [Rebuilt("words", head, 1000, 0)]


async def test_a_rebuilt_view_is_never_behind_the_live_one(log: Log, views: Views) -> None:
    """What is written and read during a rebuild is still there after it."""
    gate = Gate()
    part = Words(gate=gate)
    await append_blob(log, OWNER, "b1", "before")
    async with projecting(log, views, [part]):
        async with asyncio.TaskGroup() as tasks:
            rebuild = tasks.create_task(Replay(log, views).rebuild([part], None, quiet))
            await gate.arrived.wait()
            second = await append_blob(log, OWNER, "b2", "meanwhile")
            gate.open()
            await views.reached(part, second)
        assert rebuild.done()
        await views.reached(part, second)
        assert await rows(views, part) == (second, ["before", "meanwhile"])
        last = await append_blob(log, OWNER, "b3", "after")
        await views.reached(part, last)
    assert await rows(views, part) == (last, ["before", "meanwhile", "after"])


async def test_a_swap_takes_in_what_the_live_view_has_had_meanwhile(log: Log, views: Views) -> None:
    """Events that were applied live after the rebuild had read the log are in the new tables."""
    part = Words()
    await append_blob(log, OWNER, "b1", "before")
    await up_to_date(log, views, [part])

    class LateEvent(Replay):
        async def _swap(self, build: Any, *, catch_up: bool) -> None:
            await append_blob(log, OWNER, "b2", "late")
            await up_to_date(log, views, [part])
            await super()._swap(build, catch_up=catch_up)

    assert await LateEvent(log, views).rebuild([part], None, quiet) == [Rebuilt("words", 2, 2, 0)]
    assert await rows(views, part) == (2, ["before", "late"])


async def test_rebuilding_up_to_an_event_shows_things_as_they_were(log: Log, views: Views) -> None:
    """With a seq given, the view stands there; whoever keeps it up to date brings it on alone."""
    part = Words()
    seqs = [await append_blob(log, OWNER, f"b{i}", f"{i}") for i in range(3)]
    await up_to_date(log, views, [part])
    (done,) = await Replay(log, views).rebuild([part], seqs[1], quiet)
    assert done == Rebuilt("words", seqs[1], 2, 0)
    assert await rows(views, part) == (seqs[1], ["0", "1"])
    async with projecting(log, views, [part]):
        await views.reached(part, seqs[2])
        await Replay(log, views).rebuild([part], 0, quiet)
        await views.reached(part, seqs[2])
    assert await rows(views, part) == (seqs[2], ["0", "1", "2"])


async def test_an_event_that_was_erased_is_no_obstacle(log: Log, views: Views) -> None:
    """A rebuild up to a seq that is no longer there ends, without it."""
    part = Words()
    seqs = [await append_blob(log, OWNER, f"b{i}", f"{i}") for i in range(3)]
    await log.connection.client.jetstream().delete_msg(STREAM, seqs[2])
    await views.prepare([part])
    (done,) = await Replay(log, views).rebuild([part], None, quiet)
    assert done.position == seqs[2]
    assert await rows(views, part) == (seqs[2], ["0", "1"])


async def test_an_empty_log_rebuilds_to_empty_views(log: Log, views: Views) -> None:
    """With no event at all there is nothing to do, and nothing to wait for."""
    parts = projections()
    await views.prepare(parts)
    assert [done.position for done in await Replay(log, views).rebuild(parts, None, quiet)] == (
        [0] * len(parts)
    )


async def test_what_cannot_be_applied_is_set_aside(
    log: Log, views: Views, engine: AsyncEngine
) -> None:
    """One bad record stops neither the rest nor the rebuild; a mended view takes it in again."""
    for i, said in enumerate(("good", "bad", "better")):
        await append_blob(log, OWNER, f"b{i}", said)
    bad = Words(poison="bad")
    await views.prepare([bad])
    (done,) = await Replay(log, views).rebuild([bad], None, quiet)
    assert done == Rebuilt("words", 3, 3, 1)
    assert await rows(views, bad) == (3, ["good", "better"])
    async with reading(engine) as connection:
        (failed,) = (await connection.execute(select(aside))).all()
    assert (failed.projection, failed.seq) == ("words", 2)
    assert "no bad" in failed.error
    await Replay(log, views).rebuild([Words()], None, quiet)
    assert await rows(views, bad) == (3, ["good", "bad", "better"])
    async with reading(engine) as connection:
        assert (await connection.execute(select(aside))).all() == []


async def test_a_failing_database_is_not_blamed_on_the_records(log: Log, tmp_path: Path) -> None:
    """A rebuild that the database fails ends with that, and the live view stands as it was."""
    part = FillsTheDisk()
    engine = open_engine(sqlite_url(tmp_path / "views.db"))
    views = Views(engine, log.epoch)
    await append_blob(log, OWNER, "b1", "kept")
    await up_to_date(log, views, [part])
    with pytest.raises(DatabaseUnavailable, match="full"):
        await Replay(log, views).rebuild([part], None, quiet)
    assert await rows(views, part) == (1, ["kept"])
    await engine.dispose()


async def test_a_cancelled_rebuild_leaves_nothing_behind(
    log: Log, views: Views, engine: AsyncEngine
) -> None:
    """After a Ctrl-C the live view is as it was, and the new tables are gone."""
    gate = Gate()
    part = Words(gate=gate)
    await append_blob(log, OWNER, "b1", "kept")
    await up_to_date(log, views, [part])
    before = await tables(engine)
    rebuild = asyncio.create_task(Replay(log, views).rebuild([part], None, quiet))
    await gate.arrived.wait()
    rebuild.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rebuild
    assert await tables(engine) == before
    assert await rows(views, part) == (1, ["kept"])


KILLED = """
import asyncio, sys
from reyna.database import open_engine
from reyna.log.connection import Connection
from reyna.log.stream import Log
from reyna.runtime.replay import Replay
from reyna.runtime.views import Views
from tests.integration.test_replay import Gate, Words, quiet

async def main(nats, token, database):
    log = await Log.open(await Connection.open(nats, token))
    views = Views(open_engine(database), log.epoch)
    gate = Gate()
    asyncio.get_running_loop().create_task(say_when(gate))
    await Replay(log, views).rebuild([Words(gate=gate)], None, quiet)

async def say_when(gate):
    await gate.arrived.wait()
    print("midway", flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_rebuild_is_cleaned_up_by_the_next(
    nats: embedded.Server, log: Log, views: Views, engine: AsyncEngine, any_database: str
) -> None:
    """Killed midway it leaves the live view as it was; what else it leaves, the next one drops."""
    part = Words()
    await append_blob(log, OWNER, "b1", "kept")
    await up_to_date(log, views, [part])
    before = await tables(engine)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KILLED, nats.url, nats.token, any_database),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"midway\n"
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    left = await tables(engine) - before
    assert [name.startswith(f"words{MARK}") for name in left] == [True]
    assert await rows(views, part) == (1, ["kept"])
    await Replay(log, views).rebuild([part], None, quiet)
    assert await tables(engine) == before
    assert await rows(views, part) == (1, ["kept"])


async def test_rebuilds_take_turns(log: Log, views: Views, engine: AsyncEngine) -> None:
    """Two at once, and a comparison, do not take each other's tables for leftovers."""
    part = Words()
    head = await append_blobs(log, 1000)
    await up_to_date(log, views, [part])
    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(Replay(log, views).rebuild([part], None, quiet))
        compared = tasks.create_task(Replay(log, views).verify([part], quiet))
    assert [proof.same for proof in compared.result()] == [True]
    assert await rows(views, part) == (head, ["x"] * 1000)


async def test_a_changed_version_is_rebuilt_at_start(tmp_path: Path) -> None:
    """A studio with a view of another version rebuilds it, and then keeps it up to date."""
    async with running_studio(tmp_path, projections=[Words(1)]) as studio:
        user = studio.user()
        async with studio.client(user.token) as client:
            await make_blob(client, "old")
        views = Views(open_engine(studio.place.views_url), await epoch_of(studio.nats))
        await eventually(lambda: shows(views, Words(1), ["old"]))
    async with running_studio(tmp_path, projections=[Words(2)]) as studio:
        await eventually(lambda: shows(views, Words(2), ["OLD"]))
        async with studio.client(user.token) as client:
            await make_blob(client, "new")
        await eventually(lambda: shows(views, Words(2), ["OLD", "NEW"]))
    await views.engine.dispose()


async def epoch_of(nats: embedded.Server) -> str:
    """The epoch of a server's log."""
    connection = await Connection.open(nats.url, nats.token)
    log = await Log.open(connection)
    await connection.close()
    return log.epoch


async def shows(views: Views, part: Projection, expected: list[str]) -> bool:
    """Whether a view of this version is served, and holds these texts."""
    checkpoint = await views.checkpoint(part.name)
    if checkpoint is None or not views.serves(part, checkpoint):
        return False
    return (await rows(views, part))[1] == expected


async def test_replay_never_runs_a_processor(tmp_path: Path) -> None:
    """A rebuild of everything appends nothing and calls no processor."""
    shouting = Shouting()
    async with running_studio(tmp_path, processors=[shouting]) as studio:
        user = studio.user()
        async with studio.client(user.token) as client:
            blob = await make_blob(client, "quiet")

            async def completed() -> bool:
                answer = await read(client, f"/blobs/{blob['blob_id']}", blob["seq"])
                return len(answer["derived_ids"]) == 1

            await eventually(completed)
        connection = await Connection.open(studio.nats.url, studio.nats.token)
        engine = open_engine(studio.place.views_url)
        log = await Log.open(connection)
        await eventually(lambda: settled(log))
        head = await log.head()
        await Replay(log, Views(engine, log.epoch)).rebuild(projections(), None, quiet)
        assert await log.head() == head
        await engine.dispose()
        await connection.close()
    assert shouting.runs == 1


async def settled(log: Log) -> bool:
    """Whether the last event is a run's completion."""
    last = await log.last_of_each("reyna.*.processor.*.completed.shouting")
    return last is not None and len(last) == 1 and last[0].seq == await log.head()
