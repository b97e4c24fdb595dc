"""A running studio for tests: a real nats-server, real databases, every loop, on a free port, in
the test's own event loop. Owns how it is put together; who calls it is `reyna.client`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import uvicorn
from litestar import Litestar

from reyna.app import ENVELOPE_BYTES, Place, studio
from reyna.client import Blob, Client
from reyna.commands.schemas import Shipped
from reyna.content import Processor, Projection
from reyna.database import sqlite_url
from reyna.ids import new_id
from reyna.log import embedded
from reyna.settings import Settings

SECRET = "a secret for tests, long enough to sign with"  # noqa: S105 - it guards nothing
PASSWORD = "correct horse"  # noqa: S105 - likewise
# Seconds; far more than anything in a test takes, so that only what never happens runs into it.
PATIENCE = 30.0


class Studio(msgspec.Struct, frozen=True):
    """A studio in this process. `url` is where it listens."""

    url: str
    settings: Settings
    place: Place
    nats: embedded.Server

    @asynccontextmanager
    async def signed_in(self) -> AsyncIterator[Client]:
        """The client of a new user with an account."""
        async with Client(self.url) as client:
            await client.register(email=f"{new_id()}@example.com", password=PASSWORD)
            yield client


@asynccontextmanager
async def running_studio(
    folder: Path,
    *,
    projections: Sequence[Projection] | None = None,
    processors: Sequence[Processor] | None = None,
    schemas: Sequence[Shipped] | None = None,
    settings: Settings | None = None,
    database_url: str | None = None,
) -> AsyncIterator[Studio]:
    """A whole studio that keeps everything in `folder`. What is not given is everything installed;
    with `database_url` accounts and views are there.

    An unexpected end of one of its loops ends the block.
    """
    settings = settings or Settings(sync="interval")
    async with embedded.running(folder / "nats", settings.sync) as nats:
        place = Place(
            nats_url=nats.url,
            nats_token=nats.token,
            accounts_url=database_url or sqlite_url(folder / "accounts.db"),
            views_url=database_url or sqlite_url(folder / "views.db"),
            secret=SECRET,
        )
        async with (
            studio(
                settings, place, projections=projections, processors=processors, schemas=schemas
            ) as app,
            serving(app, settings) as url,
        ):
            yield Studio(url, settings, place, nats)


async def derived_from(
    client: Client, blob_id: str, processor_id: str, within: float = PATIENCE
) -> Blob:
    """The first blob that a processor has made of another, waited for.

    Raises AssertionError with the reason when the run has failed, TimeoutError after `within`
    seconds.
    """
    seq: int | None = None
    async with asyncio.timeout(within), client.stream() as events:
        while True:
            async for blob in client.blobs.list(parent_id=blob_id, min_seq=seq):
                if blob.processor_id == processor_id:
                    return blob
            failed = client.processors.runs(processor_id, status="failed", blob_id=blob_id)
            async for run in failed:
                raise AssertionError(f"The run of {processor_id} failed: {run.error}")
            seq = (await anext(events)).seq


class _Server(uvicorn.Server):
    """A server that leaves signals to the test runner."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@asynccontextmanager
async def serving(app: Litestar, settings: Settings) -> AsyncIterator[str]:
    """The application behind a server set up as `reyna up` does; gives its URL."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="websockets-sansio",
        ws_max_size=settings.max_blob_bytes + ENVELOPE_BYTES,
        ws_per_message_deflate=False,
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    # The protocol is named as `reyna up` does: without it asyncio leaves Nagle's delay on.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.setblocking(False)
        task = asyncio.create_task(server.serve([listening]))
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
