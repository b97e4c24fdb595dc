"""One attempt of a processor at one event. Owns exactly-once, and when a run is given up.

The derived blob's id follows from its run and the processor's version, and it is created under a
guard that nothing of it exists: whatever is redelivered finds it there. The provider is called
again only when a worker was lost between the provider's answer and that append. What a run writes
is `runtime.journal`.
"""

from __future__ import annotations

import logging
import random

import msgspec
from msgspec import UNSET

from reyna.commands.boundaries import Boundaries
from reyna.commands.instances import Instances
from reyna.commands.schemas import Schemas
from reyna.commands.subtrees import Subtree
from reyna.content import Derived, Processor, Source
from reyna.domain import blob
from reyna.domain.blob import BlobContent, BlobDerived
from reyna.domain.instance import Instance, asks
from reyna.domain.processor import ProcessorRequested, Run, run_id_of
from reyna.errors import Invalid, NotFound, Permanent, Rejected, Transient, WrongExpectedSeq
from reyna.log.media import MediaStore
from reyna.log.record import Record
from reyna.log.stream import Log
from reyna.runtime.budgets import Budgets
from reyna.runtime.circuits import Circuits
from reyna.runtime.journal import Journal, check_files
from reyna.runtime.running import OutOfTime, Running, Stop, Stopped
from reyna.runtime.writing import ProgressWriter

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
# Attempts that never came to an end: whatever kills its worker is not tried for ever.
MAX_LOST = 10
MAX_HOPS = 8
FIRST_DELAY = 2.0
MAX_DELAY = 300.0
# The longest that a provider's Retry-After is believed, in seconds.
MAX_RETRY_AFTER = 3600.0


class Means(msgspec.Struct, frozen=True, kw_only=True):
    """What all attempts in a process share."""

    log: Log
    boundaries: Boundaries
    schemas: Schemas
    instances: Instances
    budgets: Budgets
    running: Running
    store: MediaStore


