"""What tests share: a running studio in the test's own loop, with real servers, and a client for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import msgspec
import uvicorn
from litestar import Litestar

from reyna import content
from reyna.app import ENVELOPE_BYTES, Place, studio
from reyna.content import Processor, Projection
from reyna.database import sqlite_url
from reyna.log import embedded
from reyna.settings import Settings

SECRET = "a secret for tests, long enough to sign with"


class Studio(msgspec.Struct, frozen=True):
    """A studio that listens on `url`."""

    url: str
    settings: Settings
    place: Place
    nats: embedded.Server

    def client(self, token: str | None = None) -> httpx.AsyncClient:
        """An HTTP client, with a token or without."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.AsyncClient(base_url=f"{self.url}/api/v1", headers=headers, timeout=30)

    async def register(self) -> User:
        """A new user."""
        async with self.client() as client:
            answer = await client.post(
                "/auth/register",
                json={"email": f"{uuid4().hex}@example.com", "password": "correct horse"},
            )
        answer.raise_for_status()
        body = answer.json()
        return User(body["user_id"], body["access_token"])


class User(msgspec.Struct, frozen=True):
    """A registered user."""

    user_id: str
    token: str


@asynccontextmanager
async def serving(app: Litestar, settings: Settings) -> AsyncIterator[str]:
    """The application behind a real server on a free port, set up as `reyna up` does; gives its URL."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="websockets-sansio",
        ws_max_size=settings.max_blob_bytes + ENVELOPE_BYTES,
        ws_per_message_deflate=False,
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.setblocking(False)
        serving_ = asyncio.create_task(server._serve([listening]))
        while not server.started:
            if serving_.done():
                serving_.result()
            await asyncio.sleep(0)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving_


@asynccontextmanager
async def running_studio(
    folder: Path,
    settings: Settings | None = None,
    processors: Sequence[Processor] = (),
    projections: Sequence[Projection] | None = None,
) -> AsyncIterator[Studio]:
    """A whole studio on `folder`: nats-server, SQLite, every loop. Projections: all installed."""
    settings = settings or Settings(sync="interval")
    async with embedded.running(folder / "nats", settings.sync) as nats:
        place = Place(
            nats_url=nats.url,
            nats_token=nats.token,
            accounts_url=sqlite_url(folder / "accounts.db"),
            views_url=sqlite_url(folder / "views.db"),
            secret=SECRET,
        )
        async with (
            studio(settings, place, projections=projections, processors=processors) as app,
            serving(app, settings) as url,
        ):
            yield Studio(url, settings, place, nats)


def projections() -> list[content.Projection]:
    """The installed projections."""
    return content.projections()
