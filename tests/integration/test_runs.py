"""Processors at work: exactly one derived blob for a source, whatever fails on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest

from reyna.content import Derived, Progress, Source
from reyna.errors import Permanent, Transient
from reyna.log import queue
from reyna.log.queue import Work
from reyna.runtime import attempt, dispatch
from tests.support import (
    events_of,
    eventually,
    make_blob,
    make_bucket,
    problem,
    read,
    running_studio,
)
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
    the_run,
    write_out,
)

RUN = {
    "run_id",
    "processor_id",
    "user_id",
    "blob_id",
    "bucket_ids",
    "status",
    "attempts",
    "error",
    "derived_id",
    "tokens_in",
    "tokens_out",
    "cost",
    "seconds",
    "detail",
    "permanent",
    "source_seq",
    "backfill_id",
    "total",
    "done",
    "failed",
    "created_at",
    "started_at",
    "finished_at",
    "seq",
}


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A studio whose writer does as its test says."""
    async with a_scene(tmp_path) as scene:
        yield scene


async def test_one_derived_blob_beside_its_source(scene: Scene) -> None:
    """A source gets exactly one derived blob, in its buckets, with parent and provenance."""
    client = scene.client
    buckets = [(await make_bucket(client, name))["bucket_id"] for name in "ab"]
    source = await make_blob(client, "rough", bucket_ids=buckets)
    run = await the_run(client, source, "completed")
    assert set(run) >= RUN
    (blob,) = await derived_of(client, source["blob_id"])
    assert blob["bucket_ids"] == buckets
    assert blob["parent_id"] == source["blob_id"]
    assert (blob["processor_id"], blob["schema_id"]) == ("writer", "expanded-text-v1")
    assert blob["data"]["original"] == "rough"
    assert blob["stale"] is False
    provenance = blob["provenance"]
    assert provenance["source_blob_id"] == source["blob_id"]
    assert provenance["source_seq"] == source["seq"]
    assert provenance["run_id"] == run["run_id"]
    assert provenance["model"] == "paper"
    assert provenance["prompt_version"] == "p1"
    assert (provenance["tokens_in"], provenance["tokens_out"]) == (3, 5)
    assert provenance["processor_version"] == "1"
    assert (run["attempts"], run["error"], run["detail"]) == (1, None, None)
    assert run["derived_id"] == blob["blob_id"]
    assert run["blob_id"] == source["blob_id"]
    assert (run["tokens_in"], run["tokens_out"]) == (3, 5)
    assert await read(client, f"/runs/{run['run_id']}") == run
    assert of_run(await events_of(client)) == [
        "processor.started",
        "blob.derived",
        "processor.completed",
    ]
    parent = await read(client, f"/blobs/{source['blob_id']}")
    assert parent["derived_ids"] == [blob["blob_id"]]
    assert scene.writer.calls == [source["blob_id"]]
    changed = await client.patch(f"/blobs/{source['blob_id']}", json={"data": {"content": "new"}})
    stale = await read(client, f"/blobs/{blob['blob_id']}", changed.json()["seq"])
    assert stale["stale"] is True


async def test_only_what_it_subscribed_to(scene: Scene) -> None:
    """A blob of another schema, a bucket, an update or a deletion asks for no run."""
    client = scene.client
    message = {"schema_id": "message-v1", "data": {"content": "x", "sender_id": "me"}}
    await client.post("/blobs", json=message)
    await make_bucket(client)
    source = await make_blob(client)
    await the_run(client, source, "completed")
    await client.patch(f"/blobs/{source['blob_id']}", json={"title": "T"})
    last = await make_blob(client, "last")
    await the_run(client, last, "completed")
    assert scene.writer.calls == [source["blob_id"], last["blob_id"]]


