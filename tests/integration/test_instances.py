"""Instances at work: who is off gets no runs, settings reach the processor, secrets stay secret."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from reyna.app import studio
from reyna.content import Derived, Progress, Source
from reyna.runtime import dispatch
from tests.support import events_of, make_blob, read, running_studio
from tests.writing import Scene, Writer, a_scene, derived_of, expanded, the_run

INSTANCE = "/processors/writer/instance"
KEY = "sk-a-very-secret-key"


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A studio whose writer does as its test says."""
    async with a_scene(tmp_path) as scene:
        yield scene


async def switch(scene: Scene, *, active: bool, **fields: object) -> int:
    """Set the user's instance up; gives the seq."""
    answer = await scene.client.put(INSTANCE, json={"active": active, **fields})
    assert answer.status_code == 200, answer.text
    seq: int = answer.json()["seq"]
    return seq


async def test_off_means_no_run(scene: Scene) -> None:
    """What is made while the instance is off is never run, for this user alone, nor queued."""
    seq = await switch(scene, active=False)
    off = await make_blob(scene.client, "off")
    async with scene.studio.client(scene.studio.user().token) as other:
        theirs = await make_blob(other, "theirs")
        await the_run(other, theirs, "completed")
    assert (await read(scene.client, "/processors/writer/runs", off["seq"]))["items"] == []
    assert await switch(scene, active=True) > seq
    on = await make_blob(scene.client, "on")
    await the_run(scene.client, on, "completed")
    assert scene.writer.calls == [theirs["blob_id"], on["blob_id"]]
    assert await derived_of(scene.client, off["blob_id"]) == []


async def test_switching_off_takes_back_what_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that wait when the instance is switched off are not done when it is on again."""
    monkeypatch.setattr(dispatch, "READY_POLL", 0.05)
    async with a_scene(tmp_path, Writer(ready=False)) as scene:
        waiting = await make_blob(scene.client, "waits")
        await the_run(scene.client, waiting, "queued")
        seq = await switch(scene, active=False)
        assert (await read(scene.client, "/processors/writer/runs", seq))["items"] == []
        await switch(scene, active=True)
        later = await make_blob(scene.client, "later")
        scene.writer.ready = True
        await the_run(scene.client, later, "completed")
        assert scene.writer.calls == [later["blob_id"]]


async def test_a_processor_that_is_off_by_default_waits_to_be_switched_on(tmp_path: Path) -> None:
    """Others than the default ones run for who has switched them on, from then on."""
    async with a_scene(tmp_path, Writer(active=False)) as scene:
        assert (await read(scene.client, INSTANCE, 1))["active"] is False
        await make_blob(scene.client, "before")
        await switch(scene, active=True)
        source = await make_blob(scene.client, "after")
        await the_run(scene.client, source, "completed")
        assert scene.writer.calls == [source["blob_id"]]


async def test_settings_reach_the_processor(scene: Scene) -> None:
    """A run is given the user's settings, what they leave out by default, and the secrets."""
    first = await make_blob(scene.client)
    await the_run(scene.client, first, "completed")
    settings = {"style": "rich", "api_key": KEY, "mail": {"host": "h", "pass": "p4ss"}}
    await switch(scene, active=True, settings=settings)
    second = await make_blob(scene.client)
    await the_run(scene.client, second, "completed")
    assert scene.writer.given == [{"style": "plain", "length": 2}, settings | {"length": 2}]


async def test_secrets_are_nowhere_to_be_read(scene: Scene) -> None:
    """A secret is in no answer, no event, no frame and no file; what is stored of it is sealed."""
    settings = {"api_key": KEY, "mail": {"pass": "p4ss-word"}}
    async with scene.studio.live(scene.token) as live:
        await live.subscribe()
        put = await scene.client.put(INSTANCE, json={"active": True, "settings": settings})
        assert put.json()["settings"] == {"mail": {}}
        assert put.json()["secrets"] == ["/api_key", "/mail/pass"]
        await live.until("processor.instance.changed")
        heard = repr(live.heard)
    seq = put.json()["seq"]
    answer = await scene.client.get(INSTANCE, headers={"Reyna-Min-Seq": str(seq)})
    assert answer.json() == put.json()
    assert answer.headers["etag"] == f'"{seq}"'
    events = repr(await events_of(scene.client))
    for text in (put.text, answer.text, events, heard):
        assert KEY not in text
        assert "p4ss" not in text
        assert "v1." not in text
    folder = scene.studio.nats.folder.parent
    stored = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"processor.writer.instance.changed" in stored
    assert KEY.encode() not in stored
    assert b"p4ss" not in stored


