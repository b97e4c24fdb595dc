"""Following the stream from a seq, in order, without a gap. Owns one reader's position and its
patience.

Pull requests are sent only while the reader keeps up, so a slow reader holds at most two requests'
worth of messages. A restarted server, a lost consumer or a missed message is mended by starting
again after the last message handed out.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import api
from nats.js.errors import APIError

from reyna.errors import LogUnavailable
from reyna.ids import new_id
from reyna.log.connection import NO_RESPONDERS, Connection
from reyna.log.record import Stored
from reyna.log.stream import MAX_MESSAGE, STREAM

logger = logging.getLogger(__name__)

PULL = 1000
# More than any message, or one could never be delivered.
PULL_BYTES = 2 * MAX_MESSAGE
EXPIRES = 30.0
HEARTBEAT = 5.0
# Two missed heartbeats and a bit: then the consumer is taken for lost.
SILENCE = 2 * HEARTBEAT + 2.0
INACTIVE = 60.0
_NANO = 1_000_000_000
_STATUS_HEARTBEAT = "100"
_ACK_TOKENS = 9


class Batch(msgspec.Struct, frozen=True):
    """What has arrived since the last batch; `pending` is how many more the server holds now."""

    messages: list[Stored]
    pending: int


class _Lost(Exception):
    """The consumer is gone or has skipped; a new one is needed."""


class Follower:
    """An endless async iterator of batches, after a seq, of the subjects that match."""

    def __init__(
        self,
        connection: Connection,
        filters: Sequence[str],
        after: int,
        *,
        last_per_subject: bool = False,
        headers_only: bool = False,
    ) -> None:
        self._connection = connection
        self._filters = list(filters)
        self._last_per_subject = last_per_subject
        self._headers_only = headers_only
        self.position = after
        self._arrived: deque[tuple[int, Stored, int]] = deque()
        self._wake = asyncio.Event()
        self._consumer: str | None = None
        self._delivered = 0
        self._requested = 0
        self._inbox = ""
        self._gone: str | None = None

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """Batches for ever; waits through a lost server. The first may have no messages."""
        backoff = 0.1
        while True:
            try:
                async with self._consuming() as pending:
                    backoff = 0.1
                    if not pending:
                        yield Batch([], 0)
                    async for batch in self._read():
                        yield batch
            except _Lost as lost:
                logger.info("following again after %d: %s", self.position, lost)
            except LogUnavailable as error:
                logger.info("the log is away, following again after %d: %s", self.position, error)
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, 5.0)

    async def _read(self) -> AsyncIterator[Batch]:
        generation = self._connection.generation
        while True:
            await self._pull()
            if not self._arrived:
                self._wake.clear()
                try:
                    async with asyncio.timeout(SILENCE):
                        await self._wake.wait()
                except TimeoutError:
                    raise _Lost("no heartbeat") from None
            if generation != self._connection.generation:
                raise _Lost("reconnected")
            if self._gone:
                raise _Lost(self._gone)
            batch = self._take()
            if batch is not None:
                yield batch

    def _take(self) -> Batch | None:
        messages: list[Stored] = []
        pending: int | None = None
        while self._arrived:
            delivered, stored, left = self._arrived[0]
            if delivered != self._delivered + 1:
                if messages:
                    # Hand out what came before the gap; the next call finds it again.
                    break
                raise _Lost("a message was missed")
            self._arrived.popleft()
            self._delivered, pending = delivered, left
            # `last_per_subject` begins anew with a new consumer; what is known of it is left out.
            if stored.seq > self.position:
                self.position = stored.seq
                messages.append(stored)
        return Batch(messages, pending or 0) if messages or pending == 0 else None

    @asynccontextmanager
    async def _consuming(self) -> AsyncIterator[int]:
        """A consumer of our own on the server, and its inbox; gives how many messages await."""
        await self._connection.ready()
        manager = self._connection.client.jetstream()
        name = new_id()
        self._inbox = self._connection.inbox()
        self._arrived.clear()
        self._requested = self._delivered = 0
        self._gone = None
        subscription = await self._connection.subscribe(f"{self._inbox}.*", self._on_message)
        try:
            try:
                info = await manager.add_consumer(STREAM, self._configuration(name))
            except (APIError, NatsError, TimeoutError, OSError) as error:
                raise LogUnavailable(f"The log cannot be followed: {error}") from error
            self._consumer = name
            with self._connection.waking(self._wake):
                yield info.num_pending or 0
        finally:
            self._consumer = None
            try:
                await subscription.unsubscribe()
                if self._connection.up:
                    await manager.delete_consumer(STREAM, name)
            except (APIError, NatsError, TimeoutError, OSError) as error:
                # The server forgets an idle consumer by itself after INACTIVE seconds.
                logger.debug("consumer %s not deleted: %s", name, error)

    def _configuration(self, name: str) -> api.ConsumerConfig:
        policy = (
            api.DeliverPolicy.LAST_PER_SUBJECT
            if self._last_per_subject
            else api.DeliverPolicy.BY_START_SEQUENCE
        )
        return api.ConsumerConfig(
            name=name,
            deliver_policy=policy,
            opt_start_seq=None if self._last_per_subject else self.position + 1,
            ack_policy=api.AckPolicy.NONE,
            filter_subjects=self._filters,
            headers_only=self._headers_only or None,
            mem_storage=True,
            num_replicas=1,
            inactive_threshold=INACTIVE,
        )

    async def _pull(self) -> None:
        while self._requested <= PULL:
            self._requested += PULL
            await self._connection.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{self._consumer}",
                _REQUEST,
                reply=f"{self._inbox}.{new_id()}",
            )

    async def _on_message(self, message: Msg) -> None:
        headers = message.headers or {}
        status = headers.get("Status")
        if status is None:
            self._take_in(message)
        elif status != _STATUS_HEARTBEAT:
            # A request has ended, by age or bytes, or because its consumer is no more.
            self._requested -= int(headers.get("Nats-Pending-Messages", PULL))
            description = headers.get("Description", "")
            if status == NO_RESPONDERS or "Consumer" in description or "Leadership" in description:
                self._gone = description or "its consumer has expired"
        self._wake.set()

    def _take_in(self, message: Msg) -> None:
        self._requested -= 1
        # $JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time>.<pending>,
        # with two tokens more after ACK where the server has a domain (ADR-15).
        tokens = message.reply.split(".")
        _, seq, delivered, _, pending = tokens[4:9] if len(tokens) == _ACK_TOKENS else tokens[6:11]
        self._arrived.append(
            (int(delivered), Stored(int(seq), message.subject, message.data), int(pending))
        )


async def read(
    connection: Connection,
    filters: Sequence[str],
    after: int,
    to: int,
    *,
    headers_only: bool = False,
) -> AsyncGenerator[Batch, None]:
    """What there is after `after` up to and including `to`, which may itself have been erased.

    A filter that names one subject is found without looking through the log; with several filters
    the server is ten times slower than with one.
    `headers_only` leaves the payloads out.
    """
    if after >= to:
        return
    batches = Follower(connection, filters, after, headers_only=headers_only).batches()
    try:
        async for batch in batches:
            messages = [message for message in batch.messages if message.seq <= to]
            if messages:
                yield Batch(messages, batch.pending)
            if not batch.pending or batch.messages[-1].seq >= to:
                return
    finally:
        await batches.aclose()


_REQUEST = msgspec.json.encode(
    {
        "batch": PULL,
        "max_bytes": PULL_BYTES,
        "expires": int(EXPIRES * _NANO),
        "idle_heartbeat": int(HEARTBEAT * _NANO),
    }
)
