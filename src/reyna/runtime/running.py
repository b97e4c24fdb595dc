"""What runs here, and how it is stopped. Owns the way from a cancellation in the log to the call.

Every worker process follows the cancellations; the one that has the run cancels its call to the
provider. A cancellation that comes before an attempt has said that it starts is seen there, by the
run's guard.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TypeVar

from reyna.log import subjects
from reyna.log.follow import Follower
from reyna.log.stream import Log

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds that a call which was cancelled is given to end.
GRACE = 5.0


class Stopped(Exception):
    """The run was cancelled by its owner."""


class OutOfTime(Exception):
    """The call took longer than it may."""


class Stop:
    """The way to end what one attempt is doing."""

    def __init__(self, strays: set[asyncio.Task[object]]) -> None:
        self._strays = strays
        self._call: asyncio.Task[object] | None = None
        self.asked = asyncio.Event()

    def ask(self) -> None:
        """End it."""
        self.asked.set()
        if self._call is not None:
            self._call.cancel()

    async def guarded(self, call: Coroutine[object, object, T], seconds: float | None) -> T:
        """What `call` gives. Raises Stopped when the run is cancelled meanwhile, OutOfTime after
        `seconds` if there are any; a call that will not end is then left behind.
        """
        if self.asked.is_set():
            call.close()
            raise Stopped
        task = asyncio.create_task(call)
        self._call = task
        try:
            done, _ = await asyncio.wait({task}, timeout=seconds)
            if self.asked.is_set():
                raise Stopped
            if not done:
                raise OutOfTime
            if task.cancelled():
                raise RuntimeError("It cancelled itself.")
            return task.result()
        finally:
            self._call = None
            await self._end(task)

    async def _end(self, task: asyncio.Task[T]) -> None:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=GRACE)
        if not task.done():
            logger.error("%s does not end though it was cancelled", task.get_coro())
            self._strays.add(task)
            task.add_done_callback(self._strays.discard)
        elif not task.cancelled():
            task.exception()


class Running:
    """The runs that are worked on in this process."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._here: dict[tuple[str, str], list[Stop]] = {}
        self._strays: set[asyncio.Task[object]] = set()
        self._after = 0

    async def prepare(self) -> None:
        """What is cancelled from now on will be heard of. Raises LogUnavailable."""
        self._after = await self._log.head()

    @contextmanager
    def attempt(self, owner: str, run_id: str) -> Iterator[Stop]:
        """An attempt at a run, which can be stopped for as long as the block lasts."""
        stop = Stop(self._strays)
        here = self._here.setdefault((owner, run_id), [])
        here.append(stop)
        try:
            yield stop
        finally:
            here.remove(stop)
            if not here:
                del self._here[(owner, run_id)]

    async def follow(self) -> None:
        """Stop what is cancelled, for ever."""
        filters = [subjects.of_runs(None, "cancelled")]
        batches = Follower(self._log.connection, filters, self._after).batches()
        try:
            async for batch in batches:
                for stored in batch.messages:
                    cancelled = subjects.parse(stored.subject)
                    for stop in self._here.get((cancelled.owner, cancelled.entity_id), ()):
                        stop.ask()
        finally:
            await batches.aclose()
