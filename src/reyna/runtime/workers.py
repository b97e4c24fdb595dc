"""Workers: the installed processors at work in this process. Owns their registration, and which
events reach which queue.

What one attempt does is `reyna.runtime.attempt`, whose turn it is `reyna.runtime.lanes`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import jsonschema_rs
import msgspec

from reyna.commands.secrets import marked, paths_of
from reyna.content import Processor, ProcessorSpec, Readiness
from reyna.domain.event import Boundary, Meta, type_of
from reyna.domain.processor import BackfillRequested, ProcessorRegistered, ProcessorRequested
from reyna.domain.schema import SYSTEM
from reyna.errors import Malformed, NotFound, SetupError, WrongExpectedSeq
from reyna.ids import new_id, now
from reyna.judge import drafts
from reyna.log import subjects
from reyna.log.queue import Queue, Work
from reyna.log.stream import Draft, Guard
from reyna.runtime.attempt import Attempt, Means
from reyna.runtime.backfill import Backfill
from reyna.runtime.circuits import Circuits
from reyna.runtime.dispatch import Dispatcher
from reyna.runtime.lanes import Limits

logger = logging.getLogger(__name__)

BACKFILLS = "backfills"
# Backfills of all users, in one process; each has one run of its own after the other.
BACKFILL_LIMITS = Limits(places=16, per_user=1, per_backfiller=1)


class Workers:
    """Runs the installed processors in this process, each with its own queue."""

    def __init__(self, means: Means, processors: Sequence[Processor], limits: Limits) -> None:
        self._means = means
        self._limits = limits
        self._processors = {p.spec.processor_id: p for p in processors}
        self._circuits = {processor_id: Circuits() for processor_id in self._processors}
        self._registered: dict[str, int] = {}

    def readiness(self, processor_id: str) -> Readiness | None:
        """Whether a processor can work here, None for one that is not installed."""
        found = self._processors.get(processor_id)
        if found is None:
            return None
        resting = self._circuits[processor_id].open
        return msgspec.structs.replace(found.readiness(), resting=resting)

    @property
    def processor_ids(self) -> list[str]:
        """The installed processors."""
        return list(self._processors)

    async def register(self) -> None:
        """Make the installed processors known in the log, each new version once.

        Raises SetupError for one whose settings schema is none, or whose output schema is not
        there.
        """
        for found in self._processors.values():
            _check_settings_schema(found.spec)
            await self._check_output_schema(found.spec)
            self._registered[found.spec.processor_id] = await self._register(found.spec)
        await self._means.running.prepare()
        await self._means.budgets.prepare()

    async def run(self) -> None:
        """Work for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._means.running.follow(), name="cancellations")
            tasks.create_task(self._means.budgets.follow(), name="budgets")
            await self._means.budgets.known.wait()
            for found in self._processors.values():
                dispatcher = self._dispatcher(found)
                tasks.create_task(dispatcher.run(), name=f"worker {found.spec.processor_id}")
            if self._processors:
                tasks.create_task(self._backfills().run(), name=BACKFILLS)

    async def _check_output_schema(self, spec: ProcessorSpec) -> None:
        try:
            await self._means.schemas.find(SYSTEM, spec.output_schema_id)
        except (NotFound, Malformed) as error:
            raise SetupError(
                f"The processor {spec.processor_id} makes {spec.output_schema_id}, a schema that no"
                " installed package ships."
            ) from error

    def _dispatcher(self, found: Processor) -> Dispatcher:
        spec = found.spec
        circuits = self._circuits[spec.processor_id]

        async def opening() -> Queue:
            return await Queue.open(
                self._means.log.connection,
                spec.processor_id,
                _filters(spec),
                self._registered[spec.processor_id],
            )

        async def see_to(work: Work) -> float | None:
            return await Attempt(self._means, found, circuits, work.record).make()

        def ready() -> bool:
            return found.readiness().ready

        return Dispatcher(spec.processor_id, opening, self._limits, see_to, ready)

    def _backfills(self) -> Dispatcher:
        async def opening() -> Queue:
            filters = [subjects.of_runs(None, BackfillRequested.VERB)]
            return await Queue.open(self._means.log.connection, BACKFILLS, filters, 0)

        async def see_to(work: Work) -> float | None:
            return await Backfill(self._means, work.record).make()

        return Dispatcher(BACKFILLS, opening, BACKFILL_LIMITS, see_to, lambda: True)

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
            also_reads=spec.also_reads,
        )
        boundary = Boundary(SYSTEM, "processor", spec.processor_id)
        while True:
            known = await self._means.boundaries.records(boundary)
            if known and known[-1].event == event:
                return known[-1].seq
            meta = Meta(id=new_id(), time=now(), type=type_of(event), actor=f"user:{SYSTEM}")
            guard = Guard(boundary, known[-1].seq if known else 0)
            try:
                return await self._means.log.append(
                    [Draft(SYSTEM, spec.processor_id, event, meta)], guard
                )
            except WrongExpectedSeq:
                logger.info("processor %s was registered by another", spec.processor_id)


def _filters(spec: ProcessorSpec) -> list[str]:
    """The subjects of a processor's queue: what it subscribed to, what an instance may ask for, and
    what people ask for.
    """
    verbs = {type_.removeprefix("blob.") for type_ in spec.subscribe_events} | {"updated"}
    return [
        *(subjects.of_content(verb, one) for verb in sorted(verbs) for one in spec.reads),
        subjects.of_runs(None, ProcessorRequested.VERB, spec.processor_id),
    ]


def _check_settings_schema(spec: ProcessorSpec) -> None:
    try:
        schema = msgspec.json.decode(spec.settings_schema)
        drafts.compiled(schema, {})
    except (msgspec.DecodeError, jsonschema_rs.ValidationError) as error:
        raise SetupError(f"The settings schema of {spec.processor_id} is none: {error}") from error
    if marked(schema) != len(list(paths_of(schema))):
        raise SetupError(
            f"A secret in the settings schema of {spec.processor_id} would be kept in plain: it"
            " must stand under `properties`, not behind `$ref`, `items` or a choice of schemas."
        )
