"""Dispatch: takes items from a queue and has them seen to, so many at once and in fair turns.

Owns what is held here of a queue: it is kept ours while it waits and while it is worked on, and
given back at the end. What is done with an item is its `see_to`; whose turn it is, `runtime.lanes`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from reyna.domain.processor import ProcessorRequested
from reyna.errors import LogUnavailable, WrongExpectedSeq
from reyna.log import queue
from reyna.log.queue import Queue, Work
from reyna.runtime.lanes import WAITING, Lanes, Limits, Turn

logger = logging.getLogger(__name__)

# Seconds between two looks at whether work can be taken at all.
READY_POLL = 1.0
# Seconds that a cancelled worker gives the queue to hear that another may have the item.
LAST_WORD = 5.0
# The bounds, in seconds, of how long an item is put off whose owner has too many here. Each time it
# is put off for longer, so that a long queue of one user's does not come between others' items.
MIN_PUT_OFF = 0.2
MAX_PUT_OFF = 600.0
DOUBLINGS = 6
# How much the last item counts in the time that one takes.
NEWEST = 0.1

SeeTo = Callable[[Work], Awaitable[float | None]]


class Dispatcher:
    """Sees to the items of one queue. `see_to` answers None when an item is dealt with, else the
    seconds until it is to come again; `ready` says whether there is any use in taking one.
    """

    def __init__(
        self,
        name: str,
        opening: Callable[[], Awaitable[Queue]],
        limits: Limits,
        see_to: SeeTo,
        ready: Callable[[], bool],
    ) -> None:
        self._name = name
        self._opening = opening
        self._see_to = see_to
        self._ready = ready
        self._limits = limits
        self._lanes = Lanes[Work](limits)
        # Seconds that an item takes here.
        self._pace = 1.0
        self._held: set[Work] = set()
        self._freed = asyncio.Event()

    async def run(self) -> None:
        """Work for ever."""
        await self._place()
        opened = await self._open()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_ours(), name=f"{self._name} heartbeat")
                async for work in opened.items():
                    await self._admit(tasks, work)
                    await self._place()
        finally:
            await asyncio.gather(*map(_give_back, self._held))
            await opened.close()

    async def _open(self) -> Queue:
        while True:
            try:
                return await self._opening()
            except LogUnavailable as error:
                logger.info("%s waits for the log: %s", self._name, error)
                await asyncio.sleep(READY_POLL)

    async def _place(self) -> None:
        """Return once an item could be worked on."""
        while True:
            while not self._ready():  # noqa: ASYNC110 - a processor is asked, it cannot wake us
                await asyncio.sleep(READY_POLL)
            if self._lanes.has_place:
                return
            self._freed.clear()
            await self._freed.wait()

    async def _admit(self, tasks: asyncio.TaskGroup, work: Work) -> None:
        event = work.record.event
        backfilled = isinstance(event, ProcessorRequested) and event.backfill_id is not None
        self._held.add(work)
        if not self._lanes.offer(work.record.owner, work, backfilled=backfilled):
            await self._answer(work, self._put_off(work.deliveries))
        self._begin(tasks)

    def _put_off(self, deliveries: int) -> float:
        """Seconds until there should be room in a lane that is full now."""
        emptied = WAITING / self._limits.per_user * self._pace
        wait = min(emptied * 2.0 ** min(deliveries - 1, DOUBLINGS), MAX_PUT_OFF)
        return max(wait * random.uniform(0.3, 0.7), MIN_PUT_OFF)

    def _begin(self, tasks: asyncio.TaskGroup) -> None:
        while (turn := self._lanes.take()) is not None:
            seq = turn.item.record.seq
            tasks.create_task(self._work(tasks, turn), name=f"{self._name} at {seq}")

    async def _work(self, tasks: asyncio.TaskGroup, turn: Turn[Work]) -> None:
        """One item, from its turn to its answer; never raises but for cancellation."""
        work = turn.item
        began = asyncio.get_running_loop().time()
        try:
            await self._answer(work, await self._see_to(work))
        except (LogUnavailable, WrongExpectedSeq) as lost:
            # Nothing is lost: the item comes again when its time is up.
            logger.warning("%s, event %d: %s", self._name, work.record.seq, lost)
            self._held.discard(work)
        except Exception:
            logger.exception("%s failed on event %d", self._name, work.record.seq)
            self._held.discard(work)
        took = asyncio.get_running_loop().time() - began
        self._pace += (took - self._pace) * NEWEST
        self._lanes.finish(turn)
        self._freed.set()
        self._begin(tasks)

    async def _answer(self, work: Work, delay: float | None) -> None:
        """Tell the queue what came of an item; unsaid, it comes again."""
        try:
            await (work.done() if delay is None else work.later(delay))
        except LogUnavailable as error:
            logger.info("%s, event %d: %s", self._name, work.record.seq, error)
        self._held.discard(work)

    async def _keep_ours(self) -> None:
        """Say again and again that what is held here is being seen to."""
        while True:
            await asyncio.sleep(queue.ACK_WAIT / 3)
            for work in list(self._held):
                try:
                    await work.still_working()
                except LogUnavailable as error:
                    logger.debug("the queue did not hear that work goes on: %s", error)


async def _give_back(work: Work) -> None:
    """Let another worker have the item at once; if it is not heard, it goes when its time is up."""
    try:
        async with asyncio.timeout(LAST_WORD):
            await work.later(0.1)
    except (TimeoutError, LogUnavailable) as error:
        logger.debug("an item was not given back: %s", error)
