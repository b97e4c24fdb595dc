"""Work queues over the log: shared, filtered, and no item lost."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from reyna.domain.blob import BlobDeleted
from reyna.log import embedded, queue, subjects
from reyna.log.connection import Connection
from reyna.log.queue import Queue, Work
from reyna.log.stream import Log
from tests.events import SCHEMA, append_blob, blob_created, blob_updated, draft, of_blob

CREATED = ("blob.created",)


@asynccontextmanager
async def opened(
    connection: Connection, after: int = 0, types: tuple[str, ...] = CREATED
) -> AsyncIterator[AsyncIterator[Work]]:
    """The items of a queue."""
    filters = [subjects.of_content(type_.removeprefix("blob."), SCHEMA) for type_ in types]
    opened_ = await Queue.open(connection, "text-expansion", filters, after)
    try:
        yield opened_.items()
    finally:
        await opened_.close()


async def take(items: AsyncIterator[Work], number: int) -> list[Work]:
    """The next items; not more than half a minute is waited for them."""
    async with asyncio.timeout(30):
        return [await anext(items) for _ in range(number)]


async def finish(items: AsyncIterator[Work], number: int) -> list[int]:
    """Take items, do them, and answer their seqs."""
    seqs: list[int] = []
    for _ in range(number):
        (work,) = await take(items, 1)
        await work.done()
        seqs.append(work.record.seq)
    return seqs


async def test_only_what_was_asked_for_arrives(connection: Connection, log: Log) -> None:
    """Other types, other schemas and what came before the start are none of the queue's."""
    await append_blob(log, "u1", "early")
    await append_blob(log, "u1", "b1")
    await log.append([draft("u1", "b1", blob_updated("x"))], of_blob(2, "u1", "b1"))
    deleted = BlobDeleted(schema_id=SCHEMA)
    await log.append([draft("u1", "b1", deleted)], of_blob(3, "u1", "b1"))
    other = blob_created(schema_id="message-v1")
    await log.append([draft("u1", "b2", other)], of_blob(0, "u1", "b2"))
    await append_blob(log, "u2", "b3")
    async with opened(connection, after=1) as items:
        works = await take(items, 2)
        assert [(w.record.seq, w.record.owner, w.record.entity_id) for w in works] == [
            (2, "u1", "b1"),
            (6, "u2", "b3"),
        ]
        assert works[0].record.event == blob_created()
        assert works[0].record.type == "blob.created"


async def test_several_types_share_a_queue(connection: Connection, log: Log) -> None:
    """A processor that reads two types gets both, in order."""
    await append_blob(log, "u1", "b1")
    await log.append([draft("u1", "b1", blob_updated("x"))], of_blob(1, "u1", "b1"))
    async with opened(connection, types=("blob.created", "blob.updated")) as items:
        assert await finish(items, 2) == [1, 2]


async def test_what_is_done_never_comes_again(
    connection: Connection, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An item that was done is not delivered again; one that nobody finished is, after its time."""
    monkeypatch.setattr(queue, "ACK_WAIT", 1.0)
    await append_blob(log, "u1", "b1")
    await append_blob(log, "u1", "b2")
    async with opened(connection) as items:
        first, second = await take(items, 2)
        await second.done()
        (again,) = await take(items, 1)
        assert (first.record.seq, second.record.seq) == (1, 2)
        assert (again.record.seq, again.deliveries) == (1, 2)
        await again.done()
        await append_blob(log, "u1", "b3")
        assert await finish(items, 1) == [3]


async def test_what_is_put_off_comes_again(connection: Connection, log: Log) -> None:
    """An item that is put off is delivered again, and counts its deliveries."""
    await append_blob(log, "u1", "b1")
    async with opened(connection) as items:
        for delivery in (1, 2, 3):
            (work,) = await take(items, 1)
            assert (work.record.seq, work.deliveries) == (1, delivery)
            await work.later(0.05)
        assert await finish(items, 1) == [1]


async def test_what_is_put_off_holds_nobody_up(connection: Connection, log: Log) -> None:
    """While one item waits for its time, the next ones come."""
    for number in range(3):
        await append_blob(log, "u1", f"b{number}")
    async with opened(connection) as items:
        (work,) = await take(items, 1)
        await work.later(3600)
        assert await finish(items, 2) == [2, 3]


async def test_work_that_goes_on_is_not_given_to_another(
    connection: Connection, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as a worker says that it is at it, the item is its own."""
    monkeypatch.setattr(queue, "ACK_WAIT", 2.0)
    await append_blob(log, "u1", "long")
    await append_blob(log, "u1", "abandoned")
    async with opened(connection) as items:
        long, _ = await take(items, 2)

        async def keep() -> None:
            while True:
                await long.still_working()
                await asyncio.sleep(0.1)

        keeping = asyncio.create_task(keep())
        (again,) = await take(items, 1)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        assert (again.record.entity_id, again.deliveries) == ("abandoned", 2)


async def test_workers_share_a_queue(nats: embedded.Server, log: Log) -> None:
    """Of two processes on one queue each item goes to one, and none is left."""
    for number in range(40):
        await append_blob(log, "u1", f"b{number}")
    connections = [await Connection.open(nats.url, nats.token) for _ in range(2)]
    done: list[tuple[int, int]] = []
    everything = asyncio.Event()

    async def work(worker: int) -> None:
        async with opened(connections[worker]) as items:
            async for item in items:
                done.append((worker, item.record.seq))
                await item.done()
                if len(done) >= 40:
                    everything.set()

    workers = [asyncio.create_task(work(number)) for number in range(2)]
    async with asyncio.timeout(30):
        await everything.wait()
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    for connection in connections:
        await connection.close()
    assert sorted(seq for _, seq in done) == list(range(1, 41))
    assert {worker for worker, _ in done} == {0, 1}


async def test_a_queue_keeps_its_place(connection: Connection, log: Log) -> None:
    """Opened again, wherever it is told to start, a queue goes on after what was done."""
    for number in range(4):
        await append_blob(log, "u1", f"b{number}")
    async with opened(connection, after=1) as items:
        assert await finish(items, 1) == [2]
    async with opened(connection, after=0) as items:
        assert await finish(items, 2) == [3, 4]


async def test_a_queue_is_brought_up_to_date(connection: Connection, log: Log) -> None:
    """A new version of a processor that reads another type gets that type from its place on."""
    await append_blob(log, "u1", "b1")
    async with opened(connection) as items:
        assert await finish(items, 1) == [1]
    await log.append([draft("u1", "b1", blob_updated("x"))], of_blob(1, "u1", "b1"))
    async with opened(connection, types=("blob.created", "blob.updated")) as items:
        assert await finish(items, 1) == [2]


async def test_a_killed_server_loses_no_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After kill -9 of the server, what was not done comes again, and what is new comes."""
    monkeypatch.setattr(queue, "ACK_WAIT", 1.0)
    async with embedded.running(tmp_path, "interval") as server:
        connection = await Connection.open(server.url, server.token)
        log = await Log.open(connection)
        for number in range(3):
            await append_blob(log, "u1", f"b{number}")
        async with opened(connection) as items:
            assert await finish(items, 1) == [1]
            await take(items, 1)
            address = embedded.read_address(tmp_path)
            assert address is not None
            generation = connection.generation
            os.kill(address.pid, signal.SIGKILL)
            async with asyncio.timeout(30):
                while connection.generation == generation:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.01)
            await append_blob(log, "u1", "b3")
            # What was done just before the kill may come again: a derived id makes that harmless.
            missing = {2, 3, 4}
            while missing:
                missing -= set(await finish(items, 1))
        await connection.close()
