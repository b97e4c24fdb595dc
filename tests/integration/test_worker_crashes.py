"""kill -9 of a worker at each durable step: one blob a source, no call paid for in vain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support import Studio, events_of, eventually, make_blob, read, running_studio
from tests.worker_process import working
from tests.writing import run_at, the_run

RUNS = "/processors/writer/runs"


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    """A studio without workers of its own."""
    async with running_studio(tmp_path / "data") as studio:
        yield studio


@pytest.mark.parametrize(
    ("step", "calls"),
    [
        ("before processor.started", 1),
        ("after processor.started", 1),
        ("before blob.derived", 2),
        ("after blob.derived", 1),
        ("before processor.completed", 1),
        ("after processor.completed", 1),
    ],
)
async def test_killed_in_the_middle_of_a_run(
    studio: Studio, tmp_path: Path, step: str, calls: int
) -> None:
    """Wherever it dies, the next worker finishes the run, with one blob. The provider is asked
    again only if the answer was lost before it was stored.
    """
    async with studio.client(studio.user().token) as client:
        async with working(studio, tmp_path, die=step) as worker:
            source = await make_blob(client)
            await worker.died()
        async with working(studio, tmp_path) as worker:
            await the_run(client, source, "completed")
            last = await make_blob(client)
            await the_run(client, last, "completed")
        events = await events_of(client, types="blob.derived,processor.completed")
        of_source = [
            event["type"]
            for event in events
            if source["blob_id"] in (event.get("parent_id"), event["blob_id"])
        ]
        assert of_source == ["blob.derived", "processor.completed"]
        assert worker.calls == [*[source["blob_id"]] * calls, last["blob_id"]]


@pytest.mark.parametrize(
    "step",
    [
        "before processor.started",
        "after processor.started",
        "before processor.requested",
        "after processor.requested",
        "before processor.completed",
    ],
)
async def test_killed_in_the_middle_of_a_backfill(
    studio: Studio, tmp_path: Path, step: str
) -> None:
    """Wherever it dies, the next worker goes on: every blob is asked for once and derived once."""
    async with studio.client(studio.user().token) as client:
        async with working(studio, tmp_path):
            await client.put("/processors/writer/instance", json={"active": False})
        sources = sorted([(await make_blob(client))["blob_id"] for _ in range(5)])
        async with working(studio, tmp_path, die=step) as worker:
            asked = await client.post(RUNS, json={"schema_id": "text-input-v1"})
            await worker.died()
        async with working(studio, tmp_path) as worker:
            run_id = asked.json()["run_id"]
            done = await run_at(client, run_id, "completed")
            assert (done["total"], done["done"], done["failed"]) == (5, 5, 0)
        events = await events_of(client)
        for type_, field in (("processor.requested", "blob_id"), ("blob.derived", "parent_id")):
            assert sorted(e[field] for e in events if e["type"] == type_) == sources
        assert sorted(set(worker.calls)) == sources


async def test_a_cancelled_run_of_a_dead_worker_is_not_begun_again(
    studio: Studio, tmp_path: Path
) -> None:
    """A run that is cancelled after its worker was killed stays cancelled."""
    async with studio.client(studio.user().token) as client:
        async with working(studio, tmp_path, hang=True) as worker:
            run = await the_run(client, await make_blob(client), "running")
            worker.process.kill()
            await worker.died()
        assert (await client.post(f"/runs/{run['run_id']}/cancel")).status_code == 202
        async with working(studio, tmp_path) as worker:
            last = await make_blob(client)
            await the_run(client, last, "completed")
            await run_at(client, run["run_id"], "cancelled")
        assert worker.calls == [run["blob_id"], last["blob_id"]]


async def test_a_dead_worker_is_seen_as_down(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A processor is healthy while a worker in another process lives, and down after it was killed
    or has left; when it was last seen stays known.
    """
    monkeypatch.setattr("reyna.runtime.presence.DOWN_AFTER", 4.0)
    async with studio.client(studio.user().token) as client:

        async def status(wanted: str) -> None:
            async def there() -> bool:
                answer = await client.get("/processors/writer")
                return answer.status_code == 200 and answer.json()["status"] == wanted

            await eventually(there)

        async with working(studio, tmp_path) as worker:
            await status("healthy")
            seen = (await read(client, "/processors/writer"))["last_seen_at"]
            worker.process.kill()
            await worker.died()
            await status("down")
        down = await read(client, "/processors/writer")
        health = await read(client, "/processors/writer/health")
        assert health["status"] == "down"
        assert health["last_seen_at"] == down["last_seen_at"] >= seen
        async with working(studio, tmp_path):
            await status("healthy")
