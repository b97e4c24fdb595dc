"""One attempt of a processor at one event. Owns exactly-once, retries and what a run writes.

The derived blob's id follows from its cause, and it is created under a guard that nothing of it
exists: whatever is redelivered finds it there. The provider is called again only when a worker was
lost between the provider's answer and that append.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time

import msgspec

from reyna.commands.boundaries import Boundaries
from reyna.commands.schemas import Schemas
from reyna.content import Derived, Processor, Source
from reyna.domain import blob, processor
from reyna.domain.blob import BlobContent, BlobDerived, Provenance
from reyna.domain.event import Boundary, Event, Meta, type_of
from reyna.domain.processor import (
    ProcessorCompleted,
    ProcessorFailed,
    ProcessorStarted,
    run_id_of,
)
from reyna.errors import (
    Invalid,
    LogUnavailable,
    Permanent,
    Rejected,
    Transient,
    WrongExpectedSeq,
)
from reyna.ids import id_of, now
from reyna.log.progress import Progress, announce
from reyna.log.record import Record
from reyna.log.stream import Draft, Guard, Log

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
# Attempts that never came to an end: whatever kills its worker is not tried for ever.
MAX_LOST = 10
MAX_HOPS = 8
FIRST_DELAY = 2.0
MAX_DELAY = 300.0
PROGRESS_EVERY = 0.04


class Attempt:
    """An attempt of `found` at the event in `record`."""

    def __init__(
        self,
        log: Log,
        boundaries: Boundaries,
        schemas: Schemas,
        found: Processor,
        record: Record,
    ) -> None:
        self._log = log
        self._boundaries = boundaries
        self._schemas = schemas
        self._processor = found
        self._spec = found.spec
        self._record = record
        self._owner = record.owner
        self._run_id = run_id_of(found.spec.processor_id, record.meta.id)
        self._derived_id = id_of(
            "derived", found.spec.processor_id, found.spec.version, record.meta.id
        )

    async def make(self) -> float | None:
        """Make the attempt. Answers None when the item is dealt with, else the seconds to its next.

        Raises LogUnavailable, or WrongExpectedSeq when another worker is at the same run.
        """
        event = self._record.event
        run = await self._boundaries.run(self._owner, self._run_id)
        if not isinstance(event, BlobContent) or (run and run.status in {"completed", "failed"}):
            return None
        seq, attempts = (run.seq, run.attempts) if run else (0, 0)
        if await self._boundaries.bare_blob(self._owner, self._derived_id) is not None:
            await self._complete(seq, attempts, None)
            return None
        if attempts >= MAX_LOST:
            await self._fail(seq, attempts, "Its workers were lost too often.", permanent=True)
            return None
        return await self._try(event, seq, attempts + 1)

    async def _try(self, event: BlobContent, seq: int, attempts: int) -> float | None:
        seq = await self._append(
            self._run_boundary(), seq, self._run_id, self._started(attempts), f"started {attempts}"
        )
        try:
            derived = await self._derive(event)
        except Permanent as error:
            await self._fail(seq, attempts, error.detail, permanent=True)
            return None
        except Exception as error:  # noqa: BLE001 - a processor may fail in any way; it is said
            if attempts >= MAX_ATTEMPTS:
                await self._fail(seq, attempts, _sentence(error), permanent=False)
                return None
            return _delay(error, attempts)
        try:
            await self._keep(derived)
        except Rejected as error:
            await self._fail(seq, attempts, f"What it made is refused: {error}", permanent=True)
        else:
            await self._complete(seq, attempts, derived)
        return None

    async def _derive(self, event: BlobContent) -> Derived:
        """Ask the processor, and hold what it made against its output schema."""
        source = await self._boundaries.bare_blob(self._owner, self._record.entity_id)
        if source is None or source.deleted:
            raise Permanent("The source was deleted before its turn came.")
        if self._record.meta.hops >= MAX_HOPS:
            raise Permanent(f"The chain of processors is over {MAX_HOPS} long: a loop?")
        writer = _ProgressWriter(self._log, self._owner, self._progress("", 0))
        derived = await self._processor.run(
            Source(
                owner=self._owner,
                blob_id=self._record.entity_id,
                schema_id=event.schema_id,
                data=event.data,
                title=event.title,
            ),
            writer,
        )
        await writer.flush()
        try:
            data = await self._schemas.check(
                self._spec.output_schema_id, msgspec.json.decode(derived.data)
            )
        except (Invalid, msgspec.DecodeError) as error:
            raise Transient(
                f"What it made is not valid under {self._spec.output_schema_id}: {error}"
            ) from error
        return msgspec.structs.replace(derived, data=data)

    async def _keep(self, derived: Derived) -> None:
        """Append the derived blob, filed where its source is by now; a lost log is waited for, so
        that the answer is not paid for twice.
        """
        event = BlobDerived(
            schema_id=self._spec.output_schema_id,
            data=derived.data,
            title=derived.title,
            parent_id=self._record.entity_id,
            processor_id=self._spec.processor_id,
            provenance=Provenance(
                processor_version=self._spec.version,
                source_blob_id=self._record.entity_id,
                source_seq=self._record.seq,
                run_id=self._run_id,
                model=derived.model,
                prompt_version=derived.prompt_version,
                tokens_in=derived.tokens_in,
                tokens_out=derived.tokens_out,
                seconds=derived.seconds,
                generated_at=now(),
            ),
        )
        boundary = blob.boundary(self._owner, self._derived_id)
        while True:
            try:
                source = await self._boundaries.blob(self._owner, self._record.entity_id)
                event = msgspec.structs.replace(
                    event, bucket_ids=source.bucket_ids if source else ()
                )
                await self._append(boundary, 0, self._derived_id, event, "derived")
            except LogUnavailable as error:
                logger.info("what %s made waits for the log: %s", self._spec.processor_id, error)
                await asyncio.sleep(0.5)
            except WrongExpectedSeq:
                logger.info("blob %s was derived by another worker", self._derived_id)
                return
            else:
                return

    async def _complete(self, seq: int, attempts: int, derived: Derived | None) -> None:
        event = ProcessorCompleted(
            run_id=self._run_id,
            processor_id=self._spec.processor_id,
            blob_id=self._record.entity_id,
            bucket_ids=self._source_buckets(),
            derived_id=self._derived_id,
            attempts=max(attempts, 1),
            tokens_in=derived.tokens_in if derived else None,
            tokens_out=derived.tokens_out if derived else None,
            seconds=derived.seconds if derived else None,
        )
        await self._append(self._run_boundary(), seq, self._run_id, event, "completed")

    async def _fail(self, seq: int, attempts: int, error: str, *, permanent: bool) -> None:
        event = ProcessorFailed(
            run_id=self._run_id,
            processor_id=self._spec.processor_id,
            blob_id=self._record.entity_id,
            bucket_ids=self._source_buckets(),
            attempts=attempts,
            error=error[:2000],
            permanent=permanent,
        )
        await self._append(self._run_boundary(), seq, self._run_id, event, "failed")

    def _started(self, attempt: int) -> ProcessorStarted:
        return ProcessorStarted(
            run_id=self._run_id,
            processor_id=self._spec.processor_id,
            blob_id=self._record.entity_id,
            bucket_ids=self._source_buckets(),
            attempt=attempt,
            source_seq=self._record.seq,
        )

    def _progress(self, text: str, offset: int) -> Progress:
        return Progress(
            run_id=self._run_id,
            processor_id=self._spec.processor_id,
            blob_id=self._record.entity_id,
            offset=offset,
            text=text,
            bucket_ids=self._source_buckets(),
        )

    def _source_buckets(self) -> tuple[str, ...]:
        event = self._record.event
        return event.bucket_ids if isinstance(event, BlobContent) else ()

    def _run_boundary(self) -> Boundary:
        return processor.boundary(self._owner, self._run_id)

    async def _append(
        self, boundary: Boundary, seq: int, entity_id: str, event: Event, step: str
    ) -> int:
        source = self._record.meta
        derived = isinstance(event, BlobDerived)
        meta = Meta(
            id=id_of(self._run_id, step),
            time=now(),
            type=type_of(event),
            actor=f"processor:{self._spec.processor_id}",
            cause=source.id,
            correlation=source.correlation or source.id,
            hops=source.hops + 1 if derived else source.hops,
            lineage=(*source.lineage, self._record.entity_id) if derived else source.lineage,
        )
        return await self._log.append(
            [Draft(self._owner, entity_id, event, meta)], Guard(boundary, seq)
        )


class _ProgressWriter:
    """Sends what is written on to the owner's sockets, a few pieces at a time."""

    def __init__(self, log: Log, owner: str, template: Progress) -> None:
        self._log = log
        self._owner = owner
        self._template = template
        self._pending = ""
        self._sent = 0
        self._sent_at = 0.0

    async def __call__(self, text: str) -> None:
        """Take one piece."""
        self._pending += text
        if time.monotonic() - self._sent_at >= PROGRESS_EVERY:
            await self.flush()

    async def flush(self) -> None:
        """Send what is pending; nobody hearing it is no failure of the run."""
        if not self._pending:
            return
        progress = msgspec.structs.replace(self._template, offset=self._sent, text=self._pending)
        self._sent += len(self._pending)
        self._pending, self._sent_at = "", time.monotonic()
        try:
            await announce(self._log.connection, self._owner, progress)
        except LogUnavailable as error:
            logger.debug("progress was not heard: %s", error)


def _delay(error: Exception, attempts: int) -> float:
    """Seconds to the next attempt: what the provider asks for, else exponential with jitter."""
    logger.warning("attempt %d failed and is put off: %s", attempts, _sentence(error))
    if isinstance(error, Transient) and error.retry_after is not None:
        return min(max(error.retry_after, 0.1), MAX_DELAY)
    return min(FIRST_DELAY * 2.0 ** (attempts - 1), MAX_DELAY) * random.uniform(0.5, 1.5)


def _sentence(error: Exception) -> str:
    if isinstance(error, Transient):
        return error.detail
    return f"It failed unexpectedly: {type(error).__name__}: {error}"
