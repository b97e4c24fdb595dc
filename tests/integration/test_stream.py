"""The log in a real JetStream: guarded appends, whole batches, lost answers, exact reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest
from nats.aio.msg import Msg
from nats.js import api

from reyna.domain import bucket, catalog
from reyna.domain.event import Boundary, Event, Meta, type_of
from reyna.errors import LogUnavailable, ReynaError, SetupError, TooLarge, WrongExpectedSeq
from reyna.ids import new_id
from reyna.log import embedded, record, stream, subjects
from reyna.log.connection import Connection
from reyna.log.stream import MAX_BATCH, STREAM, Draft, Guard, Log
from tests.events import (
    append_blob,
    blob_created,
    blob_updated,
    bucket_created,
    draft,
    of_blob,
    of_tree,
)
from tests.proxy import Proxy


@pytest.fixture
async def proxy(nats: embedded.Server) -> AsyncIterator[Proxy]:
    """A line to the server that can be cut."""
    async with Proxy(nats.port) as proxy:
        yield proxy


@pytest.fixture
async def fragile(proxy: Proxy, nats: embedded.Server) -> AsyncIterator[Log]:
    """The log over that line."""
    connection = await Connection.open(proxy.url, nats.token)
    yield await Log.open(connection)
    await connection.close()


async def everything(log: Log) -> list[record.Record]:
    """All that is stored, in order."""
    stored = await log.since(subjects.ALL, 0)
    assert stored is not None
    return [record.decode(message) for message in stored]


# ---------------------------------------------------------------- guards and batches


async def test_of_many_writers_one_wins(nats: embedded.Server, log: Log) -> None:
    """Of fifty concurrent appends under the same guard, one is stored; the others hear why not."""
    other = await Connection.open(nats.url, nats.token)
    logs = [log, await Log.open(other)]

    async def write(number: int) -> int | None:
        event = blob_created(str(number))
        try:
            return await logs[number % 2].append([draft("u1", "b1", event)], of_blob(0, "u1", "b1"))
        except WrongExpectedSeq:
            return None

    answers = await asyncio.gather(*(write(number) for number in range(50)))
    await other.close()
    assert [answer for answer in answers if answer] == [1]
    (stored,) = await everything(log)
    assert stored.event == blob_created(str(answers.index(1)))


async def test_a_guard_that_has_moved_refuses(log: Log) -> None:
    """An append that rests on an older state, or on one that never was, stores nothing."""
    await append_blob(log, "u1", "b1")
    await log.append([draft("u1", "b1", blob_updated("x"))], of_blob(1, "u1", "b1"))
    for seq in (0, 1, 3):
        with pytest.raises(WrongExpectedSeq):
            await log.append([draft("u1", "b1", blob_updated("y"))], of_blob(seq, "u1", "b1"))
    assert await log.head() == 2


async def test_a_guard_need_not_cover_what_is_written(log: Log) -> None:
    """A blob that rests on its owner's tree is refused once the tree has moved, and not before."""
    await log.append([draft("u1", "k1", bucket_created())], of_tree(0, "u1"))
    await log.append([draft("u1", "b1", blob_created())], of_tree(1, "u1"))
    await log.append([draft("u1", "b2", blob_created())], of_tree(1, "u1"))
    await log.append([draft("u1", "k2", bucket_created())], of_tree(1, "u1"))
    with pytest.raises(WrongExpectedSeq):
        await log.append([draft("u1", "b3", blob_created())], of_tree(1, "u1"))
    assert await log.head() == 4


async def test_one_owners_writes_are_no_conflict_for_another(log: Log) -> None:
    """Boundaries of different owners, and of different things, do not see each other."""
    for owner in ("u1", "u2"):
        await log.append([draft(owner, "k1", bucket_created())], of_tree(0, owner))
        for blob_id in ("b1", "b2"):
            await append_blob(log, owner, blob_id)
    assert await log.head() == 6