class Attempt:
    """An attempt of `found` at the event in `record`."""

    def __init__(self, means: Means, found: Processor, circuits: Circuits, record: Record) -> None:
        self._means = means
        self._processor = found
        self._spec = found.spec
        self._circuits = circuits
        self._record = record
        self._owner = record.owner
        self._instance: Instance | None = None
        event = record.event
        self._request = event if isinstance(event, ProcessorRequested) else None
        self._run_id = (
            self._request.run_id
            if self._request
            else run_id_of(found.spec.processor_id, record.meta.id)
        )

    async def make(self) -> float | None:
        """Make the attempt. Answers None when the item is dealt with, else the seconds to its next.

        Raises LogUnavailable, or WrongExpectedSeq when another worker is at the same run.
        """
        means, spec = self._means, self._spec
        by_default = self._request is not None or spec.default_active
        # By far the most events are of people who never switched this processor on.
        if not by_default and not await means.instances.is_known(self._owner, spec.processor_id):
            return None
        run = await means.boundaries.run(self._owner, self._run_id)
        if not await self._is_due(run):
            return None
        journal = Journal(
            *(means.log, means.boundaries, means.store),
            *(self._spec, self._record, self._run_id),
        )
        journal.resume(run)
        made = await self._made(journal.derived_id)
        if made is not None:
            await journal.completed(made.provenance)
        elif run is not None and run.status == "cancelled":
            logger.info("run %s was cancelled", self._run_id)
        elif journal.attempts >= MAX_LOST:
            await journal.failed("Its workers were lost too often.", permanent=True)
        else:
            wait = self._circuits.wait(self._owner)
            return wait * random.uniform(1, 1.2) if wait else await self._try(journal)
        return None

    async def _made(self, derived_id: str) -> BlobDerived | None:
        """What an earlier attempt made, if its worker was lost before it could say so."""
        records = await self._means.boundaries.records(blob.boundary(self._owner, derived_id))
        events = (record.event for record in records)
        return next((event for event in events if isinstance(event, BlobDerived)), None)

    async def _is_due(self, run: Run | None) -> bool:
        """Whether there is anything left to do about the event."""
        event = self._record.event
        if run is not None:
            answered = run.requested_at > self._record.seq
            return run.status not in {"completed", "failed"} and not answered
        return isinstance(event, BlobContent) and await self._wanted(event)

    async def _wanted(self, event: BlobContent) -> bool:
        """Whether the owner's instance asked for a run when this happened, and still does."""
        spec = self._spec
        found = await self._means.instances.since(
            self._owner, spec.processor_id, self._record.seq, default_active=spec.default_active
        )
        self._instance = found.now
        return not found.paused and asks(
            found.then, spec.subscribe_events, spec.reads, self._record.type, event
        )

    async def _try(self, journal: Journal) -> float | None:
        with self._means.running.attempt(self._owner, self._run_id) as stop:
            source = await self._source(journal)
            await journal.started()
            try:
                derived = await self._derive(source, journal, stop)
            except Stopped:
                return None
            except Permanent as error:
                await self._failed(journal, error.detail, permanent=True)
                return None
            except Exception as error:  # noqa: BLE001 - a processor may fail in any way; it is said
                if journal.attempts >= MAX_ATTEMPTS:
                    await self._failed(journal, _sentence(error), permanent=False)
                    return None
                return _delay(error, journal.attempts)
        try:
            await journal.keep(derived)
        except Rejected as error:
            await self._failed(journal, f"What it made is refused: {error}", permanent=True)
            return None
        await self._completed(journal, derived)
        return None

    async def _source(self, journal: Journal) -> Source | str:
        """What the processor is given, or why there is nothing to give it."""
        asked = self._request
        try:
            if asked is not None and asked.bucket_id is not UNSET:
                source = await self._bucket(asked.bucket_id, journal)
            else:
                source = await self._blob(journal)
            settings = await self._settings()
        except Permanent as error:
            return error.detail
        return msgspec.structs.replace(source, settings=settings, derived_id=journal.derived_id)

    async def _blob(self, journal: Journal) -> Source:
        event = self._record.event
        blob_id = self._request.blob_id if self._request else self._record.entity_id
        assert blob_id is not None, "a request for one blob names it"
        found = await self._means.boundaries.bare_blob(self._owner, blob_id)
        if found is None or found.deleted:
            raise Permanent("The source was deleted before its turn came.")
        content, seq = found, found.content_seq
        data, title = found.data, found.title
        if isinstance(event, BlobContent):
            data, title, seq = event.data, event.title, self._record.seq
        journal.reads(blob_id, seq)
        return Source(
            owner=self._owner,
            blob_id=blob_id,
            schema_id=content.schema_id,
            data=data,
            title=title,
        )

    async def _bucket(self, bucket_id: str, journal: Journal) -> Source:
        try:
            subtree = await Subtree.open(self._means.log, self._owner, bucket_id)
        except NotFound:
            raise Permanent("The bucket was deleted before its turn came.") from None
        journal.reads_bucket(bucket_id, subtree.seq)
        return Source(
            owner=self._owner,
            schema_id=self._spec.input_schema_id,
            data=subtree.data,
            title=subtree.bucket.name,
            bucket_id=bucket_id,
            contents=subtree,
        )

    async def _settings(self) -> msgspec.Raw:
        spec = self._spec
        instance = self._instance or await self._means.instances.find(
            self._owner, spec.processor_id, default_active=spec.default_active
        )
        try:
            return self._means.instances.settings(
                self._owner, spec.processor_id, spec.settings_schema, instance, self._request
            )
        except Invalid as error:
            places = ", ".join(one.path for one in error.errors)
            raise Permanent(f"{error.detail} Set them anew ({places}).") from error

    async def _derive(self, source: Source | str, journal: Journal, stop: Stop) -> Derived:
        """Ask the processor, and hold what it made against its output schema."""
        if isinstance(source, str):
            raise Permanent(source)
        meta = self._record.meta
        if meta.hops >= MAX_HOPS or self._spec.processor_id in meta.via:
            raise Permanent(
                "A loop: this was made from what this processor made"
                if self._spec.processor_id in meta.via
                else f"The chain of processors is over {MAX_HOPS} long: a loop?"
            )
        self._means.budgets.check(self._owner)
        derived = await self._call(source, journal, stop)
        try:
            data = await self._means.schemas.check(
                self._spec.output_schema_id, msgspec.json.decode(derived.data)
            )
        except (Invalid, msgspec.DecodeError) as error:
            raise Transient(
                f"What it made is not valid under {self._spec.output_schema_id}: {error}"
            ) from error
        return msgspec.structs.replace(derived, data=data)

    async def _call(self, source: Source, journal: Journal, stop: Stop) -> Derived:
        """The processor's answer. Its provider's failures open its circuit."""
        writer = ProgressWriter(self._means.log.connection, self._owner, journal.progress())
        try:
            derived = await stop.guarded(
                self._processor.run(source, writer), self._spec.attempt_timeout
            )
        except OutOfTime:
            self._circuits.failed(self._owner)
            raise Transient(f"It took longer than {self._spec.attempt_timeout:g} s.") from None
        except Transient:
            self._circuits.failed(self._owner)
            raise
        except Permanent:
            # A refusal is an answer.
            self._circuits.succeeded(self._owner)
            raise
        self._circuits.succeeded(self._owner)
        await writer.flush()
        check_files(derived)
        return derived

    async def _completed(self, journal: Journal, derived: Derived) -> None:
        try:
            await journal.completed(derived)
        except WrongExpectedSeq:
            run = await self._cancelled()
            if run is None:
                raise
            # The cancellation came too late: the blob is there.
            journal.resume(run)
            await journal.completed(derived)

    async def _failed(self, journal: Journal, error: str, *, permanent: bool) -> None:
        try:
            await journal.failed(error, permanent=permanent)
        except WrongExpectedSeq:
            if await self._cancelled() is None:
                raise

    async def _cancelled(self) -> Run | None:
        """The run if it was cancelled meanwhile."""
        run = await self._means.boundaries.run(self._owner, self._run_id)
        return run if run is not None and run.status == "cancelled" else None


def _delay(error: Exception, attempts: int) -> float:
    """Seconds to the next attempt: what the provider asks for, else exponential with jitter."""
    logger.warning("attempt %d failed and is put off: %s", attempts, _sentence(error))
    if isinstance(error, Transient) and error.retry_after is not None:
        return min(max(error.retry_after, 0.1), MAX_RETRY_AFTER)
    return min(FIRST_DELAY * 2.0 ** (attempts - 1), MAX_DELAY) * random.uniform(0.5, 1.5)


def _sentence(error: Exception) -> str:
    if isinstance(error, Transient):
        return error.detail
    return f"It failed unexpectedly: {type(error).__name__}: {error}"
