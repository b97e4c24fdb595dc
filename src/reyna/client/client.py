"""The client itself: its resources, its sign-in, its streams, its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Self, TypeVar

from reyna.client.account import Account
from reyna.client.blobs import Blobs
from reyna.client.buckets import Buckets
from reyna.client.model import Event, Page, Tokens
from reyna.client.pages import walk
from reyna.client.processors import Processors, Runs
from reyna.client.schemas import Schemas
from reyna.client.stream import Stream
from reyna.client.transport import Retry, Transport

T = TypeVar("T")


class Client:
    """One user of the studio at `url`, for example `http://127.0.0.1:8000`.

    `token` is an access token; with a `refresh_token` it is renewed by itself, as after `login`.
    `timeout` (seconds) is for each try of a request, `retry` for how often and how patiently.
    Unless `read_your_writes` is false, a query waits for this client's own last command.

    All methods raise the exceptions of `reyna.client.errors`. May be used by many tasks at once.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        refresh_token: str | None = None,
        read_your_writes: bool = True,
        timeout: float = 30.0,
        retry: Retry | None = None,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is not the address of a studio, such as http://host:8000.")
        self._transport = Transport(
            url,
            token=token,
            refresh_token=refresh_token,
            read_your_writes=read_your_writes,
            timeout=timeout,
            retry=retry or Retry(),
        )
        self._connected: set[Stream] = set()
        self.account = Account(self._transport)
        self.blobs = Blobs(self._transport)
        self.buckets = Buckets(self._transport)
        self.schemas = Schemas(self._transport)
        self.processors = Processors(self._transport)
        self.runs = Runs(self._transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Close."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections, also those of streams that are still open."""
        try:
            await asyncio.gather(*(stream.aclose() for stream in tuple(self._connected)))
        finally:
            await self._transport.close()

    @property
    def last_seq(self) -> int:
        """The seq of this client's own last command, 0 before the first."""
        return self._transport.last_seq

    @property
    def refresh_token(self) -> str | None:
        """The refresh token now in force. Another client may go on with it, this one no more."""
        return self._transport.session.refresh_token

    async def register(
        self,
        *,
        email: str | None = None,
        phone: str | None = None,
        password: str,
        name: str | None = None,
    ) -> Tokens:
        """As `account.register`."""
        return await self.account.register(email=email, phone=phone, password=password, name=name)

    async def login(
        self, *, email: str | None = None, phone: str | None = None, password: str
    ) -> Tokens:
        """As `account.login`."""
        return await self.account.login(email=email, phone=phone, password=password)

    async def query(
        self, path: str, into: type[T], *, min_seq: int | None = None, **parameters: object
    ) -> T:
        """What a GET route answers that this client has no method for, a plugin's for example.
        `path` is below `/api/v1`.
        """
        asked = {name: str(value) for name, value in parameters.items()}
        return await self._transport.get(path, into, asked, min_seq)

    def events(
        self,
        *,
        after: int | None = None,
        bucket_id: str | None = None,
        blob_id: str | None = None,
        types: Iterable[str] = (),
        min_seq: int | None = None,
    ) -> AsyncIterator[Event]:
        """The caller's events in order, from the log as it is now. `types` such as blob.created."""
        query = {
            "after": after,
            "bucket_id": bucket_id,
            "blob_id": blob_id,
            "types": ",".join(types) or None,
        }
        return walk(self._transport, "/events", Page[Event], query, min_seq)

    def stream(
        self,
        buckets: str | Iterable[str] = "*",
        *,
        subtree: bool = False,
        after: int | None = None,
        epoch: str | None = None,
        patience: float = 300.0,
    ) -> Stream:
        """The caller's events as they happen: of a bucket, of several, or of all (`*`).

        With `after` (a seq) first those since then; `epoch` says of which log the seq is. Broken
        connections are made again, for `patience` seconds each time, `math.inf` for ever.

            async with studio.stream("*", after=seq, epoch=epoch) as events:
                async for event in events:
                    ...
        """
        return Stream(
            self._transport,
            self._connected,
            (buckets,) if isinstance(buckets, str) else tuple(buckets),
            subtree=subtree,
            after=after,
            epoch=epoch,
            patience=patience,
        )
