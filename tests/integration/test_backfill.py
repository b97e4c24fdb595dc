"""Backfills: every past blob once, in the background, stoppable, and in nobody's way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from reyna.content import Derived, Progress, Source
from reyna.errors import Permanent
from reyna.log import queue
from reyna.settings import Settings
from tests.support import (
    events_of,
    eventually,
    make_blob,
    make_bucket,
    problem,
    read,
    running_studio,
)
from tests.writing import Writer, a_scene, expanded, fail, hang, run_at, the_run, write_out

RUNS = "/processors/writer/runs"
ALL = {"schema_id": "text-input-v1"}


async def backfill(client: httpx.AsyncClient, **body: object) -> str:
    """Ask for a backfill; gives its run."""
    answer = await client.post(RUNS, json=body)
    assert answer.status_code == 202, answer.text
    run_id: str = answer.json()["run_id"]
    return run_id


async def derived_from(client: httpx.AsyncClient) -> list[str]:
    """The source of each blob that was derived, in order."""
    return [event["parent_id"] for event in await events_of(client, types="blob.derived")]


async def test_all_past_blobs_of_a_schema(tmp_path: Path) -> None:
    """Each blob of the schema is run once, in the order they were made; not one that is in the
    trash, was made later, or is another's.
    """
    writer = Writer(active=False)
    async with a_scene(tmp_path, writer) as scene:
        client = scene.client
        sources = [await make_blob(client, str(number)) for number in range(7)]
        await client.delete(f"/blobs/{sources.pop(3)['blob_id']}")
        back = sources[4]
        await client.delete(f"/blobs/{back['blob_id']}")
        await client.post(f"/blobs/{back['blob_id']}/restore")
        async with scene.studio.client(scene.studio.user().token) as other:
            await make_blob(other, "theirs")
        run_id = await backfill(client, **ALL)
        await make_blob(client, "later")
        done = await run_at(client, run_id, "completed")
        assert (done["total"], done["done"], done["failed"]) == (6, 6, 0)
        assert (done["blob_id"], done["derived_id"]) == (None, None)
        asked = [e["blob_id"] for e in await events_of(client, types="processor.requested")]
        assert asked == [one["blob_id"] for one in sources]
        assert sorted(writer.calls) == sorted(asked)
        page = await read(client, RUNS, done["seq"], backfill_id=run_id)
        assert {run["backfill_id"] for run in page["items"]} == {run_id}
        assert len(page["items"]) == 6


async def test_a_bucket_with_all_below_it(tmp_path: Path) -> None:
    """A backfill over a bucket takes what is in it and below it, once, wherever else it is."""
    writer = Writer(active=False)
    async with a_scene(tmp_path, writer) as scene:
        client = scene.client
        book = (await make_bucket(client, "Book"))["bucket_id"]
        chapter = (await make_bucket(client, "One", book))["bucket_id"]
        trash = (await make_bucket(client, "Gone", book))["bucket_id"]
        other = (await make_bucket(client, "Other"))["bucket_id"]
        await make_blob(client, bucket_ids=[other])
        await make_blob(client)
        await make_blob(client, bucket_ids=[trash])
        both = await make_blob(client, bucket_ids=[book, chapter])
        below = await make_blob(client, bucket_ids=[other, chapter])
        await client.delete(f"/buckets/{trash}")
        run_id = await backfill(client, bucket_id=book)
        done = await run_at(client, run_id, "completed")
        assert (done["total"], done["bucket_ids"]) == (2, [book])
        assert sorted(writer.calls) == sorted([both["blob_id"], below["blob_id"]])
        for gone in (trash, "nothing"):
            problem(await client.post(RUNS, json={"bucket_id": gone}), 404)
        async with scene.studio.client(scene.studio.user().token) as stranger:
            problem(await stranger.post(RUNS, json={"bucket_id": book}), 404)


async def test_a_backfill_of_nothing_is_done(tmp_path: Path) -> None:
    """A backfill that finds nothing completes, and says so."""
    async with a_scene(tmp_path) as scene:
        done = await run_at(scene.client, await backfill(scene.client, **ALL), "completed")
        assert (done["total"], done["done"]) == (0, 0)


async def test_failures_do_not_stop_it(tmp_path: Path) -> None:
    """A run that fails is counted, and the rest goes on; tried again, only it is run again."""
    writer = Writer(write_out, fail(Permanent("No.")), write_out, active=False)
    async with a_scene(tmp_path, writer) as scene:
        client = scene.client
        sources = [await make_blob(client, str(number)) for number in range(4)]
        run_id = await backfill(client, **ALL)
        done = await run_at(client, run_id, "completed")
        assert (done["total"], done["done"], done["failed"]) == (4, 3, 1)
        (letter,) = (await read(client, RUNS, 0, status="failed"))["items"]
        await client.post(f"/runs/{letter['run_id']}/retry")
        await run_at(client, letter["run_id"], "completed")
        assert (await read(client, f"/runs/{run_id}"))["failed"] == 0
        assert sorted(await derived_from(client)) == sorted(one["blob_id"] for one in sources)


async def test_it_stops_when_it_is_cancelled_and_goes_on_when_tried_again(tmp_path: Path) -> None:
    """A cancelled backfill asks for no more runs; retried, it takes up what had not been done."""
    go_on = asyncio.Event()

    async def wait(source: Source, progress: Progress) -> Derived:
        await go_on.wait()
        return expanded(source)

    writer = Writer(write_out, write_out, write_out, wait, active=False)
    async with a_scene(tmp_path, writer) as scene:
        client = scene.client
        sources = [await make_blob(client, str(number)) for number in range(12)]
        run_id = await backfill(client, **ALL)

        async def stuck() -> bool:
            return len(writer.calls) >= 4

        await eventually(stuck)
        assert (await client.post(f"/runs/{run_id}/cancel")).status_code == 202
        stopped = await run_at(client, run_id, "cancelled")
        go_on.set()

        async def idle() -> bool:
            health = await read(client, "/processors/writer/health")
            return bool(health["running"] == 0)

        await eventually(idle)
        assert len(writer.calls) < len(sources)
        assert (await client.post(f"/runs/{run_id}/retry")).status_code == 202
        done = await run_at(client, run_id, "completed")
        assert done["run_id"] == stopped["run_id"]
        assert (done["total"], done["done"]) == (12, 12)
        assert sorted(writer.calls) == sorted(one["blob_id"] for one in sources)


async def test_a_few_at_a_time(tmp_path: Path) -> None:
    """Of a backfill only a few runs are asked for at once, whatever there is to do."""
    writer = Writer(hang, active=False)
    async with a_scene(tmp_path, writer) as scene:
        client = scene.client
        for number in range(20):
            await make_blob(client, str(number))
        run_id = await backfill(client, **ALL)

        async def two() -> bool:
            return len(writer.calls) == 2

        await eventually(two)
        requested = await events_of(client, types="processor.requested")
        assert len(requested) == 2
        run = await read(client, f"/runs/{run_id}", requested[-1]["seq"])
        assert (run["status"], run["total"], run["done"]) == ("running", 20, 0)
        await client.post(f"/runs/{run_id}/cancel")


async def test_nobody_waits_for_anothers_backfill(tmp_path: Path) -> None:
    """While hundreds of runs of two users' backfills are to be done, a run of a third user, and a
    single one of one of them, are done among the first.
    """
    writer = Writer(active=False)
    settings = Settings(sync="interval")
    async with running_studio(tmp_path, settings, processors=[writer]) as studio:
        heavy = [studio.client(studio.user().token) for _ in range(2)]
        for client in heavy:
            for start in range(0, 200, 20):
                texts = [make_blob(client, str(start + n)) for n in range(20)]
                await asyncio.gather(*texts)
        runs = [await backfill(client, **ALL) for client in heavy]

        async def begun() -> bool:
            return len(writer.calls) >= 10

        await eventually(begun)
        async with studio.client(studio.user().token) as light:
            source = await make_blob(light, "one")
            before = len(writer.calls)
            answer = await light.post(RUNS, json={"blob_id": source["blob_id"]})
            own = await make_blob(heavy[0], "one more")
            mine = await heavy[0].post(RUNS, json={"blob_id": own["blob_id"]})
            await run_at(light, answer.json()["run_id"], "completed")
            await run_at(heavy[0], mine.json()["run_id"], "completed")
        waited = max(writer.calls.index(one["blob_id"]) for one in (source, own)) - before
        assert waited < 40
        for client, run_id in zip(heavy, runs, strict=True):
            assert (await read(client, f"/runs/{run_id}"))["status"] == "running"
            assert (await client.post(f"/runs/{run_id}/cancel")).status_code == 202
            await client.aclose()


async def test_a_flood_of_single_runs_holds_up_nobody_else(tmp_path: Path) -> None:
    """While one user's hundreds of runs hang, another user's run is done."""
    writer = Writer(active=True)

    async def hang_for_one(source: Source, progress: Progress) -> Derived:
        if source.owner == flooder.user_id:
            return await hang(source, progress)
        return expanded(source)

    writer.steps = [hang_for_one]
    async with running_studio(tmp_path, processors=[writer]) as studio:
        flooder = studio.user()
        async with (
            studio.client(flooder.token) as many,
            studio.client(studio.user().token) as other,
        ):
            for _ in range(15):
                await asyncio.gather(*(make_blob(many) for _ in range(20)))
            source = await make_blob(other)
            await the_run(other, source, "completed")


async def test_two_programs_and_lost_workers_neither_repeat_nor_miss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that ends in the middle of a backfill leaves it to the next, which goes on."""
    monkeypatch.setattr(queue, "ACK_WAIT", 1.0)
    calls: list[str] = []
    async with running_studio(tmp_path) as studio:
        user = studio.user()
        async with studio.client(user.token) as client:
            first = Writer(active=False)
            async with studio.beside([first]):
                sources = [await make_blob(client, str(number)) for number in range(30)]
                run_id = await backfill(client, **ALL)

                async def some() -> bool:
                    return len(first.calls) >= 5

                await eventually(some)
                studio.kill_nats()
            calls += first.calls
            second = Writer(active=False)
            async with studio.beside([second]):
                done = await run_at(client, run_id, "completed")
            calls += second.calls
            assert (done["total"], done["done"], done["failed"]) == (30, 30, 0)
            assert sorted(await derived_from(client)) == sorted(one["blob_id"] for one in sources)
            requested = await events_of(client, types="processor.requested")
            assert len(requested) == 30