async def test_progress_comes_before_the_blob(scene: Scene) -> None:
    """What is written arrives piece by piece on the socket, in order, before `blob.derived`."""
    words = ["Once ", "upon ", "a ", "time. "] * 20

    async def aloud(source: Source, progress: Progress) -> Derived:
        for word in words:
            await progress(word)
        return expanded(source, "".join(words))

    scene.writer.steps = [aloud]
    bucket = (await make_bucket(scene.client))["bucket_id"]
    async with scene.studio.live(scene.token) as live, scene.studio.live(scene.token) as deaf:
        await live.subscribe([bucket])
        await deaf.subscribe([(await make_bucket(scene.client))["bucket_id"]])
        source = await make_blob(scene.client, bucket_ids=[bucket])
        await live.until("processor.completed")
        types = [frame["type"] for frame in live.heard]
        pieces = [frame for frame in live.heard if frame["type"] == "processor.progress"]
        assert "".join(piece["text"] for piece in pieces) == "".join(words)
        assert {piece["blob_id"] for piece in pieces} == {source["blob_id"]}
        assert all("seq" not in piece for piece in pieces)
        offset = 0
        for piece in pieces:
            assert piece["offset"] == offset
            offset += len(piece["text"])
        assert types.index("blob.created") < types.index("processor.started")
        last = max(n for n, type_ in enumerate(types) if type_ == "processor.progress")
        assert types.index("processor.started") < types.index("processor.progress")
        assert last < types.index("blob.derived") < types.index("processor.completed")
        run = await the_run(scene.client, source, "completed")
        assert {piece["run_id"] for piece in pieces} == {run["run_id"]}
        await deaf.ask("ping")
        assert not [f for f in deaf.heard if f["type"].startswith(("processor", "blob"))]


async def test_what_may_pass_is_tried_again(scene: Scene) -> None:
    """After failures that may pass the run completes; each attempt has its event; one blob."""
    scene.writer.steps = [fail(SOON), fail(SOON), write_out]
    source = await make_blob(scene.client)
    run = await the_run(scene.client, source, "completed")
    assert run["attempts"] == 3
    assert len(await derived_of(scene.client, source["blob_id"])) == 1
    events = await events_of(scene.client)
    assert of_run(events) == [*["processor.started"] * 3, "blob.derived", "processor.completed"]
    attempts = [e["data"]["attempt"] for e in events if e["type"] == "processor.started"]
    assert attempts == [1, 2, 3]


