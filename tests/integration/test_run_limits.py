"""What stops runs: budgets, circuits, loops. Each says so, and harms nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from reyna.content import Derived, Progress, Source
from reyna.errors import Transient
from reyna.runtime import attempt, circuits
from reyna.settings import Settings
from tests.support import Json, Studio, events_of, eventually, make_blob, read, running_studio
from tests.writing import Writer, a_scene, fail, run_at, the_run, write_out

RUNS = "/processors/writer/runs"


async def test_a_spent_budget_stops_runs(tmp_path: Path) -> None:
    """When a user's tokens of the day are spent, runs fail and say so; another user's do not, and a
    restart does not give them back.
    """
    settings = Settings(sync="interval", tokens_per_day=15)
    async with a_scene(tmp_path, settings=settings) as scene:
        for _ in range(2):
            await the_run(scene.client, await make_blob(scene.client), "completed")

        async def counted() -> bool:
            run_id = await run_of(scene.client, await make_blob(scene.client))
            run = await run_at(scene.client, run_id, "failed", "completed")
            return bool(run["status"] == "failed")

        await eventually(counted)
        calls = len(scene.writer.calls)
        async with scene.studio.client(scene.studio.user().token) as other:
            await the_run(other, await make_blob(other), "completed")
    writer = Writer()
    async with (
        running_studio(tmp_path, settings, processors=[writer]) as studio,
        studio.client(scene.token) as client,
    ):
        run = await the_run(client, await make_blob(client), "failed")
        assert run["permanent"] is True
        assert "15 tokens a day" in run["error"]
        answer = await client.post(RUNS, json={"schema_id": "text-input-v1"})
        failed = await run_at(client, answer.json()["run_id"], "failed")
        assert "15 tokens a day" in failed["error"]
    assert writer.calls == []
    assert calls == len(scene.writer.calls) - 1


async def run_of(client: httpx.AsyncClient, source: Json) -> str:
    """The run that a blob's creation asked for."""
    page = await read(client, RUNS, source["seq"], blob_id=source["blob_id"])
    run_id: str = page["items"][0]["run_id"]
    return run_id


async def test_a_provider_that_fails_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After failures in a row no more calls are made for a while, health says degraded, attempts
    are not used up; one probe goes through, and when it works all goes on.
    """
    monkeypatch.setattr(circuits, "OPEN_FOR", 1.0)
    monkeypatch.setattr(circuits, "FAILURES", 3)
    broken = Transient("Out of order.", retry_after=0.1)
    writer = Writer(*[fail(broken)] * 3, write_out)
    async with a_scene(tmp_path, writer) as scene:
        source = await make_blob(scene.client)

        async def degraded() -> bool:
            found = await read(scene.client, "/processors/writer/health", source["seq"])
            return bool(found["status"] == "degraded" and found["resting"])

        await eventually(degraded)
        run = await the_run(scene.client, source, "completed")
        assert run["attempts"] == 4

        async def healthy() -> bool:
            return bool((await read(scene.client, "/processors/writer"))["status"] == "healthy")

        await eventually(healthy)
        async with scene.studio.client(scene.studio.user().token) as other:
            await the_run(other, await make_blob(other), "completed")


async def test_a_long_chain_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain that is longer than it may be ends with a failed run that says so."""
    monkeypatch.setattr(attempt, "MAX_HOPS", 1)
    async with chained(tmp_path) as (studio, writers):
        async with studio.client(studio.user().token) as client:
            await make_blob(client)
            failed = await ended(client, "processor.failed")
        assert "over 1 long" in failed["data"]["error"]
        assert [len(writer.calls) for writer in writers] == [1, 0, 0]


async def test_a_chain_of_three_ends_where_it_began(tmp_path: Path) -> None:
    """Each processor takes what the one before it made; the first does not take what came of its
    own work, and a failed run says why. Lineage and hops tell the way.
    """
    async with chained(tmp_path) as (studio, writers):
        async with studio.client(studio.user().token) as client:
            source = await make_blob(client)
            failed = await ended(client, "processor.failed")
            events = await events_of(client, types="blob.derived")
        assert failed["processor_id"] == "expand"
        assert "loop" in failed["data"]["error"]
        parents = [event["parent_id"] for event in events]
        assert parents == [source["blob_id"], *(event["blob_id"] for event in events[:2])]
        assert [event["processor_id"] for event in events] == ["expand", "analyse", "compile"]
        assert [len(writer.calls) for writer in writers] == [1, 1, 1]


@asynccontextmanager
async def chained(folder: Path) -> AsyncIterator[tuple[Studio, list[Writer]]]:
    """A studio with three writers in a ring: input, expansion, message, input."""

    async def message(source: Source, progress: Progress) -> Derived:
        return Derived(data=msgspec.Raw(b'{"content": "m", "sender_id": "s"}'))

    async def text(source: Source, progress: Progress) -> Derived:
        return Derived(data=msgspec.Raw(b'{"content": "t"}'))

    writers = [
        Writer(processor_id="expand"),
        Writer(message, processor_id="analyse", reads="expanded-text-v1", output="message-v1"),
        Writer(text, processor_id="compile", reads="message-v1", output="text-input-v1"),
    ]
    async with running_studio(folder, processors=writers) as studio:
        yield studio, writers


async def ended(client: httpx.AsyncClient, type_: str) -> Json:
    """The first event of a type, once it is there."""
    found: list[Json] = []

    async def there() -> bool:
        found[:] = await events_of(client, types=type_)
        return bool(found)

    await eventually(there)
    return found[0]
