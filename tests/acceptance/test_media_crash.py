"""kill -9 of the whole program in the middle of an upload: the sweep finds what it left."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from reyna.log import embedded
from reyna.log.connection import Connection
from reyna.log.media import MediaStore
from reyna.log.objects import CHUNK
from reyna.log.stream import Log
from reyna.runtime.media_sweep import MediaSweep, Swept
from tests import program
from tests.files import Held, file_part, form, held, sending, upload
from tests.support import events_of, eventually


async def test_what_a_killed_upload_left_is_swept(tmp_path: Path) -> None:
    """After the crash the chunks are there without an object, and go; a finished file stays."""
    folder = tmp_path / "data"
    kept = os.urandom(CHUNK * 3)
    whole = form(file_part(os.urandom(CHUNK * 20), "a", "application/octet-stream"))
    async with program.up(folder) as running:
        token = (await running.door.register()).token
        async with running.door.client(token) as client:
            blob_id = (await upload(client, kept, "b", "application/octet-stream"))["blob_id"]
        address = embedded.read_address(folder / "nats")
        assert address is not None
        beside = await Connection.open(address.url, address.token)
        store = MediaStore(beside)

        async def arriving() -> bool:
            return len((await held(store)).chunk_sets) == 2

        async with sending(running.door, token, len(whole)) as (_, writer):
            writer.write(whole[: len(whole) // 2])
            await eventually(arriving)
            await running.kill()
        await beside.close()
    async with embedded.running(folder / "nats", "always") as server:
        connection = await Connection.open(server.url, server.token)
        log, store = await Log.open(connection), await MediaStore.open(connection)
        before = await held(store)
        assert (len(before.objects), len(before.chunk_sets)) == (1, 2)
        sweep = MediaSweep(log, store)
        assert await sweep.sweep() == Swept(0, 0)
        assert await sweep.sweep(timedelta(0)) == Swept(0, 1)
        after = await held(store)
        assert after == Held(before.objects, after.chunk_sets)
        assert len(after.chunk_sets) == 1
        await connection.close()
    async with program.up(folder) as running, running.door.client(token) as client:
        assert (await client.get(f"/blobs/{blob_id}/media")).content == kept
        assert len(await events_of(client)) == 1
