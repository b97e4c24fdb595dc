"""Following the log: every event once, in order, whatever happens to reader, line and server."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pytest

from reyna.domain import bucket
from reyna.log import embedded, subjects
from reyna.log.connection import Connection
from reyna.log.follow import PULL, Follower
from reyna.log.stream import HEADERS, MAX_MESSAGE, STREAM, Log
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


async def fill(log: Log, number: int, after: int = 0) -> None:
    """Append `number` events of one blob."""
    while number:
        size = min(number, 1000)
        drafts = [draft("u1", "b1", blob_updated(str(after + n))) for n in range(size)]
        after = await log.append(drafts, of_blob(after, "u1", "b1"))
        number -= size


async def read(follower: Follower, until: int) -> list[int]:
    """The seqs that the follower hands out, up to `until`."""
    seqs: list[int] = []
    async with asyncio.timeout(60), aclosing(follower.batches()) as batches:
        async for batch in batches:
            seqs.extend(message.seq for message in batch.messages)
            if seqs and seqs[-1] >= until:
                break
    return seqs


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return when the condition holds."""
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - the server does not tell
            await asyncio.sleep(0.01)


async def test_events_come_in_order_without_a_gap(connection: Connection, log: Log) -> None:
    """From any seq on, every later event comes once and in order, more than two requests' worth."""
    await fill(log, 3 * PULL)
    assert await read(Follower(connection, [subjects.ALL], 0), 3 * PULL) == [
        *range(1, 3 * PULL + 1)
    ]
    assert await read(Follower(connection, [subjects.ALL], 2990), 3000) == [*range(2991, 3001)]


async def test_a_message_is_what_was_stored(connection: Connection, log: Log) -> None:
    """A follower's message has the seq, subject and payload that a direct read has."""
    await append_blob(log, "u1", "b1")
    async with (
        asyncio.timeout(30),
        aclosing(Follower(connection, [subjects.ALL], 0).batches()) as batches,
    ):
        batch = await anext(batches)
    assert (batch.messages, batch.pending) == (await log.since(subjects.ALL, 0), 0)


async def test_an_empty_log_is_followed_at_once(connection: Connection, log: Log) -> None:
    """With nothing to hand out the first batch is empty; what comes later comes."""
    async with (
        asyncio.timeout(30),
        aclosing(Follower(connection, [subjects.ALL], 0).batches()) as batches,
    ):
        first = await anext(batches)
        assert (first.messages, first.pending) == ([], 0)
        await append_blob(log, "u1", "b1")
        assert [message.seq for message in (await anext(batches)).messages] == [1]


async def test_only_what_matches_comes(connection: Connection, log: Log) -> None:
    """A follower of some subjects gets no others."""
    await append_blob(log, "u1", "b1")
    await log.append([draft("u1", "k1", bucket_created())], of_tree(0, "u1"))
    await append_blob(log, "u2", "b1")
    filters = ["reyna.u1.bucket.>", "reyna.u2.>"]
    assert await read(Follower(connection, filters, 0), 3) == [2, 3]


async def test_erased_events_are_no_obstacle(connection: Connection, log: Log) -> None:
    """Holes in the log, also at both ends, are passed over."""
    await fill(log, 20)
    for seq in (1, 2, 7, 8, 9, 15, 20):
        await connection.client.jetstream().delete_msg(STREAM, seq)
    expected = [3, 4, 5, 6, 10, 11, 12, 13, 14, 16, 17, 18, 19]
    assert await read(Follower(connection, [subjects.ALL], 0), 19) == expected


async def test_the_largest_event_is_no_obstacle(connection: Connection, log: Log) -> None:
    """An event as large as the log takes is handed out, and so is the one after it."""
    overhead = len(blob_created("").data) + 500
    huge = blob_created("x" * (MAX_MESSAGE - HEADERS - overhead))
    await log.append([draft("u1", "b1", huge)], of_blob(0, "u1", "b1"))
    await append_blob(log, "u1", "b2")
    assert await read(Follower(connection, [subjects.ALL], 0), 2) == [1, 2]


