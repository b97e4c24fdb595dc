"""Progress of runs: core messages that are not in the log, lost when nobody listens. Owns their
subject.

The subject lies outside `reyna.>`, so nothing of it is ever stored, and is subscribed only for
users who are connected to this process.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from reyna.log.connection import Connection
from reyna.log.subjects import token

PREFIX = "progress"


class Progress(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="processor.progress"
):
    """A new piece of text from a run. `offset` is where it begins in the whole, in characters.

    An offset of 0 is the beginning of an attempt; `blob_id` is the source's.
    """

    run_id: str
    processor_id: str
    blob_id: str
    offset: int
    text: str
    bucket_ids: tuple[str, ...] = ()


class ProgressFeed:
    """The progress of the users who are connected here, handed to `receive`."""

    def __init__(self, connection: Connection, receive: Callable[[str, Progress], None]) -> None:
        self._connection = connection
        self._receive = receive
        self._open: dict[str, Subscription] = {}

    async def open(self, owner: str) -> None:
        """Begin to listen for an owner."""
        if owner not in self._open:
            subject = f"{PREFIX}.{token(owner)}.*"
            self._open[owner] = await self._connection.subscribe(subject, self._on_message)

    async def close(self, owner: str) -> None:
        """Stop listening for an owner."""
        subscription = self._open.pop(owner, None)
        if subscription is not None and not self._connection.client.is_closed:
            await subscription.unsubscribe()

    async def _on_message(self, message: Msg) -> None:
        owner = message.subject.split(".")[1]
        self._receive(owner, msgspec.json.decode(message.data, type=Progress))


async def announce(connection: Connection, owner: str, progress: Progress) -> None:
    """Tell whoever listens for `owner`. Raises LogUnavailable when it cannot be sent."""
    subject = f"{PREFIX}.{token(owner)}.{token(progress.run_id)}"
    await connection.publish(subject, msgspec.json.encode(progress))
