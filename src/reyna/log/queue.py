"""Work queues over the log: a durable pull consumer each, shared by all its workers.

Owns redelivery: an item that is neither done nor put off in time comes again, here or elsewhere.
What the work is belongs to `reyna.runtime.workers`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Self

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NotFoundError

from reyna.errors import LogUnavailable
from reyna.log import record
from reyna.log.connection import Connection
from reyna.log.record import Record, Stored
from reyna.log.stream import STREAM

logger = logging.getLogger(__name__)

# Seconds; a lost worker's items go to another after so long.
ACK_WAIT = 15.0
# Items that were delivered or put off; beyond, nothing new is delivered to anybody.
MAX_ACK_PENDING = 100_000
FETCH_TIMEOUT = 5.0


class Work:
    """One item of a queue: a record, and what to tell the queue about it."""

    def __init__(self, message: Msg) -> None:
        self._message = message
        metadata = message.metadata
        self.record: Record = record.decode(
            Stored(metadata.sequence.stream, message.subject, message.data)
        )

    @property
    def deliveries(self) -> int:
        """How often the item has been delivered, this time included."""
        return self._message.metadata.num_delivered or 1

    async def done(self) -> None:
        """Never deliver this item again."""
        await self._say(self._message.ack())

    async def later(self, seconds: float) -> None:
        """Deliver this item again after `seconds`."""
        await self._say(self._message.nak(delay=seconds))

    async def still_working(self) -> None:
        """Ask for another ACK_WAIT before the item goes to somebody else."""
        await self._say(self._message.in_progress())

    async def _say(self, said: object) -> None:
        try:
            await said  # type: ignore[misc]  # nats-py does not type its coroutines
        except (NatsError, OSError) as error:
            # Unsaid, the item comes again; the derived id makes doing it again harmless.
            raise LogUnavailable(f"The queue cannot be answered: {error}") from error


class Queue:
    """Events that somebody must see to, after a seq."""

    def __init__(
        self, connection: Connection, subscription: JetStreamContext.PullSubscription
    ) -> None:
        self._connection = connection
        self._subscription = subscription

    @classmethod
    async def open(
        cls, connection: Connection, name: str, filters: Sequence[str], after: int
    ) -> Self:
        """The durable queue `name` of the subjects that match; made if it is not there, its filters
        brought up to date if it is.
        """
        manager = connection.client.jetstream()
        config = api.ConsumerConfig(
            durable_name=name,
            deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=after + 1,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT,
            max_deliver=-1,
            max_ack_pending=MAX_ACK_PENDING,
            filter_subjects=list(filters),
        )
        await connection.ready()
        try:
            try:
                info = await manager.consumer_info(STREAM, name)
                config.opt_start_seq = info.config.opt_start_seq
            except NotFoundError:
                pass
            await manager.add_consumer(STREAM, config)
            subscription = await manager.pull_subscribe_bind(durable=name, stream=STREAM)
        except (APIError, NatsError, TimeoutError, OSError) as error:
            raise LogUnavailable(f"The queue {name} cannot be opened: {error}") from error
        return cls(connection, subscription)

    async def items(self) -> AsyncIterator[Work]:
        """The items, one at a time, for ever; waits through a lost server."""
        while True:
            try:
                await self._connection.ready()
                for message in await self._subscription.fetch(1, timeout=FETCH_TIMEOUT):
                    yield Work(message)
            except TimeoutError:
                continue
            except (LogUnavailable, APIError, NatsError, OSError) as error:
                logger.info("queue waits for the log: %s", error)
                await asyncio.sleep(1.0)

    async def close(self) -> None:
        """Stop asking; the durable and what it holds stay."""
        try:
            await self._subscription.unsubscribe()
        except (NatsError, OSError) as error:
            logger.debug("queue not unsubscribed: %s", error)
