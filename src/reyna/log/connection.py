"""The connection to NATS. Owns connecting, reconnecting for ever, and saying whether it is there.

A lost server is waited for with backoff; nothing is published blindly into a broken connection, so
a write that was answered with 503 before it was sent never appears later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Self

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from reyna.errors import LogUnavailable, SetupError

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 5
RECONNECT_WAIT = 0.25
NO_RESPONDERS = "503"
PING_INTERVAL = 10
# How long a caller waits for a reconnection before it hears 503.
RECONNECT_PATIENCE = 2.0

Handler = Callable[[Msg], Awaitable[None]]


class _Client(Client):
    """nats-py's client with a quicker reading of headers: theirs was half of the cost of a message.

    Should a later nats-py not ask this method any more, only the speed is lost.
    """

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        headers: dict[str, str] = {}
        for line in raw.decode("utf-8", "replace").split("\r\n"):
            name, colon, value = line.partition(":")
            if colon:
                headers[name.strip()] = value.strip()
        return headers


class Connection:
    """One NATS connection, kept for the life of the process.

    `generation` grows at every reconnection; whoever holds server-side state (a consumer) compares
    it.
    """

    def __init__(self) -> None:
        self.client = _Client()
        self.generation = 0
        self._connected = asyncio.Event()
        self._answers = self.client.new_inbox()
        self._waiting: dict[str, asyncio.Future[Msg]] = {}
        self._asked = 0
        self._to_wake: set[asyncio.Event] = set()
        self._closing = False
        self._trouble = "it takes too long"

    @classmethod
    async def open(cls, url: str, token: str | None = None) -> Self:
        """Connect to `url`. Raises SetupError when nobody lets us in within CONNECT_TIMEOUT."""
        self = cls()
        try:
            # A client that reconnects for ever would wait for ever for its first connection, too.
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._connect(url, token)
        except TimeoutError as error:
            await self.close()
            raise _refused(url, self._trouble) from error
        except (NatsError, OSError) as error:
            raise _refused(url, str(error)) from error
        self._connected.set()
        return self

    async def _connect(self, url: str, token: str | None) -> None:
        await self.client.connect(
            servers=[server.strip() for server in url.split(",")],
            token=token,
            name="reyna",
            connect_timeout=CONNECT_TIMEOUT,
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_WAIT,  # type: ignore[arg-type]  # seconds, it is slept
            ping_interval=PING_INTERVAL,
            max_outstanding_pings=2,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
        )
        await self.client.subscribe(f"{self._answers}.*", cb=self._on_answer)

    async def close(self) -> None:
        """Close the connection; what waits on it is cancelled by its owner."""
        self._closing = True
        try:
            await self.client.close()
        except OSError as error:
            logger.debug("nats: what was left unsent is lost: %s", error)

    @property
    def up(self) -> bool:
        """Whether the server is there now."""
        return self.client.is_connected and self._connected.is_set()

    async def ready(self, patience: float = RECONNECT_PATIENCE) -> None:
        """Return once connected. Raises LogUnavailable after `patience` seconds."""
        if self.up:
            return
        if not self.client.is_connected:
            # The client knows a moment before it tells us; what it is given then, it would keep
            # and send when it is back.
            self._connected.clear()
        try:
            async with asyncio.timeout(patience):
                await self._connected.wait()
        except TimeoutError as error:
            raise LogUnavailable(
                "The log cannot be reached; it is being reconnected to."
            ) from error

    async def request(
        self, subject: str, payload: bytes, headers: dict[str, str] | None = None, *, timeout: float
    ) -> Msg:
        """Send and wait for the answer.

        Raises LogUnavailable when none comes in `timeout` seconds, or when the connection is lost
        while it is waited for: the outcome is then unknown.
        """
        await self.ready()
        self._asked += 1
        key = str(self._asked)
        waiting: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._waiting[key] = waiting
        try:
            await self.publish(subject, payload, headers, reply=f"{self._answers}.{key}")
            async with asyncio.timeout(timeout):
                return await waiting
        except TimeoutError as error:
            raise LogUnavailable("The log did not answer in time.") from error
        finally:
            del self._waiting[key]

    async def publish(
        self, subject: str, payload: bytes, headers: dict[str, str] | None = None, reply: str = ""
    ) -> None:
        """Send without waiting for an answer. Raises LogUnavailable when it cannot be sent."""
        try:
            await self.client.publish(subject, payload, reply=reply, headers=headers)
        except (NatsError, OSError) as error:
            raise LogUnavailable(f"The log cannot be reached: {error}") from error

    async def subscribe(self, subject: str, handler: Handler) -> Subscription:
        """Call `handler` with each message on a core subject, also after a reconnection."""
        try:
            return await self.client.subscribe(subject, cb=handler)
        except (NatsError, OSError) as error:
            raise LogUnavailable(f"The log cannot be reached: {error}") from error

    @contextmanager
    def waking(self, sleeper: asyncio.Event) -> Iterator[None]:
        """Set `sleeper` at every reconnection for as long as the block lasts."""
        self._to_wake.add(sleeper)
        try:
            yield
        finally:
            self._to_wake.discard(sleeper)

    def inbox(self) -> str:
        """A fresh subject that answers can be sent to."""
        return self.client.new_inbox()

    async def _on_answer(self, message: Msg) -> None:
        waiting = self._waiting.get(message.subject.rpartition(".")[2])
        if waiting is None or waiting.done():
            return
        if not message.data and message.headers and message.headers.get("Status") == NO_RESPONDERS:
            waiting.set_exception(
                LogUnavailable("NATS is there but JetStream does not answer yet.")
            )
        else:
            waiting.set_result(message)

    async def _on_error(self, error: Exception) -> None:
        self._trouble = str(error) or type(error).__name__
        # While there is no connection, that has been said, or will be by `open`.
        logger.log(logging.WARNING if self.up else logging.DEBUG, "nats: %s", self._trouble)

    async def _on_disconnected(self) -> None:
        self._connected.clear()
        if not self._closing:
            logger.warning("nats: connection lost, reconnecting")
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(LogUnavailable("The connection to the log was lost."))

    async def _on_reconnected(self) -> None:
        self.generation += 1
        self._connected.set()
        for sleeper in self._to_wake:
            sleeper.set()
        logger.info("nats: connected again")


def _refused(url: str, reason: str) -> SetupError:
    return SetupError(
        f"No NATS server answers at {_public(url)} ({reason}); start it, or mend REYNA_NATS_URL "
        "and REYNA_NATS_TOKEN."
    )


def _public(url: str) -> str:
    """The URL without what may be a secret before the @."""
    return ",".join(part.rsplit("@", 1)[-1] for part in url.split(","))
