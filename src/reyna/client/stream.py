"""The stream of events: over as many connections as it takes, in order, each event once.

It has no task of its own. Whoever iterates moves it: connecting, renewing the token and connecting
again happen while the next item is waited for. A reader who is too slow is disconnected by the
server, and goes on from where it was.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from reyna.client.errors import (
    CannotResume,
    StudioError,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from reyna.client.model import Event, Item, Live, Progress
from reyna.client.transport import Transport
from reyna.client.wire import Authenticate, Frame, Subscribe, Subscribed, Wire, read

logger = logging.getLogger(__name__)

# Seconds.
ANSWER_WITHIN = 20.0
FIRST_PATIENCE = 10.0
FIRST_WAIT = 0.2
LONGEST_WAIT = 15.0


class Stream:
    """Events of some buckets, or of all, as an async iterator; see `Client.stream`.

    `seq` is the position up to which everything was told, `epoch` the log it is a position of.
    `live`: the catch-up has ended, and the connection stands.
    """

    def __init__(
        self,
        transport: Transport,
        connected: set[Stream],
        buckets: tuple[str, ...],
        *,
        subtree: bool,
        after: int | None,
        epoch: str | None,
        patience: float,
    ) -> None:
        self.seq = after
        self.epoch = epoch
        self.live = False
        self._transport = transport
        self._session = transport.session
        # The streams of one client that are to be closed with it.
        self._connected = connected
        self._buckets = buckets
        self._subtree = subtree
        self._patience = patience
        self._generation = self._session.generation
        self._wire: Wire | None = None
        self._closed = False
        self._subscribed_before = False
        self._token: str | None = None
        self._refused: str | None = None
        self._renew_at = math.inf
        self._failures = 0
        self._give_up_at = math.inf

    async def __aenter__(self) -> Self:
        """Connect: what happens from now on will be told. Raises as `__anext__` does."""
        while self._wire is None and not self._closed:
            try:
                await self._connect()
            except StudioError as error:
                await self._recover(error)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Close."""
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event.

        Raises CannotResume, Refused when the server will not serve it any more, and Unreachable
        when there was no connection for too long. Each of them ends the stream.
        """
        while (item := await self._next()) is not None:
            if isinstance(item, Event):
                return item
        raise StopAsyncIteration

    async def items(self) -> AsyncIterator[Item]:
        """Events, progress of runs, and Live each time that the stream has caught up."""
        while (item := await self._next()) is not None:
            yield item

    async def aclose(self) -> None:
        """Close the connection; the iteration ends."""
        self._closed = True
        await self._drop()

    async def _next(self) -> Item | None:
        """The next item, None once the stream is closed. A cancellation loses none."""
        while not self._closed:
            try:
                wire = self._wire or await self._connect()
                frame, text = await self._hear(wire)
                item = self._item(frame, text)
            except StudioError as error:
                await self._recover(error)
            else:
                if item is not None:
                    return item
        return None

    async def _connect(self) -> Wire:
        self._token = token = await self._access(self._refused)
        wire = await Wire.open(self._transport.url, token)
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                answer = await self._subscribe(wire)
            if not answer.recovered:
                self._transport.forget()
                raise CannotResume(self.seq or 0, answer.epoch, answer.head)
        except TimeoutError as error:
            await wire.close()
            raise Unreachable("The socket does not answer.") from error
        except BaseException:
            await wire.close()
            raise
        if self.seq is None:
            self.seq = answer.head
        self.epoch = answer.epoch
        self._refused = None
        self._subscribed_before = True
        self._wire = wire
        self._connected.add(self)
        return wire

    async def _subscribe(self, wire: Wire) -> Subscribed:
        await wire.say(Subscribe(self._buckets, self._subtree, self.seq, self.epoch))
        while True:
            frame, text = await wire.hear()
            if frame.type == "subscribed":
                return read(text, Subscribed)

    async def _access(self, refused: str | None = None) -> str | None:
        """The token to use, renewed where that is due."""
        token = await self._session.access(refused)
        if self._session.generation != self._generation:
            raise StudioError("This stream was opened under another sign-in.")
        self._renew_at = self._session.renew_at
        return token

    async def _hear(self, wire: Wire) -> tuple[Frame, bytes]:
        """The next frame; meanwhile the token is renewed on the open socket before it expires."""
        loop = asyncio.get_running_loop()
        while True:
            if loop.time() >= self._renew_at:
                token = await self._access()
                if token is not None and token != self._token:
                    await wire.say(Authenticate(token))
                    self._token = token
            until = None if math.isinf(self._renew_at) else self._renew_at
            try:
                async with asyncio.timeout_at(until):
                    return await wire.hear()
            except TimeoutError:
                continue

    def _item(self, frame: Frame, text: bytes) -> Item | None:
        """What a frame tells; None for what was told before, and for answers."""
        match frame.type:
            case "processor.progress":
                return read(text, Progress)
            case "live":
                live = read(text, Live)
                self.seq = max(self.seq or 0, live.seq)
                self.live = True
                self._failures = 0
                return live
            case "subscribed" | "ack" | "pong":
                return None
        if frame.seq is None or frame.seq <= (self.seq or 0):
            return None
        event = read(text, Event)
        self.seq = event.seq
        self._failures = 0
        return event

    async def _recover(self, error: StudioError) -> None:
        """Wait a while before the next connection, if one may help; else raise the error."""
        await self._drop()
        if self._closed:
            return
        now = asyncio.get_running_loop().time()
        if self._failures == 0:
            patience = self._patience
            if not self._subscribed_before:
                # Whoever has just asked wants to hear soon that the address is wrong.
                patience = min(patience, FIRST_PATIENCE)
            self._give_up_at = now + patience
        self._failures += 1
        wait = random.uniform(0.0, min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self._failures, 10)))
        if not self._may_help(error) or now + wait > self._give_up_at:
            self._closed = True
            raise error
        logger.info("the stream of events broke, to be resumed in %.1f s: %s", wait, error)
        await asyncio.sleep(wait)

    def _may_help(self, error: StudioError) -> bool:
        """Whether another connection may do what this one did not."""
        if isinstance(error, Unauthorized):
            # A token is renewed once; a new one that is refused as well ends the stream.
            renewable = self._session.refresh_token is not None and self._refused is None
            self._refused = self._token
            return renewable
        return isinstance(error, Unreachable | Unavailable | TooManyRequests)

    async def _drop(self) -> None:
        self.live = False
        self._connected.discard(self)
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()