async def test_the_last_of_each_subject(connection: Connection, log: Log) -> None:
    """On demand only the last event of each subject comes, in order, however many subjects."""
    drafts = [draft("u1", f"k{number}", bucket_created()) for number in range(1000)]
    await log.append(drafts, of_tree(0, "u1"))
    again = [draft("u1", "k0", bucket_created()) for _ in range(200)]
    await log.append(again, of_tree(1000, "u1"))
    await log.append([draft("u1", "k", bucket_created())], of_tree(1200, "u1"))
    filters = [subjects.guard(bucket.boundary("u1"))]
    follower = Follower(connection, filters, 0, last_per_subject=True)
    assert await read(follower, 1201) == [*range(2, 1001), 1200, 1201]


async def test_a_reader_that_stops_holds_two_requests_at_most(
    connection: Connection, log: Log
) -> None:
    """While nobody takes batches, the server sends no more than was asked for, then goes on."""
    await fill(log, 3 * PULL)
    manager = connection.client.jetstream()

    async def delivered() -> int:
        (info,) = await manager.consumers_info(STREAM)
        assert info.delivered is not None
        return info.delivered.consumer_seq

    async def all_that_was_asked_for() -> bool:
        return await delivered() >= 2 * PULL

    async with aclosing(Follower(connection, [subjects.ALL], 0).batches()) as batches:
        seqs = [message.seq for message in (await anext(batches)).messages]
        await until(all_that_was_asked_for)
        await fill(log, 100, after=3 * PULL)
        assert await delivered() == 2 * PULL
        async with asyncio.timeout(30):
            while seqs[-1] < 3 * PULL + 100:
                seqs.extend(message.seq for message in (await anext(batches)).messages)
    assert seqs == [*range(1, 3 * PULL + 101)]


async def test_a_follower_that_is_closed_leaves_nothing_behind(
    connection: Connection, log: Log
) -> None:
    """Its consumer is gone from the server."""
    await append_blob(log, "u1", "b1")
    await read(Follower(connection, [subjects.ALL], 0), 1)
    assert await connection.client.jetstream().consumers_info(STREAM) == []


@pytest.mark.parametrize("last_per_subject", [False, True])
async def test_a_cut_line_costs_no_event(
    nats: embedded.Server, log: Log, last_per_subject: bool
) -> None:
    """Events that come while a reader is cut off are handed out when it is back, each once."""
    async with Proxy(nats.port) as proxy:
        fragile = await Connection.open(proxy.url, nats.token)
        follower = Follower(fragile, [subjects.ALL], 0, last_per_subject=last_per_subject)
        seqs: list[int] = []
        async with asyncio.timeout(60), aclosing(follower.batches()) as batches:
            await append_blob(log, "u1", "b1")
            while seqs != [1]:
                seqs.extend(message.seq for message in (await anext(batches)).messages)
            await proxy.down()
            await append_blob(log, "u1", "b2")
            await proxy.up()
            while seqs[-1] != 2:
                seqs.extend(message.seq for message in (await anext(batches)).messages)
        await fragile.close()
    assert seqs == [1, 2]


async def test_a_killed_server_costs_no_event(tmp_path: Path) -> None:
    """After kill -9 and a new start of the server the follower goes on where it was."""
    async with embedded.running(tmp_path, "interval") as server:
        connection = await Connection.open(server.url, server.token)
        log = await Log.open(connection)
        reading = asyncio.create_task(read(Follower(connection, [subjects.ALL], 0), 301))
        for number in range(3):
            await fill(log, 100, after=number * 100)
            address = embedded.read_address(tmp_path)
            assert address is not None
            os.kill(address.pid, signal.SIGKILL)
            await until(partial(restarted, connection, connection.generation))
        await fill(log, 1, after=300)
        assert await reading == [*range(1, 302)]
        await connection.close()


async def restarted(connection: Connection, known: int) -> bool:
    """Whether the connection has been made anew since `known`."""
    return connection.generation > known


async def test_a_lost_consumer_is_replaced(connection: Connection, log: Log) -> None:
    """When the server forgets a follower's consumer, it makes another and misses nothing."""
    await fill(log, 10)
    manager = connection.client.jetstream()
    async with (
        asyncio.timeout(60),
        aclosing(Follower(connection, [subjects.ALL], 0).batches()) as batches,
    ):
        seqs: list[int] = []
        while len(seqs) < 10:
            seqs.extend(message.seq for message in (await anext(batches)).messages)
        (info,) = await manager.consumers_info(STREAM)
        await manager.delete_consumer(STREAM, info.name)
        await fill(log, 10, after=10)
        while len(seqs) < 20:
            seqs.extend(message.seq for message in (await anext(batches)).messages)
    assert seqs == [*range(1, 21)]
