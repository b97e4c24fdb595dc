"""What tests share: a running studio in the test's own loop, on real servers, and its clients."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import httpx
import msgspec
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

from reyna import content, testing
from reyna.app import Place, studio
from reyna.client import Client, Retry
from reyna.content import Processor, Projection
from reyna.identity.tokens import Tokens
from reyna.ids import new_id
from reyna.log import embedded
from reyna.settings import Settings
from reyna.testing import studios

SECRET = studios.SECRET
# Seconds; far more than anything here takes, so that only what never happens runs into it.
DEADLINE = 30.0

Json: TypeAlias = dict[str, Any]
_WORDS = ("type", "title", "detail")


class Live:
    """A client on the live socket. `heard` is every frame it has had, in order."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.heard: list[Json] = []

    async def say(self, action: str, **fields: object) -> None:
        """Send a frame."""
        await self.connection.send(msgspec.json.encode({"action": action, **fields}).decode())

    async def hear(self) -> Json:
        """The next frame."""
        async with asyncio.timeout(DEADLINE):
            frame: Json = msgspec.json.decode(await self.connection.recv())
        self.heard.append(frame)
        return frame

    async def until(self, *types: str, **fields: object) -> Json:
        """The next frame of one of the types with these fields; what comes before it is kept."""
        while True:
            frame = await self.hear()
            if frame["type"] in types and all(frame.get(k) == v for k, v in fields.items()):
                return frame

    async def ask(self, action: str, **fields: object) -> Json:
        """Send a frame and wait for its answer, told by its `ref`."""
        ref = uuid4().hex
        await self.say(action, ref=ref, **fields)
        return await self.until("ack", "error", "pong", "subscribed", ref=ref)

    async def subscribe(self, buckets: object = "*", **fields: object) -> Json:
        """Subscribe, and wait until the catch-up has ended; gives the answer `subscribed`."""
        answer = await self.ask("subscribe", buckets=buckets, **fields)
        assert answer["type"] == "subscribed", answer
        await self.until("live", ref=answer["ref"])
        return answer

    async def closed(self) -> int:
        """Wait until the server closes; gives the code."""
        async with asyncio.timeout(DEADLINE):
            try:
                while True:
                    self.heard.append(msgspec.json.decode(await self.connection.recv()))
            except websockets.ConnectionClosed as closing:
                return closing.rcvd.code if closing.rcvd else 1006

    @property
    def events(self) -> list[Json]:
        """The events among what was heard."""
        return [frame for frame in self.heard if "seq" in frame and "data" in frame]


class User(msgspec.Struct, frozen=True):
    """A registered user."""

    user_id: str
    token: str


class Door(msgspec.Struct, frozen=True):
    """Where a studio listens, and its clients."""

    url: str

    def client(self, token: str | None = None) -> httpx.AsyncClient:
        """A bare HTTP client, with a token or without."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.AsyncClient(base_url=f"{self.url}/api/v1", headers=headers, timeout=30)

    def connect(self, token: str | None = None, retry: Retry | None = None) -> Client:
        """A client as others write theirs, with a token or without."""
        return Client(self.url, token=token, retry=retry)

    @asynccontextmanager
    async def live(
        self,
        token: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        subprotocols: Sequence[str] = (),
        **options: Any,
    ) -> AsyncIterator[Live]:
        """A client on the live socket; a token goes into the Authorization header."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        async with websockets.connect(
            f"{self.url.replace('http', 'ws', 1)}/api/v1/ws",
            additional_headers=sent,
            subprotocols=[Subprotocol(one) for one in subprotocols] or None,
            max_size=None,
            proxy=None,
            **options,
        ) as connection:
            yield Live(connection)

    async def register(self) -> User:
        """A new user with an account."""
        async with self.connect() as client:
            tokens = await client.register(
                email=f"{uuid4().hex}@example.com", password="correct horse"
            )
        return User(tokens.user_id, tokens.access_token)


