"""kill -9 of a compiler between a book's files and its blobs, and cancelling one at work."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from processors.book_compiler import BookCompiler
from reyna.content import Derived, Progress, Source
from reyna.log import queue
from reyna.log.connection import Connection
from reyna.log.media import MediaStore
from reyna.log.stream import Log
from reyna.runtime.media_sweep import MediaSweep
from tests.books import RUNS
from tests.compiler_process import ACK_WAIT, compiling
from tests.files import held
from tests.support import DEADLINE, events_of, make_blob, make_bucket, running_studio
from tests.writing import run_at


@pytest.mark.parametrize("changed", [False, True])
async def test_killed_between_the_files_and_their_blobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    """The next worker finishes the run: one manuscript with its files, and after the sweep no other
    file is stored, also if the book was changed between the two.
    """
    monkeypatch.setattr(queue, "ACK_WAIT", ACK_WAIT)
    async with running_studio(tmp_path) as at:
        connection = await Connection.open(at.nats.url, at.nats.token)
        log, store = await Log.open(connection), MediaStore(connection)
        async with at.client(at.user().token) as client:
            async with compiling(at) as worker:
                top = (await make_bucket(client))["bucket_id"]
                source = await make_blob(client, "One", bucket_ids=[top])
                run_id = (await client.post(RUNS, json={"bucket_id": top})).json()["run_id"]
                async with asyncio.timeout(DEADLINE):
                    assert await worker.wait() == -signal.SIGKILL
            assert len((await held(store)).objects) == 3
            assert await events_of(client, types="blob.derived") == []
            if changed:
                path = f"/blobs/{source['blob_id']}"
                await client.patch(path, json={"data": {"content": "Two"}})
            async with at.beside([BookCompiler()]):
                run = await run_at(client, run_id, "completed")
            derived = await events_of(client, types="blob.derived")
            assert [one["blob_id"] for one in derived if one["schema_id"] == "manuscript-v1"] == [
                run["derived_id"]
            ]
            stored = {one["sha256"] for one in derived[0]["data"]["data"]["files"]}
            assert len(stored) == len(derived) - 1 == 3
            await MediaSweep(log, store).sweep(timedelta(0))
            left = {name.rpartition("/")[2] for name in (await held(store)).objects}
            assert left == stored
        await connection.close()


async def test_a_cancelled_run_stops_compiling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A book whose run is cancelled while it is printed does not appear, nor do its files."""
    printing, ended = asyncio.Event(), asyncio.Event()
    run = BookCompiler.run

    async def noting(self: BookCompiler, source: Source, progress: Progress) -> Derived:
        async def reached(text: str) -> None:
            printing.set()
            await asyncio.Event().wait()

        try:
            return await run(self, source, reached)
        finally:
            ended.set()

    monkeypatch.setattr(BookCompiler, "run", noting)
    async with (
        running_studio(tmp_path, processors=[BookCompiler()]) as at,
        at.client(at.user().token) as client,
    ):
        top = (await make_bucket(client))["bucket_id"]
        await make_blob(client, "One", bucket_ids=[top])
        run_id = (await client.post(RUNS, json={"bucket_id": top})).json()["run_id"]
        async with asyncio.timeout(DEADLINE):
            await printing.wait()
            assert (await client.post(f"/runs/{run_id}/cancel")).status_code == 202
            await ended.wait()
        await run_at(client, run_id, "cancelled")
        assert await events_of(client, types="blob.derived") == []