@pytest.mark.parametrize("size", [2, 3, 100])
async def test_a_batch_is_stored_whole_and_together(log: Log, size: int) -> None:
    """Batches of several writers at once: each has its events side by side, in order."""

    async def write(owner: str) -> int:
        drafts = [draft(owner, f"k{number}", bucket_created()) for number in range(size)]
        return await log.append(drafts, of_tree(0, owner))

    owners = [f"u{number}" for number in range(10)]
    ends = await asyncio.gather(*(write(owner) for owner in owners))
    stored = await everything(log)
    assert len(stored) == 10 * size
    for owner, end in zip(owners, ends, strict=True):
        mine = [(one.seq, one.entity_id) for one in stored if one.owner == owner]
        assert mine == [(end - size + 1 + number, f"k{number}") for number in range(size)]


async def test_a_batch_is_refused_whole(log: Log) -> None:
    """Of a batch whose guard has moved nothing is stored, and the next one is not hindered."""
    await log.append([draft("u1", "k0", bucket_created())], of_tree(0, "u1"))
    drafts = [draft("u1", f"k{number}", bucket_created()) for number in range(1, 5)]
    with pytest.raises(WrongExpectedSeq):
        await log.append(drafts, of_tree(0, "u1"))
    assert await log.head() == 1
    assert await log.append(drafts, of_tree(1, "u1")) == 5


@pytest.mark.parametrize("size", [0, MAX_BATCH + 1])
async def test_a_batch_has_a_size(log: Log, size: int) -> None:
    """No event, or more than a batch may have, is an error before anything is sent."""
    with pytest.raises(ReynaError):
        await log.append([draft("u1", "k1", bucket_created())] * size, of_tree(0, "u1"))
    assert await log.head() == 0


async def test_the_largest_batch_is_stored(log: Log) -> None:
    """A thousand events are stored as one."""
    drafts = [draft("u1", "b1", blob_updated(str(number))) for number in range(MAX_BATCH)]
    assert await log.append(drafts, of_blob(0, "u1", "b1")) == MAX_BATCH


@pytest.mark.parametrize("excess", [1, 1024, 1024 * 1024])
async def test_an_event_that_is_too_large_is_refused_before_it_is_sent(
    log: Log, excess: int
) -> None:
    """It would cost the connection, which others use, so it is not even tried."""
    huge = blob_created("x" * (embedded.MAX_PAYLOAD - 1024 + excess))
    with pytest.raises(TooLarge):
        await log.append([draft("u1", "b1", huge)], of_blob(0, "u1", "b1"))
    assert log.connection.up
    assert await append_blob(log, "u1", "b1") == 1


# ---------------------------------------------------------------- lost answers


@pytest.mark.parametrize("size", [1, 3], ids=["one", "batch"])
@pytest.mark.parametrize("guard", [of_tree(0, "u1"), of_blob(0, "u1", "b9")], ids=["moves", "not"])
async def test_a_lost_answer_makes_no_duplicate(
    proxy: Proxy, fragile: Log, log: Log, guard: Guard, size: int
) -> None:
    """What was stored while its answer got lost is found again, whether or not its guard moved."""
    drafts = [draft("u1", f"k{number}", bucket_created()) for number in range(size)]
    proxy.cut_at_reply(1 if size == 1 else 2)
    assert await fragile.append(drafts, guard) == size
    assert proxy.cut.is_set()
    assert [one.meta.id for one in await everything(log)] == [one.meta.id for one in drafts]


@pytest.mark.parametrize("size", [1, 3], ids=["one", "batch"])
async def test_a_lost_answer_is_found_behind_what_others_wrote(
    proxy: Proxy, fragile: Log, log: Log, size: int
) -> None:
    """An append whose answer got lost is found although its guard was moved by somebody else."""
    drafts = [draft("u1", f"b{number}", blob_created()) for number in range(size)]
    proxy.cut_at_reply(1 if size == 1 else 2)

    async def interfere() -> None:
        await proxy.cut.wait()
        await log.append([draft("u1", "k1", bucket_created())], of_tree(0, "u1"))

    seq, _ = await asyncio.gather(fragile.append(drafts, of_tree(0, "u1")), interfere())
    assert seq == size
    assert await log.head() == size + 1