async def test_attempts_are_put_off(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a hint from the provider the next attempt is put off, and comes by itself."""
    monkeypatch.setattr(attempt, "FIRST_DELAY", 0.2)
    scene.writer.steps = [fail(Transient("Later.")), fail(ValueError("odd")), write_out]
    source = await make_blob(scene.client)
    assert (await the_run(scene.client, source, "completed"))["attempts"] == 3


async def test_five_failures_are_the_end(scene: Scene) -> None:
    """After five failures the run has failed, says why, and no blob was made."""
    scene.writer.steps = [fail(SOON)]
    source = await make_blob(scene.client)
    run = await the_run(scene.client, source, "failed")
    assert (run["attempts"], run["derived_id"]) == (5, None)
    assert "The pencil broke." in run["error"]
    assert len(scene.writer.calls) == 5
    assert await derived_of(scene.client, source["blob_id"]) == []
    events = await events_of(scene.client)
    assert of_run(events) == [*["processor.started"] * 5, "processor.failed"]
    assert events[-1]["data"]["permanent"] is False


async def test_what_will_not_pass_fails_at_once(scene: Scene) -> None:
    """A permanent failure is not tried again, and does not hold up the next blob."""
    scene.writer.steps = [fail(Permanent("No paper left.")), write_out]
    source = await make_blob(scene.client)
    run = await the_run(scene.client, source, "failed")
    assert (run["attempts"], run["error"]) == (1, "No paper left.")
    second = await make_blob(scene.client)
    await the_run(scene.client, second, "completed")
    assert scene.writer.calls == [source["blob_id"], second["blob_id"]]


async def test_an_unexpected_error_is_told_without_its_stack(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A processor's bug is a failure like others: tried again, then named, never a stack trace."""
    monkeypatch.setattr(attempt, "FIRST_DELAY", 0.1)
    monkeypatch.setattr(attempt, "MAX_ATTEMPTS", 2)
    scene.writer.steps = [fail(KeyError("colour"))]
    source = await make_blob(scene.client)
    run = await the_run(scene.client, source, "failed")
    assert "KeyError" in run["error"]
    assert "Traceback" not in run["error"]


@pytest.mark.parametrize(
    "data",
    [
        b'{"original": "x"}',
        b'{"original": 1, "expanded": "y", "expansion_ratio": 1}',
        b"[]",
        b"not json",
    ],
)
async def test_invalid_output_is_not_stored(scene: Scene, data: bytes) -> None:
    """What breaks the output schema, or is no JSON, is never stored; the run fails and says so."""

    async def wrong(source: Source, progress: Progress) -> Derived:
        return Derived(data=msgspec.Raw(data))

    scene.writer.steps = [wrong]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(attempt, "FIRST_DELAY", 0.05)
        source = await make_blob(scene.client)
        run = await the_run(scene.client, source, "failed")
    assert "expanded-text-v1" in run["error"]
    assert await derived_of(scene.client, source["blob_id"]) == []


async def test_runs_wait_for_a_processor_that_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is ready its runs are queued, with the advice; then they complete by themselves."""
    monkeypatch.setattr(dispatch, "READY_POLL", 0.05)
    writer = Writer(ready=False)
    async with (
        running_studio(tmp_path, processors=[writer]) as studio,
        studio.client(studio.user().token) as client,
    ):
        source = await make_blob(client)
        run = await the_run(client, source, "queued")
        assert (run["detail"], run["attempts"]) == ("Sharpen a pencil.", 0)
        processor = await read(client, "/processors/writer")
        assert processor["status"] == "down"
        assert processor["advice"] == "Sharpen a pencil."
        gone = await make_blob(client, "gone")
        await the_run(client, gone, "queued")
        await client.delete(f"/blobs/{gone['blob_id']}")
        async with httpx.AsyncClient(base_url=studio.url) as anybody:
            health = await anybody.get("/health/ready")
            assert health.status_code == 200
            assert health.json()["processors"]["writer"]["detail"] == "Sharpen a pencil."
        writer.ready = True
        done = await the_run(client, source, "completed")
        assert done["run_id"] == run["run_id"]
        assert (await read(client, "/processors/writer"))["status"] == "healthy"
        # What was deleted meanwhile is not worked on.
        failed = await the_run(client, gone, "failed")
        assert "deleted" in failed["error"]
        assert writer.calls == [source["blob_id"]]


async def test_a_run_is_seen_while_it_runs(scene: Scene) -> None:
    """While the processor works the run is `running`, with the beginning of its attempt."""
    go_on = asyncio.Event()

    async def wait(source: Source, progress: Progress) -> Derived:
        await go_on.wait()
        return expanded(source)

    scene.writer.steps = [wait]
    source = await make_blob(scene.client)
    run = await the_run(scene.client, source, "running")
    assert run["started_at"]
    assert (run["finished_at"], run["derived_id"], run["attempts"]) == (None, None, 1)
    go_on.set()
    run = await the_run(scene.client, source, "completed")
    assert run["finished_at"] >= run["started_at"] >= run["created_at"]


async def test_a_stopped_worker_leaves_its_run_to_the_next(tmp_path: Path) -> None:
    """A program that stops in the middle of a run finishes it after its restart, with one blob."""
    async with running_studio(tmp_path, processors=[Writer(hang)]) as studio:
        user = studio.user()
        async with studio.client(user.token) as client:
            source = await make_blob(client)
            await the_run(client, source, "running")
    writer = Writer()
    async with (
        running_studio(tmp_path, processors=[writer]) as studio,
        studio.client(user.token) as client,
    ):
        run = await the_run(client, source, "completed")
        assert run["attempts"] == 2
        assert len(await derived_of(client, source["blob_id"])) == 1
        assert writer.calls == [source["blob_id"]]


async def test_a_run_delivered_twice_makes_one_blob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers at one run, as after a lost heartbeat, make one blob and one completion."""
    monkeypatch.setattr(queue, "ACK_WAIT", 1.0)

    async def unheard(work: Work) -> None:
        """Nobody hears that work goes on."""

    monkeypatch.setattr(Work, "still_working", unheard)
    both = asyncio.Event()
    writer = Writer()

    async def together(source: Source, progress: Progress) -> Derived:
        if len(writer.calls) > 1:
            both.set()
        await both.wait()
        return expanded(source, f"by call {len(writer.calls)}")

    writer.steps = [together]
    async with (
        running_studio(tmp_path, processors=[writer]) as studio,
        studio.client(studio.user().token) as client,
    ):
        source = await make_blob(client)
        await the_run(client, source, "completed")
        assert len(writer.calls) >= 2
        assert len(await derived_of(client, source["blob_id"])) == 1
        types = of_run(await events_of(client))
        assert types.count("blob.derived") == types.count("processor.completed") == 1
        last = await make_blob(client, "last")
        await the_run(client, last, "completed")


async def test_every_source_once_whatever_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two programs, failures and a killed nats-server: each of forty sources has one blob."""
    monkeypatch.setattr(attempt, "MAX_ATTEMPTS", 50)
    monkeypatch.setattr(queue, "ACK_WAIT", 2.0)
    failing = [fail(SOON) if number % 4 == 1 else write_out for number in range(200)]
    writers = [Writer(*failing), Writer(*failing)]
    async with (
        running_studio(tmp_path, processors=[writers[0]]) as studio,
        studio.beside(processors=[writers[1]]),
        studio.client(studio.user().token) as client,
    ):

        async def make(number: int) -> str:
            made: list[str] = []

            async def done() -> bool:
                answer = await client.post(
                    "/blobs",
                    json={"schema_id": "text-input-v1", "data": {"content": str(number)}},
                    headers={"Idempotency-Key": str(number)},
                )
                if answer.status_code == 201:
                    made.append(answer.json()["blob_id"])
                else:
                    problem(answer, 503)
                return bool(made)

            await eventually(done)
            return made[0]

        sources = [await make(number) for number in range(20)]
        studio.kill_nats()
        sources += [await make(number) for number in range(20, 40)]

        async def all_done() -> bool:
            page = await read(client, "/processors/writer/runs", limit=200, status="completed")
            return len(page["items"]) == len(sources)

        await eventually(all_done, within=60)
        derived = [e for e in await events_of(client) if e["type"] == "blob.derived"]
        assert sorted(event["parent_id"] for event in derived) == sorted(sources)
        assert writers[0].calls
        assert writers[1].calls


async def test_a_loop_of_processors_ends(tmp_path: Path) -> None:
    """A processor that would take what it made itself does not, and a failed run says why."""

    async def again(source: Source, progress: Progress) -> Derived:
        return Derived(data=msgspec.Raw(b'{"content": "again"}'))

    writer = Writer(again, output="text-input-v1")
    async with (
        running_studio(tmp_path, processors=[writer]) as studio,
        studio.client(studio.user().token) as client,
    ):
        await make_blob(client)

        async def ended() -> bool:
            last: str = (await events_of(client))[-1]["type"]
            return last == "processor.failed"

        await eventually(ended)
        assert len(writer.calls) == 1
        seq = (await events_of(client))[-1]["seq"]
        page = await read(client, "/processors/writer/runs", seq, status="failed")
        assert "loop" in page["items"][0]["error"]


async def test_runs_are_their_owners_own(scene: Scene) -> None:
    """Another user sees neither the run, nor its list, nor its frames: 404 and nothing."""
    theirs = scene.studio.user()
    async with (
        scene.studio.client(theirs.token) as stranger,
        scene.studio.live(theirs.token) as live,
    ):
        await live.subscribe()
        source = await make_blob(scene.client)
        run = await the_run(scene.client, source, "completed")
        after = {"Reyna-Min-Seq": str(run["seq"])}
        problem(await stranger.get(f"/runs/{run['run_id']}", headers=after), 404)
        assert (await read(stranger, "/processors/writer/runs", run["seq"]))["items"] == []
        assert (await live.ask("ping"))["type"] == "pong"
        assert {frame["type"] for frame in live.heard} == {"subscribed", "live", "pong"}
        problem(await stranger.get("/processors/none"), 404)
        problem(await stranger.get("/processors/none/runs"), 404)
        problem(await stranger.get(f"/runs/{'0' * 32}"), 404)


async def test_processors_are_discovered(scene: Scene) -> None:
    """GET processors lists what is installed, with schemas, version, status and last sign."""

    async def listed() -> bool:
        return bool((await read(scene.client, "/processors"))["items"])

    await eventually(listed)
    (writer,) = (await read(scene.client, "/processors"))["items"]
    assert set(writer) >= {
        "processor_id",
        "name",
        "description",
        "input_schema_id",
        "output_schema_id",
        "subscribe_events",
        "settings_schema",
        "version",
        "status",
        "last_seen_at",
    }
    assert (writer["processor_id"], writer["status"]) == ("writer", "healthy")
    assert writer["subscribe_events"] == ["blob.created", "blob.derived"]
    again = await read(scene.client, "/processors/writer")
    assert again.pop("last_seen_at") >= writer.pop("last_seen_at")
    assert again == writer
