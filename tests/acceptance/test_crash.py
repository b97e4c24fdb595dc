"""kill -9 of the whole program at any moment: nothing acknowledged is lost, nothing there twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from llmock.pytest_plugin import LLMock

from reyna.log import embedded
from tests import program
from tests.support import Door, Json, events_of, eventually, read

ROUNDS = 4
WRITERS = 6


class Writers:
    """Clients that write without a pause, each request with a key, and remember what came of it.

    `acknowledged` are the answers by key, `open` the requests whose answer was lost.
    """

    def __init__(self, token: str) -> None:
        self.token = token
        self.acknowledged: dict[str, Json] = {}
        self.open: dict[str, Json] = {}
        self._made = 0

    async def write(self, door: Door) -> None:
        """Write until the program is gone."""
        async with door.client(self.token) as client:
            with suppress(httpx.TransportError):
                while True:
                    self._made += 1
                    await self.send(client, f"text {self._made}")

    async def send(self, client: httpx.AsyncClient, key: str) -> None:
        """One request; it is open until it is answered."""
        asked = {"schema_id": "text-input-v1", "data": {"content": key}}
        self.open[key] = asked
        answer = await client.post("/blobs", json=asked, headers={"Idempotency-Key": key})
        # A program that is being killed may still answer that its log is away.
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            assert answer.status_code == httpx.codes.CREATED, answer.text
            self.acknowledged[key] = answer.json()
            del self.open[key]

    async def finish(self, client: httpx.AsyncClient) -> None:
        """Send again what was not answered."""
        for key in list(self.open):
            await self.send(client, key)


async def crash(folder: Path, settings: dict[str, str], writers: Writers, chance: float) -> None:
    """Start the program, finish what was open, write, and kill it in the middle."""
    async with program.up(folder, settings) as running:
        door = running.door
        async with door.client(writers.token) as client:
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
        running.door.client(writers.token) as client,
    ):
        events = await events_of(client, types="blob.created")
        made = {event["data"]["data"]["content"]: event for event in events}
        for key, answer in writers.acknowledged.items():
            assert made[key]["blob_id"] == answer["blob_id"]
            assert made[key]["seq"] == answer["seq"]
        assert set(made) <= set(writers.acknowledged) | set(writers.open)
        await writers.finish(client)
        assert not writers.open
        await settled(client, len(writers.acknowledged))
        await check_events(client, writers)
        await check_views(client, writers)
    await program.run("replay", "--verify", folder=folder)


async def settled(client: httpx.AsyncClient, runs: int) -> None:
    """Return once every source's run has ended well."""

    async def ended() -> bool:
        events = await events_of(client, types="processor.completed,processor.failed")
        assert not [e for e in events if e["type"] == "processor.failed"]
        return len(events) == runs

    await eventually(ended, within=90)


async def check_events(client: httpx.AsyncClient, writers: Writers) -> None:
    """Each text was created once and derived once, by one run that completed once."""
    events = await events_of(client)
    seqs = [event["seq"] for event in events]
    assert seqs == sorted(set(seqs))
    created = Counter(e["data"]["data"]["content"] for e in events if e["type"] == "blob.created")
    assert created == Counter(writers.acknowledged.keys())
    sources = Counter(answer["blob_id"] for answer in writers.acknowledged.values())
    derived = Counter(e["parent_id"] for e in events if e["type"] == "blob.derived")
    completed = Counter(e["blob_id"] for e in events if e["type"] == "processor.completed")
    assert derived == sources
    assert completed == sources


async def check_views(client: httpx.AsyncClient, writers: Writers) -> None:
    """The views have everything that the log has."""
    head = (await events_of(client))[-1]["seq"]
    found: list[str] = []
    cursor: dict[str, object] = {}
    while True:
        page = await read(client, "/blobs", head, limit=200, schema_id="text-input-v1", **cursor)
        found += [blob["blob_id"] for blob in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert sorted(found) == sorted(answer["blob_id"] for answer in writers.acknowledged.values())
