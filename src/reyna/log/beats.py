"""Signs of life of workers: core messages that are not in the log. Owns their subject.

The subject lies outside `reyna.>`, so nothing of it is ever stored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
from nats.aio.msg import Msg

from reyna.log.connection import Connection

logger = logging.getLogger(__name__)

SUBJECT = "beat.processor"


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """A worker process says how a processor does there. `leaving`: for the last time."""

    worker_id: str
    processor_id: str
    time: str
    ready: bool
    advice: str | None = None
    resting: bool = False
    leaving: bool = False


async def listen(connection: Connection, receive: Callable[[Beat], None]) -> None:
    """Hand on every beat from now on. Raises LogUnavailable."""

    async def on_message(message: Msg) -> None:
        try:
            receive(msgspec.json.decode(message.data, type=Beat))
        except msgspec.MsgspecError as error:
            logger.debug("a beat cannot be read: %s", error)

    await connection.subscribe(SUBJECT, on_message)


async def beat(connection: Connection, sign: Beat) -> None:
    """Tell whoever listens. Raises LogUnavailable when it cannot be sent."""
    await connection.publish(SUBJECT, msgspec.json.encode(sign))
