"""Runs by hand, retried, cancelled: each durable, and each its owner's alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from reyna.content import Derived, Progress, Source
from reyna.errors import Permanent
from reyna.runtime import attempt, dispatch
from tests.support import Json, events_of, make_blob, problem, read
from tests.writing import (
    SOON,
    Scene,
    Writer,
    a_scene,
    derived_of,
    expanded,
    fail,
    hang,
    of_run,
    run_at,
    the_run,
    write_out,
)

RUNS = "/processors/writer/runs"
INSTANCE = "/processors/writer/instance"


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A studio whose writer does as its test says."""
    async with a_scene(tmp_path) as scene:
        yield scene


async def asked(client: httpx.AsyncClient, path: str, **body: object) -> Json:
    """The answer to a command on runs, which is accepted."""
    answer = await client.post(path, json=body) if body else await client.post(path)
    assert answer.status_code == 202, answer.text
    found: Json = answer.json()
    assert answer.headers["reyna-seq"] == str(found["seq"])
    assert answer.headers["location"] == f"/api/v1/runs/{found['run_id']}"
    return found


async def test_a_run_by_hand_makes_another_variant(scene: Scene) -> None:
    """Asked for by hand, the blob as it is now is run again, with the settings of the request."""
    client = scene.client
    source = await make_blob(client, "first")
    await the_run(client, source, "completed")
    await client.patch(f"/blobs/{source['blob_id']}", json={"data": {"content": "second"}})
    settings = {"style": "rich", "api_key": "for-once"}
    run = await asked(client, RUNS, blob_id=source["blob_id"], settings=settings)
    done = await run_at(client, run["run_id"], "completed")
    assert (done["source_seq"], done["cost"], done["backfill_id"]) == (run["seq"], 0.25, None)
    variants = {one["blob_id"]: one for one in await derived_of(client, source["blob_id"])}
    assert len(variants) == 2
    variant = variants[done["derived_id"]]
    assert (variant["data"]["original"], variant["stale"]) == ("second", False)
    assert scene.writer.given[-1] == {"style": "rich", "length": 2, "api_key": "for-once"}
    assert "for-once" not in repr(await events_of(client))
    # It was for this run alone.
    await the_run(client, await make_blob(client), "completed")
    assert scene.writer.given[-1] == {"style": "plain", "length": 2}


async def test_by_hand_works_when_the_instance_is_off(scene: Scene) -> None:
    """Who asks by hand means it, whatever the switch says."""
    await scene.client.put(INSTANCE, json={"active": False})
    source = await make_blob(scene.client)
    run = await asked(scene.client, RUNS, blob_id=source["blob_id"])
    await run_at(scene.client, run["run_id"], "completed")
    assert scene.writer.calls == [source["blob_id"]]


async def test_a_repeated_request_is_one_run(scene: Scene) -> None:
    """The same Idempotency-Key asks once; with another body it is refused."""
    source = await make_blob(scene.client)
    await the_run(scene.client, source, "completed")
    body, key = {"blob_id": source["blob_id"]}, {"Idempotency-Key": "k1"}
    first = await scene.client.post(RUNS, json=body, headers=key)
    again = await scene.client.post(RUNS, json=body, headers=key)
    assert first.json() == again.json()
    await run_at(scene.client, first.json()["run_id"], "completed")
    other = {"blob_id": source["blob_id"], "settings": {"style": "rich"}}
    problem(await scene.client.post(RUNS, json=other, headers=key), 422)
    assert len(scene.writer.calls) == 2


async def test_a_failed_run_is_tried_again(scene: Scene) -> None:
    """A dead letter names its error and event, and becomes the same run again when it is retried;
    a run that did not fail is not retried.
    """
    scene.writer.steps = [fail(Permanent("No paper left.")), write_out]
    source = await make_blob(scene.client)
    await the_run(scene.client, source, "failed")
    letters = await read(scene.client, RUNS, 0, status="failed")
    (letter,) = letters["items"]
    assert (letter["error"], letter["permanent"]) == ("No paper left.", True)
    assert letter["source_seq"] == source["seq"]
    again = await asked(scene.client, f"/runs/{letter['run_id']}/retry")
    assert again["run_id"] == letter["run_id"]
    done = await run_at(scene.client, letter["run_id"], "completed")
    assert (done["attempts"], done["error"]) == (1, None)
    assert len(await derived_of(scene.client, source["blob_id"])) == 1
    assert of_run(await events_of(scene.client)) == [
        "processor.started",
        "processor.failed",
        "processor.requested",
        "processor.started",
        "blob.derived",
        "processor.completed",
    ]
    problem(await scene.client.post(f"/runs/{letter['run_id']}/retry"), 409)


