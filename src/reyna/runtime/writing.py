"""Passes on what a processor writes while it does. Owns how often; nothing of it is in the log."""

from __future__ import annotations

import logging
import time

import msgspec

from reyna.errors import LogUnavailable
from reyna.log.connection import Connection
from reyna.log.progress import Progress, announce

logger = logging.getLogger(__name__)

# Seconds between two messages.
EVERY = 0.04


class ProgressWriter:
    """Sends what is written on to the owner's sockets, a few pieces at a time. `template` is what
    all its messages say.
    """

    def __init__(self, connection: Connection, owner: str, template: Progress) -> None:
        self._connection = connection
        self._owner = owner
        self._template = template
        self._pending = ""
        self._sent = 0
        self._sent_at = 0.0

    async def __call__(self, text: str) -> None:
        """Take one piece."""
        self._pending += text
        if time.monotonic() - self._sent_at >= EVERY:
            await self.flush()

    async def flush(self) -> None:
        """Send what is pending; nobody hearing it is no failure of the run."""
        if not self._pending:
            return
        progress = msgspec.structs.replace(self._template, offset=self._sent, text=self._pending)
        self._sent += len(self._pending)
        self._pending, self._sent_at = "", time.monotonic()
        try:
            await announce(self._connection, self._owner, progress)
        except LogUnavailable as error:
            logger.debug("progress was not heard: %s", error)