async def test_a_lost_refusal_is_still_a_refusal(proxy: Proxy, fragile: Log, log: Log) -> None:
    """A conflict whose answer got lost is a conflict when asked again, although others wrote."""
    await append_blob(log, "u1", "b1")
    proxy.cut_at_reply(1)
    with pytest.raises(WrongExpectedSeq):
        await append_blob(fragile, "u1", "b1", "another's")
    assert proxy.cut.is_set()
    assert await log.head() == 1


async def test_a_batch_that_was_cut_short_is_stored_once(
    proxy: Proxy, fragile: Log, log: Log
) -> None:
    """A batch whose line was cut after its first event leaves nothing behind, and is sent again."""
    drafts = [draft("u1", f"k{number}", bucket_created()) for number in range(3)]
    proxy.cut_at_reply(1)
    assert await fragile.append(drafts, of_tree(0, "u1")) == 3
    assert [one.meta.id for one in await everything(log)] == [one.meta.id for one in drafts]


async def test_what_was_never_sent_never_appears(
    proxy: Proxy, fragile: Log, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a line an append is unavailable; when the line is back, so is the log, and empty."""
    monkeypatch.setattr(stream, "PUBLISH_TIMEOUT", 0.2)
    await proxy.down()
    while fragile.connection.up:  # noqa: ASYNC110 - the very moment it is noticed is wanted
        await asyncio.sleep(0)
    with pytest.raises(LogUnavailable):
        await append_blob(fragile, "u1", "b1")
    await proxy.up()
    await fragile.connection.ready(patience=10)
    assert await log.head() == 0
    assert await append_blob(fragile, "u1", "b1") == 1


# ---------------------------------------------------------------- topics

OF_EVERY_TYPE = [
    ("blob.created", "b1", '{"schema_id":"text-input-v1","data":{}}'),
    ("blob.updated", "b1", '{"schema_id":"text-input-v1","data":{},"changed":[]}'),
    (
        "blob.derived",
        "b2",
        '{"schema_id":"expanded-text-v1","data":{},"parent_id":"b1","processor_id":"p",'
        '"provenance":{"processor_version":"1","source_blob_id":"b1","source_seq":1,"run_id":"r"}}',
    ),
    ("blob.deleted", "b1", '{"schema_id":"text-input-v1"}'),
    ("blob.restored", "b1", '{"schema_id":"text-input-v1"}'),
    ("bucket.created", "k1", '{"name":"n","type":"book","rank":"a0"}'),
    ("bucket.updated", "k1", '{"name":"n","type":"book","changed":[]}'),
    ("bucket.structure.changed", "k1", '{"rank":"a0","position":0}'),
    ("bucket.deleted", "k1", '{"bucket_ids":["k1"]}'),
    ("bucket.restored", "k1", '{"bucket_ids":["k1"]}'),
    (
        "bucket.blob.added",
        "k1",
        '{"blob_id":"b1","schema_id":"text-input-v1","bucket_ids":["k1"]}',
    ),
    ("bucket.blob.removed", "k1", '{"blob_id":"b1","schema_id":"text-input-v1","bucket_ids":[]}'),
    ("schema.registered", "text-input-v1", '{"name":"n","version":1,"definition":{}}'),
    (
        "schema.status.changed",
        "text-input-v1",
        '{"name":"n","version":1,"status":"active"}',
    ),
    (
        "processor.registered",
        "p",
        '{"name":"n","description":"","version":"1","input_schema_id":"","output_schema_id":"",'
        '"subscribe_events":[],"settings_schema":{}}',
    ),
    (
        "processor.started",
        "r",
        '{"run_id":"r","processor_id":"text-expansion","blob_id":"b1","attempt":1,"source_seq":1}',
    ),
    (
        "processor.completed",
        "r",
        '{"run_id":"r","processor_id":"text-expansion","blob_id":"b1","attempts":1,'
        '"derived_id":"b2"}',
    ),
    (
        "processor.failed",
        "r",
        '{"run_id":"r","processor_id":"text-expansion","blob_id":"b1","attempts":1,"error":"",'
        '"permanent":true}',
    ),
    ("processor.cancelled", "r", '{"run_id":"r","processor_id":"text-expansion","blob_id":"b1"}'),
    ("processor.requested", "q", '{"run_id":"q","processor_id":"text-expansion","blob_id":"b1"}'),
    ("processor.backfill.requested", "f", '{"run_id":"f","processor_id":"text-expansion"}'),
    ("processor.instance.changed", "p", '{"processor_id":"p","active":true}'),
]
TOPICS = [
    "blob.created.text-input-v1",
    "blob.updated.text-input-v1",
    "blob.derived.expanded-text-v1",
    "blob.deleted.text-input-v1",
    "blob.restored.text-input-v1",
    "bucket.created",
    "bucket.updated",
    "bucket.structure.changed",
    "bucket.deleted",
    "bucket.restored",
    "bucket.blob.added",
    "bucket.blob.removed",
    "schema.registered",
    "schema.status.changed",
    "processor.registered",
    "processor.started.text-expansion",
    "processor.completed.text-expansion",
    "processor.failed.text-expansion",
    "processor.cancelled.text-expansion",
    "processor.requested.text-expansion",
    "processor.backfill.requested.text-expansion",
    "processor.instance.changed",
]


async def test_what_is_stored_is_announced_under_its_public_topic(
    connection: Connection, log: Log
) -> None:
    """A plain subscriber gets every event once, under the contract's topic; refused ones never."""
    heard: list[tuple[str, int]] = []
    ended = asyncio.Event()

    async def hear(message: Msg) -> None:
        assert message.headers is not None
        heard.append((message.subject, int(message.headers["Nats-Sequence"])))
        if len(heard) == len(TOPICS):
            ended.set()

    for kind in ("blob", "bucket", "schema", "processor"):
        await connection.subscribe(f"{kind}.>", hear)
    seq = 0
    for type_, entity_id, fields in OF_EVERY_TYPE:
        event = catalog.decode(type_, fields.encode())
        assert isinstance(event, Event), type_
        boundary = Boundary("u1", event.KIND, entity_id)
        with pytest.raises(WrongExpectedSeq):
            await log.append([draft("u1", entity_id, event)], Guard(boundary, 999))
        known = await log.last_of_each(subjects.guard(boundary))
        guard = Guard(boundary, known[-1].seq if known else 0)
        seq = await log.append([draft("u1", entity_id, event)], guard)
    async with asyncio.timeout(10):
        await ended.wait()
    assert seq == len(TOPICS)
    assert heard == [(topic, number) for number, topic in enumerate(TOPICS, start=1)]


def test_every_type_is_in_that_test() -> None:
    """The test above leaves out no type of event that this version knows."""
    assert {type_ for type_, _, _ in OF_EVERY_TYPE} == set(catalog.EVENTS)


# ---------------------------------------------------------------- reads


async def test_a_read_has_the_last_of_each_subject_in_order(log: Log) -> None:
    """Of each type of a blob's events the last is read, by seq; of nothing, nothing."""
    await append_blob(log, "u1", "b1")
    for number in range(1, 4):
        update = draft("u1", "b1", blob_updated(str(number)))
        await log.append([update], of_blob(number, "u1", "b1"))
    await append_blob(log, "u1", "b2")
    found = await log.last_of_each("reyna.u1.blob.b1.>")
    assert found is not None
    assert [message.seq for message in found] == [1, 4]
    assert record.decode(found[1]).event == blob_updated("3")
    assert await log.last_of_each("reyna.u1.blob.b3.>") == []
    both = await log.last_of_each("reyna.u1.blob.b1.>", "reyna.u1.blob.b2.>")
    assert both is not None
    assert [message.seq for message in both] == [1, 4, 5]


async def test_the_last_seq_and_single_messages(log: Log) -> None:
    """The last seq under a filter is found, 0 for none; messages are read by seq, in any order."""
    for number in range(3):
        await append_blob(log, f"u{number % 2}", f"b{number}", str(number))
    assert await log.last_seq("reyna.u0.blob.>") == 3
    assert await log.last_seq("reyna.u1.>") == 2
    assert await log.last_seq("reyna.u2.>") == 0
    found = await log.messages([3, 99, 1])
    assert [message.seq for message in found] == [3, 1]
    assert record.decode(found[0]).event == blob_created("2")
    assert await log.messages([]) == []


async def test_more_batches_at_once_than_a_stream_takes(log: Log) -> None:
    """Over fifty batches given at once are all stored, one after the other where need be."""

    async def write(owner: str) -> None:
        events = [draft(owner, one, bucket_created()) for one in ("k1", "k2")]
        await log.append(events, of_tree(0, owner))

    async with asyncio.TaskGroup() as tasks:
        for number in range(80):
            tasks.create_task(write(f"u{number}"))
    assert await log.head() == 160


async def test_a_read_of_too_many_subjects_says_so(log: Log) -> None:
    """Up to 1024 subjects are read at once; with one more the answer is None, never a part."""
    drafts = [draft("u1", f"k{number}", bucket_created()) for number in range(1024)]
    await log.append(drafts[:1000], of_tree(0, "u1"))
    await log.append(drafts[1000:], of_tree(1000, "u1"))
    filter_ = subjects.guard(bucket.boundary("u1"))
    found = await log.last_of_each(filter_)
    assert found is not None
    assert [message.seq for message in found] == list(range(1, 1025))
    await log.append([draft("u1", "k", bucket_created())], of_tree(1024, "u1"))
    assert await log.last_of_each(filter_) is None


async def test_a_read_since_a_seq_is_whole_or_says_so(log: Log) -> None:
    """What came after a seq is read, as long as it is not more than asked for."""
    for number in range(5):
        await append_blob(log, "u1", f"b{number}")
    await append_blob(log, "u2", "b1")
    found = await log.since("reyna.u1.>", 2, most=3)
    assert found is not None
    assert [message.seq for message in found] == [3, 4, 5]
    assert await log.since("reyna.u1.>", 1, most=3) is None
    assert await log.since("reyna.u1.>", 5) == []
    assert await log.since("reyna.u3.>", 0) == []


async def test_a_read_of_too_many_bytes_says_so(log: Log) -> None:
    """The server ends an answer at 64 MiB: that is None too, never a part taken for the whole."""
    for number in range(17):
        await append_blob(log, "u1", f"b{number}", "x" * (4 * 1024 * 1024))
    assert await log.since("reyna.u1.>", 0) is None
    assert await log.last_of_each("reyna.u1.>") is None
    some = await log.since("reyna.u1.>", 7)
    assert some is not None
    assert [message.seq for message in some] == list(range(8, 18))


async def test_the_head_is_the_last_seq(log: Log) -> None:
    """An empty log's head is 0, then the last event's seq."""
    assert await log.head() == 0
    await append_blob(log, "u1", "b1")
    assert await log.head() == 1


# ---------------------------------------------------------------- the stream itself


async def test_an_epoch_lasts_as_long_as_the_stream(tmp_path: Path) -> None:
    """A restart keeps the epoch, a new stream has another."""
    epochs: list[str] = []
    for replace in (False, False, True):
        async with embedded.running(tmp_path, "interval") as server:
            connection = await Connection.open(server.url, server.token)
            if replace:
                await connection.client.jetstream().delete_stream(STREAM)
            epochs.append((await Log.open(connection)).epoch)
            await connection.close()
    assert epochs[0] == epochs[1] != epochs[2]


async def test_processes_that_start_together_share_one_stream(nats: embedded.Server) -> None:
    """Whoever makes the stream, all that open it at once have the same log."""
    connections = [await Connection.open(nats.url, nats.token) for _ in range(8)]
    logs = await asyncio.gather(*(Log.open(connection) for connection in connections))
    assert len({log.epoch for log in logs}) == 1
    for connection in connections:
        await connection.close()


async def test_a_strangers_stream_is_not_taken_for_the_log(connection: Connection) -> None:
    """A stream of our name without an epoch is an error that says so."""
    config = api.StreamConfig(name=STREAM, subjects=[subjects.ALL])
    await connection.client.jetstream().add_stream(config)
    with pytest.raises(SetupError, match="not made by ReYNa"):
        await Log.open(connection)


async def test_the_stream_forgets_nothing(connection: Connection, log: Log) -> None:
    """No limit, no roll-up and no compression: what is stored stays, and erasure is by hand."""
    config = (await connection.client.jetstream().stream_info(STREAM)).config
    assert (config.max_msgs, config.max_bytes, config.max_age) == (-1, -1, 0)
    assert config.max_msgs_per_subject == -1
    assert config.retention == api.RetentionPolicy.LIMITS
    assert config.storage == api.StorageType.FILE
    assert not config.allow_rollup_hdrs
    assert config.compression in {None, api.StoreCompression.NONE}
    assert log.epoch


async def test_one_message_is_read_by_its_seq_or_time(log: Log) -> None:
    """A message is found by its seq, or as the first of its kind since a time; else none is."""
    await append_blob(log, "u1", "b1")
    second = await append_blob(log, "u2", "b2")
    found = await log.message(second)
    assert found is not None
    assert (found.seq, found.subject) == (second, "reyna.u2.blob.b2.created.text-input-v1")
    assert await log.message(99) is None
    since = await log.first_since("reyna.u2.>", "2020-01-01T00:00:00Z")
    assert since == found
    assert await log.first_since("reyna.u3.>", "2020-01-01T00:00:00Z") is None
    assert await log.first_since("reyna.u2.>", "2120-01-01T00:00:00Z") is None


async def test_the_last_of_each_as_it_was(log: Log) -> None:
    """The last message of each subject can be read as it was after an earlier event."""
    first = await append_blob(log, "u1", "b1")
    for text in ("x", "y"):
        known = await log.last_of_each("reyna.u1.blob.b1.>")
        assert known is not None
        await log.append(
            [draft("u1", "b1", blob_updated(text))], of_blob(known[-1].seq, "u1", "b1")
        )
    then = await log.last_of_each("reyna.u1.blob.b1.>", up_to=first + 1)
    assert then is not None
    assert [stored.seq for stored in then] == [first, first + 1]


async def test_a_moment_is_found_in_the_log(log: Log) -> None:
    """The position at a time is that of the last event decided then or before."""
    times = ["2026-01-01T00:00:01.000000Z", "2026-01-01T00:00:02.500000Z"]
    for i, time in enumerate(times):
        event: Event = bucket_created(f"t{i}")
        meta = Meta(id=new_id(), time=time, type=type_of(event), actor="user:u1")
        await log.append([Draft("u1", f"t{i}", event, meta)], of_tree(i, "u1"))

    async def at(time: str) -> int:
        return await log.position_at(datetime.fromisoformat(time))

    assert await at("2026-01-01T00:00:00Z") == 0
    assert await at("2026-01-01T00:00:01Z") == 1
    assert await at("2026-01-01T01:00:02.499999+01:00") == 1
    assert await at("2026-01-01T00:00:02.5Z") == 2
    assert await at("2030-01-01T00:00:00Z") == 2
    assert await at("1600-01-01T00:00:00Z") == 0
    assert await at("2600-01-01T00:00:00Z") == 2