async def test_a_retry_has_all_its_attempts(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is tried again by hand may fail as often as a new one before it is given up."""
    monkeypatch.setattr(attempt, "MAX_ATTEMPTS", 2)
    scene.writer.steps = [fail(SOON), fail(SOON), fail(SOON), write_out]
    run = await the_run(scene.client, await make_blob(scene.client), "failed")
    await asked(scene.client, f"/runs/{run['run_id']}/retry")
    assert (await run_at(scene.client, run["run_id"], "completed"))["attempts"] == 2


async def test_cancelling_stops_the_providers_call(scene: Scene) -> None:
    """A running run that is cancelled has its call cancelled, makes no blob, and can be retried."""
    stopped = asyncio.Event()

    async def until_cancelled(source: Source, progress: Progress) -> Derived:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return expanded(source)

    scene.writer.steps = [until_cancelled, write_out]
    source = await make_blob(scene.client)
    run = await the_run(scene.client, source, "running")
    await asked(scene.client, f"/runs/{run['run_id']}/cancel")
    async with asyncio.timeout(20):
        await stopped.wait()
    done = await run_at(scene.client, run["run_id"], "cancelled")
    assert done["finished_at"]
    problem(await scene.client.post(f"/runs/{run['run_id']}/cancel"), 409)
    await the_run(scene.client, await make_blob(scene.client), "completed")
    assert await derived_of(scene.client, source["blob_id"]) == []
    await asked(scene.client, f"/runs/{run['run_id']}/retry")
    await run_at(scene.client, run["run_id"], "completed")
    assert len(await derived_of(scene.client, source["blob_id"])) == 1


async def test_cancelling_reaches_the_process_that_has_the_run(tmp_path: Path) -> None:
    """A run is cancelled by any process, wherever it runs."""
    writer = Writer(hang)
    async with a_scene(tmp_path, writer) as scene, scene.studio.beside() as beside:
        run = await the_run(scene.client, await make_blob(scene.client), "running")
        async with beside.client(scene.token) as elsewhere:
            await asked(elsewhere, f"/runs/{run['run_id']}/cancel")
        await run_at(scene.client, run["run_id"], "cancelled")
        writer.steps = [write_out]
        await the_run(scene.client, await make_blob(scene.client), "completed")


async def test_a_queued_run_is_cancelled_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of which nothing is written yet can be cancelled by its owner, and is never begun."""
    monkeypatch.setattr(dispatch, "READY_POLL", 0.05)
    async with a_scene(tmp_path, Writer(ready=False)) as scene:
        source = await make_blob(scene.client)
        run = await the_run(scene.client, source, "queued")
        problem(await scene.client.post(f"/runs/{run['run_id']}/retry"), 409)
        async with scene.studio.client(scene.studio.user().token) as stranger:
            problem(await stranger.post(f"/runs/{run['run_id']}/cancel"), 404)
        await asked(scene.client, f"/runs/{run['run_id']}/cancel")
        assert (await run_at(scene.client, run["run_id"], "cancelled"))["attempts"] == 0
        by_hand = await asked(scene.client, RUNS, blob_id=source["blob_id"])
        await asked(scene.client, f"/runs/{by_hand['run_id']}/cancel")
        scene.writer.ready = True
        last = await make_blob(scene.client, "last")
        await the_run(scene.client, last, "completed")
        assert scene.writer.calls == [last["blob_id"]]


async def test_a_hanging_processor_does_not_hold_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt that takes too long fails, and says so; one that will not even be cancelled is
    left behind, and what comes after it is done.
    """
    monkeypatch.setattr(attempt, "MAX_ATTEMPTS", 1)
    monkeypatch.setattr("reyna.runtime.running.GRACE", 0.05)
    enough = asyncio.Event()

    async def stubborn(source: Source, progress: Progress) -> Derived:
        while not enough.is_set():
            try:
                await enough.wait()
            except asyncio.CancelledError:
                continue
        return expanded(source)

    writer = Writer(hang, *[stubborn] * 3, write_out, attempt_timeout=0.3)
    async with a_scene(tmp_path, writer) as scene:
        try:
            for _ in range(4):
                run = await the_run(scene.client, await make_blob(scene.client), "failed")
                assert "longer than 0.3 s" in run["error"]
            await the_run(scene.client, await make_blob(scene.client), "completed")
        finally:
            enough.set()


async def test_a_processor_that_cancels_itself_has_failed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A processor that raises CancelledError by itself ends its attempt, not its worker."""
    monkeypatch.setattr(attempt, "MAX_ATTEMPTS", 1)

    async def give_up(source: Source, progress: Progress) -> Derived:
        raise asyncio.CancelledError

    scene.writer.steps = [give_up, write_out]
    run = await the_run(scene.client, await make_blob(scene.client), "failed")
    assert "cancelled itself" in run["error"]
    await the_run(scene.client, await make_blob(scene.client), "completed")