class Studio(Door, frozen=True):
    """A studio in this process."""

    settings: Settings
    place: Place
    nats: embedded.Server

    @asynccontextmanager
    async def beside(self, processors: Sequence[Processor] = ()) -> AsyncIterator[Studio]:
        """A second studio on the same servers, as another process would be."""
        async with (
            studio(self.settings, self.place, processors=processors) as app,
            studios.serving(app, self.settings) as url,
        ):
            yield Studio(url, self.settings, self.place, self.nats)

    def kill_nats(self) -> None:
        """Kill the nats-server, as a crash would; the studio starts it again."""
        self.signal_nats(signal.SIGKILL)

    def signal_nats(self, number: signal.Signals) -> None:
        """Send the nats-server a signal."""
        address = embedded.read_address(self.nats.folder)
        assert address is not None, "the nats-server runs"
        os.kill(address.pid, number)

    def user(self, *roles: str) -> User:
        """A new user with a token but no account: hashing passwords takes its time."""
        user_id = new_id()
        token = Tokens(self.place.secret).issue(user_id, new_id(), roles or ("user",)).token
        return User(user_id, token)


@asynccontextmanager
async def running_studio(
    folder: Path,
    settings: Settings | None = None,
    processors: Sequence[Processor] = (),
    projections: Sequence[Projection] | None = None,
    database_url: str | None = None,
) -> AsyncIterator[Studio]:
    """A whole studio on `folder`: nats-server, SQLite or the one database given, every loop.
    Projections: all installed.
    """
    async with testing.running_studio(
        folder,
        projections=projections,
        processors=processors,
        settings=settings,
        database_url=database_url,
    ) as running:
        yield Studio(running.url, running.settings, running.place, running.nats)


def projections() -> list[content.Projection]:
    """The installed projections."""
    return content.projections()


async def eventually(holds: Callable[[], Awaitable[bool]], within: float = DEADLINE) -> None:
    """Return once `holds` does; TimeoutError after `within` seconds."""
    async with asyncio.timeout(within):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.02)


def problem(answer: httpx.Response, status: int, *paths: str) -> Json:
    """The problem in an answer, which must be one of `status`, naming exactly `paths` if any."""
    assert answer.status_code == status, f"{answer.status_code}: {answer.text[:500]}"
    assert answer.headers["content-type"].startswith("application/problem+json")
    body: Json = answer.json()
    assert body["status"] == status
    assert all(
        isinstance(body[field], str) and body[field] for field in ("type", "title", "detail")
    )
    assert "Traceback" not in answer.text
    assert 'File "' not in answer.text
    for error in body.get("errors", []):
        assert set(error) == {"path", "keyword", "message"}
    if paths:
        assert sorted({error["path"] for error in body["errors"]}) == sorted(paths)
    return body


async def make_blob(client: httpx.AsyncClient, content: str = "rough", **fields: object) -> Json:
    """A new text-input-v1 blob; gives the answer's body."""
    asked = {"schema_id": "text-input-v1", "data": {"content": content}, **fields}
    answer = await client.post("/blobs", json=asked)
    assert answer.status_code == 201, answer.text
    body: Json = answer.json()
    return body


async def make_bucket(
    client: httpx.AsyncClient, name: str = "Notes", parent: str | None = None, **fields: object
) -> Json:
    """A new bucket; gives the answer's body."""
    asked = {"name": name, "type": "folder", "parent_bucket_id": parent, **fields}
    answer = await client.post("/buckets", json=asked)
    assert answer.status_code == 201, answer.text
    body: Json = answer.json()
    return body


async def read(client: httpx.AsyncClient, path: str, seq: int = 0, /, **params: object) -> Json:
    """A query's body, read once its view has reached `seq`."""
    asked = {name: str(value) for name, value in params.items()}
    answer = await client.get(path, params=asked, headers={"Reyna-Min-Seq": str(seq)})
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


async def events_of(client: httpx.AsyncClient, **params: object) -> list[Json]:
    """All of the caller's events, in order, page by page."""
    found: list[Json] = []
    cursor: dict[str, object] = {}
    while True:
        page = await read(client, "/events", 0, **params, **cursor)
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}
