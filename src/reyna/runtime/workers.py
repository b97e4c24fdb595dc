"""Workers: take work from a processor's queue and see to it. Owns the queues and their heartbeats.

What one attempt does is `reyna.runtime.attempt`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from reyna.commands.boundaries import Boundaries
from reyna.commands.schemas import Schemas
from reyna.content import Processor, ProcessorSpec, Readiness
from reyna.domain.event import Boundary, Meta, type_of
from reyna.domain.processor import ProcessorRegistered
from reyna.domain.schema import SYSTEM
from reyna.errors import LogUnavailable, WrongExpectedSeq
from reyna.ids import new_id, now
from reyna.log.queue import ACK_WAIT, Queue, Work
from reyna.log.stream import Draft, Guard, Log
from reyna.runtime.attempt import Attempt

logger = logging.getLogger(__name__)

CONCURRENCY = 4
# Seconds between two looks at a processor that is not ready.
READY_POLL = 1.0
# Seconds that a cancelled worker gives the queue to hear that another may have the item.
LAST_WORD = 5.0


class Workers:
    """Runs the installed processors in this process, each with its own queue."""

    def __init__(
        self, log: Log, boundaries: Boundaries, schemas: Schemas, processors: Sequence[Processor]
    ) -> None:
        self._log = log
        self._boundaries = boundaries
        self._schemas = schemas
        self._processors = {p.spec.processor_id: p for p in processors}
        self._registered: dict[str, int] = {}

    def readiness(self, processor_id: str) -> Readiness | None:
        """Whether a processor can work here, None for one that is not installed."""
        found = self._processors.get(processor_id)
        return None if found is None else found.readiness()

    @property
    def processor_ids(self) -> list[str]:
        """The installed processors."""
        return list(self._processors)

    async def register(self) -> None:
        """Make the installed processors known in the log, each new version once."""
        for found in self._processors.values():
            self._registered[found.spec.processor_id] = await self._register(found.spec)

    async def run(self) -> None:
        """Work for ever."""
        async with asyncio.TaskGroup() as tasks:
            for found in self._processors.values():
                for _ in range(CONCURRENCY):
                    tasks.create_task(self._work(found), name=f"worker {found.spec.processor_id}")

    async def _register(self, spec: ProcessorSpec) -> int:
        """Answers the seq of the first registration: only what came after it is worked on."""
        event = ProcessorRegistered(
            name=spec.name,
            description=spec.description,
            version=spec.version,
            input_schema_id=spec.input_schema_id,
            output_schema_id=spec.output_schema_id,
            subscribe_events=spec.subscribe_events,
            settings_schema=spec.settings_schema,
            default_active=spec.default_active,
        )
        boundary = Boundary(SYSTEM, "processor", spec.processor_id)
        while True:
            known = await self._boundaries.records(boundary)
            if known and known[-1].event == event:
                return known[-1].seq
            meta = Meta(id=new_id(), time=now(), type=type_of(event), actor=f"user:{SYSTEM}")
            guard = Guard(boundary, known[-1].seq if known else 0)
            try:
                return await self._log.append(
                    [Draft(SYSTEM, spec.processor_id, event, meta)], guard
                )
            except WrongExpectedSeq:
                logger.info("processor %s was registered by another", spec.processor_id)

    async def _work(self, found: Processor) -> None:
        spec = found.spec
        await _ready(found)
        queue = await self._open_queue(spec)
        try:
            async for work in queue.items():
                await self._take(found, work)
        finally:
            await queue.close()

    async def _open_queue(self, spec: ProcessorSpec) -> Queue:
        while True:
            try:
                return await Queue.open(
                    self._log.connection,
                    spec.processor_id,
                    spec.subscribe_events,
                    spec.input_schema_id,
                    self._registered[spec.processor_id],
                )
            except LogUnavailable as error:
                logger.info("%s waits for the log: %s", spec.processor_id, error)
                await asyncio.sleep(READY_POLL)

    async def _take(self, found: Processor, work: Work) -> None:
        """One item, from delivery to its answer; never raises but for cancellation."""
        try:
            async with _kept(work):
                delay = await Attempt(
                    self._log, self._boundaries, self._schemas, found, work.record
                ).make()
            if delay is None:
                await work.done()
            else:
                await work.later(delay)
        except asyncio.CancelledError:
            await _give_back(work)
            raise
        except (LogUnavailable, WrongExpectedSeq) as lost:
            # Nothing is lost: the item comes again when its time is up.
            logger.warning("%s, event %d: %s", found.spec.processor_id, work.record.seq, lost)
        except Exception:
            logger.exception("%s failed on event %d", found.spec.processor_id, work.record.seq)


async def _ready(found: Processor) -> None:
    """Return once a processor says that it can work: a model may still be loading."""
    while not found.readiness().ready:  # noqa: ASYNC110 - a processor is asked, it cannot wake us
        await asyncio.sleep(READY_POLL)


@asynccontextmanager
async def _kept(work: Work) -> AsyncIterator[None]:
    """Keep an item ours for the length of the block."""

    async def still_working() -> None:
        while True:
            await asyncio.sleep(ACK_WAIT / 3)
            try:
                await work.still_working()
            except LogUnavailable as error:
                logger.debug("the queue did not hear that work goes on: %s", error)

    heartbeat = asyncio.create_task(still_working(), name="worker heartbeat")
    try:
        yield
    finally:
        heartbeat.cancel()
        await asyncio.gather(heartbeat, return_exceptions=True)


async def _give_back(work: Work) -> None:
    """Let another worker have the item at once; if it is not heard, it goes when its time is up."""
    try:
        async with asyncio.timeout(LAST_WORD):
            await work.later(0.1)
    except (TimeoutError, LogUnavailable) as error:
        logger.debug("an item was not given back: %s", error)