async def test_secrets_stay_until_they_are_taken_away(scene: Scene) -> None:
    """A secret that is not named stays, one that is named is replaced, null takes it away."""
    await switch(scene, active=True, settings={"api_key": KEY})
    await switch(scene, active=True, settings={"style": "rich"})
    await the_run(scene.client, await make_blob(scene.client), "completed")
    await switch(scene, active=True, settings={"api_key": "another"})
    await the_run(scene.client, await make_blob(scene.client), "completed")
    await switch(scene, active=True, settings={"api_key": None})
    await the_run(scene.client, await make_blob(scene.client), "completed")
    assert [given.get("api_key") for given in scene.writer.given] == [KEY, "another", None]
    assert (await read(scene.client, INSTANCE, 1))["secrets"] == []


async def test_an_update_runs_again_for_who_wants_it(scene: Scene) -> None:
    """With `rerun_on_update` changed data yield another variant beside the old one, which is stale;
    a changed title, or an instance that does not ask for it, yields none.
    """
    client = scene.client
    source = await make_blob(client)
    first = await the_run(client, source, "completed")
    blob = f"/blobs/{source['blob_id']}"
    await client.patch(blob, json={"data": {"content": "second"}})
    await switch(scene, active=True, rerun_on_update=True)
    await client.patch(blob, json={"title": "T"})
    changed = (await client.patch(blob, json={"data": {"content": "third"}})).json()
    last = await make_blob(client, "last")
    await the_run(client, last, "completed")

    page = await read(client, "/processors/writer/runs", last["seq"], blob_id=source["blob_id"])
    (again,) = [run for run in page["items"] if run["source_seq"] == changed["seq"]]
    assert len(page["items"]) == 2
    while again["status"] != "completed":
        again = await read(client, f"/runs/{again['run_id']}")
    variants = await derived_of(client, source["blob_id"])
    by_id = {one["blob_id"]: one for one in variants}
    assert set(by_id) == {first["derived_id"], again["derived_id"]}
    assert by_id[first["derived_id"]]["stale"] is True
    assert by_id[again["derived_id"]]["stale"] is False
    assert by_id[again["derived_id"]]["data"]["original"] == "third"


async def test_a_lost_master_key_is_said(tmp_path: Path) -> None:
    """Secrets sealed under another REYNA_SECRET_KEY fail the run with what to do; nothing hangs."""
    async with (
        running_studio(tmp_path) as running,
        running.client(running.user().token) as client,
    ):
        async with running.beside([Writer()]):
            asked = {"active": True, "settings": {"api_key": KEY}}
            assert (await client.put(INSTANCE, json=asked)).status_code == 200
        place = msgspec.structs.replace(running.place, secret="x" * 40)
        async with studio(running.settings, place, processors=[Writer()]):
            run = await the_run(client, await make_blob(client), "failed")
    assert "/settings/api_key" in run["error"]
    assert run["permanent"] is True


async def test_a_run_of_one_user_says_nothing_of_anothers_settings(scene: Scene) -> None:
    """Each user's runs are given that user's own settings."""
    both = asyncio.Event()

    async def together(source: Source, progress: Progress) -> Derived:
        if len(scene.writer.calls) == 2:
            both.set()
        await both.wait()
        return expanded(source)

    scene.writer.steps = [together]
    async with scene.studio.client(scene.studio.user().token) as other:
        await scene.client.put(INSTANCE, json={"active": True, "settings": {"api_key": "mine"}})
        await other.put(INSTANCE, json={"active": True, "settings": {"api_key": "theirs"}})
        mine, theirs = await make_blob(scene.client), await make_blob(other)
        await the_run(scene.client, mine, "completed")
        await the_run(other, theirs, "completed")
    given = dict(zip(scene.writer.calls, scene.writer.given, strict=True))
    assert given[mine["blob_id"]]["api_key"] == "mine"
    assert given[theirs["blob_id"]]["api_key"] == "theirs"
