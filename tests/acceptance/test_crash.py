"""kill -9 of the whole program at any moment: nothing acknowledged is lost, nothing there twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from llmock.pytest_plugin import LLMock

from reyna.client import Client, NewBlob, Retry, Unavailable, Unreachable
from reyna.log import embedded
from tests import program
from tests.support import Door, eventually

ROUNDS = 4
WRITERS = 6
# Whether a lost request came true is for the test to find out.
ONCE = Retry(tries=1)


class Text(msgspec.Struct):
    """What is in a text-input-v1."""

    content: str


class Created(msgspec.Struct):
    """What a blob.created says."""

    data: Text


class Writers:
    """Clients that write without a pause, each request with a key, and remember what came of it.

    `acknowledged` are the answers by key, `open` the keys of requests whose answer was lost.
    """

    def __init__(self, token: str) -> None:
        self.token = token
        self.acknowledged: dict[str, NewBlob] = {}
        self.open: set[str] = set()
        self._made = 0

    async def write(self, door: Door) -> None:
        """Write until the program is gone."""
        async with door.connect(self.token, retry=ONCE) as client:
            with suppress(Unreachable):
                while True:
                    self._made += 1
                    # A program that is being killed may still answer that its log is away.
                    with suppress(Unavailable):
                        await self.send(client, f"text {self._made}")

    async def send(self, client: Client, key: str) -> None:
        """One request; it is open until it is answered."""
        self.open.add(key)
        self.acknowledged[key] = await client.blobs.create(
            "text-input-v1", {"content": key}, idempotency_key=key
        )
        self.open.remove(key)

    async def finish(self, client: Client) -> None:
        """Send again what was not answered."""
        for key in sorted(self.open):
            await self.send(client, key)


async def crash(folder: Path, settings: dict[str, str], writers: Writers, chance: float) -> None:
    """Start the program, finish what was open, write, and kill it in the middle."""
    async with program.up(folder, settings) as running:
        door = running.door
        async with door.connect(writers.token) as client:
            await writers.finish(client)
        before = len(writers.acknowledged)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WRITERS):
                tasks.create_task(writers.write(door))

            async def enough() -> bool:
                return len(writers.acknowledged) >= before + 10 + chance * 60

            await eventually(enough)
            if chance > 0.5:
                # A power cut takes the nats-server as well.
                address = embedded.read_address(folder / "nats")
                assert address is not None
                os.kill(address.pid, signal.SIGKILL)
            await running.kill()


@pytest.mark.timeout(180)
async def test_killed_at_random_moments(tmp_path: Path, llmock: LLMock) -> None:
    """After crashes every acknowledged blob is there once, and views and runs catch up alone."""
    folder = tmp_path / "data"
    llmock.reply("It is written out at some length, and that is all that there is to say of it.")
    settings = {"REYNA_TEXT_BASE_URL": llmock.base_url(), "REYNA_TEXT_MODEL": "mock"}
    async with program.up(folder, settings) as running:
        writers = Writers((await running.door.register()).token)
    chance = random.Random(1122)
    for _ in range(ROUNDS):
        await crash(folder, settings, writers, chance.random())
    async with (
        program.up(folder, settings) as running,
        running.door.connect(writers.token) as client,
    ):
        created = client.events(types=["blob.created"])
        made = {event.content(Created).data.content: event async for event in created}
        for key, answer in writers.acknowledged.items():
            assert (made[key].blob_id, made[key].seq) == (answer.blob_id, answer.seq)
        assert set(made) <= set(writers.acknowledged) | writers.open
        await writers.finish(client)
        assert not writers.open
        await settled(client, len(writers.acknowledged))
        await check_events(client, writers)
        await check_views(client, writers)
    await program.run("replay", "--verify", folder=folder)


async def settled(client: Client, runs: int) -> None:
    """Return once every source's run has ended well."""
    ends = ["processor.completed", "processor.failed"]

    async def ended() -> bool:
        types = [event.type async for event in client.events(types=ends)]
        assert "processor.failed" not in types
        return len(types) == runs

    await eventually(ended, within=90)


async def check_events(client: Client, writers: Writers) -> None:
    """Each text was created once and derived once, by one run that completed once."""
    events = [event async for event in client.events()]
    seqs = [event.seq for event in events]
    assert seqs == sorted(set(seqs))
    created = Counter(e.content(Created).data.content for e in events if e.type == "blob.created")
    assert created == Counter(writers.acknowledged.keys())
    sources = Counter(answer.blob_id for answer in writers.acknowledged.values())
    derived = Counter(event.parent_id for event in events if event.type == "blob.derived")
    completed = Counter(event.blob_id for event in events if event.type == "processor.completed")
    assert derived == sources
    assert completed == sources


async def check_views(client: Client, writers: Writers) -> None:
    """The views have everything that the log has."""
    head = max([event.seq async for event in client.events()])
    blobs = client.blobs.list(schema_id="text-input-v1", min_seq=head)
    found = sorted([blob.blob_id async for blob in blobs])
    assert found == sorted(answer.blob_id for answer in writers.acknowledged.values())
