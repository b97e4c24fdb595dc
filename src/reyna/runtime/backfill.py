"""Backfills: runs over many past blobs, a few at a time. Owns which have been asked for and when
the next one is.

A backfill is itself a run. Each of its runs has an id that follows from the backfill and the blob
and is asked for under a guard that nothing of it exists, so a crash in the middle neither repeats
nor misses one. How far it has come is read from the log, from its request on.
"""

from __future__ import annotations

import asyncio
import random

from reyna.commands.past_blobs import PastBlob, past_blobs
from reyna.domain import processor
from reyna.domain.event import Event, Meta, type_of
from reyna.domain.processor import (
    FINISHED,
    BackfillRequested,
    ProcessorCancelled,
    ProcessorCompleted,
    ProcessorFailed,
    ProcessorRequested,
    ProcessorStarted,
    Run,
    RunEvent,
    child_id_of,
)
from reyna.errors import NotFound, Permanent, WrongExpectedSeq
from reyna.ids import id_of, now
from reyna.log import subjects
from reyna.log.follow import Follower
from reyna.log.record import Record, decode
from reyna.log.stream import Draft, Guard
from reyna.runtime.attempt import Means
from reyna.runtime.running import OutOfTime, Stopped

# Runs of one backfill that are queued or running at any time.
AT_ONCE = 2
# Seconds after which a backfill makes room for others', and comes again.
PLACE_FOR = 300.0


class Backfill:
    """The backfill that the event in `record` asked for."""

    def __init__(self, means: Means, record: Record) -> None:
        assert isinstance(record.event, BackfillRequested), "the queue holds nothing else"
        self._means = means
        self._record = record
        self._owner = record.owner
        self._asked = record.event
        self._run_id = record.event.run_id

    async def make(self) -> float | None:
        """Go through all blobs. Answers None when the item is dealt with, else the seconds until it
        is to come again: it goes on where it was.

        Raises LogUnavailable, or WrongExpectedSeq when another worker is at the same backfill.
        """
        run = await self._means.boundaries.run(self._owner, self._run_id)
        if run is None or run.status in FINISHED or run.requested_at > self._record.seq:
            return None
        with self._means.running.attempt(self._owner, self._run_id) as stop:
            try:
                blobs = await self._blobs()
                seq = await self._start(run, len(blobs))
                await stop.guarded(self._go_through(blobs), PLACE_FOR)
                await self._append_to_run(self._completed(run.attempts + 1), seq, "completed")
            except Stopped:
                return None
            except OutOfTime:
                return random.uniform(1.0, 5.0)
            except (Permanent, NotFound) as error:
                run = await self._means.boundaries.run(self._owner, self._run_id)
                assert run is not None, "it was there before"
                failed = self._failed(run, error.detail)
                await self._append_to_run(failed, run.seq, f"failed {run.seq}")
        return None

    async def _blobs(self) -> list[PastBlob]:
        registered = await self._means.instances.registered(self._asked.processor_id)
        return await past_blobs(
            self._means.log,
            self._means.boundaries,
            self._owner,
            registered.reads if self._asked.schema_id is None else (self._asked.schema_id,),
            self._asked.bucket_id,
            self._record.seq,
        )

    async def _go_through(self, blobs: list[PastBlob]) -> None:
        account = _Account(self._means, self._owner, self._asked.processor_id)
        try:
            async with asyncio.TaskGroup() as tasks:
                following = tasks.create_task(account.follow(self._record.seq))
                await self._ask_for_all(account, blobs)
                following.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _ask_for_all(self, account: _Account, blobs: list[PastBlob]) -> None:
        await account.known.wait()
        for blob in blobs:
            child_id = child_id_of(self._run_id, blob.blob_id)
            if child_id in account.asked:
                continue
            await account.fewer_than(AT_ONCE)
            self._means.budgets.check(self._owner)
            await self._ask(account, blob, child_id)
            if self._asked.per_minute:
                await asyncio.sleep(60 / self._asked.per_minute)
        await account.fewer_than(1)

    async def _ask(self, account: _Account, blob: PastBlob, child_id: str) -> None:
        """Ask for the run over one blob, unless it was asked for before."""
        event = ProcessorRequested(
            run_id=child_id,
            processor_id=self._asked.processor_id,
            blob_id=blob.blob_id,
            bucket_ids=blob.bucket_ids,
            settings=self._asked.settings,
            secrets=self._asked.secrets,
            backfill_id=self._run_id,
        )
        before: Run | None = None
        while True:
            guard = Guard(processor.boundary(self._owner, child_id), before.seq if before else 0)
            step = id_of(self._run_id, self._record.meta.id, child_id)
            draft = Draft(self._owner, child_id, event, self._meta(event, step))
            try:
                account.ask(child_id, await self._means.log.append([draft], guard))
            except WrongExpectedSeq:
                before = await self._means.boundaries.run(self._owner, child_id)
                if before is None or before.status in {"failed", "cancelled"}:
                    # This backfill is tried again, and so is what had not come of it.
                    continue
                account.ask(child_id, before.requested_at)
                if before.status in FINISHED:
                    account.finish(child_id, before.seq)
            return

    async def _start(self, run: Run, total: int) -> int:
        if run.status == "running":
            return run.seq
        event = ProcessorStarted(
            run_id=self._run_id,
            processor_id=self._asked.processor_id,
            bucket_ids=self._asked.bucket_ids,
            attempt=run.attempts + 1,
            source_seq=self._record.seq,
            total=total,
        )
        return await self._append_to_run(event, run.seq, f"started {run.attempts + 1}")

    def _completed(self, attempts: int) -> ProcessorCompleted:
        return ProcessorCompleted(
            run_id=self._run_id,
            processor_id=self._asked.processor_id,
            bucket_ids=self._asked.bucket_ids,
            attempts=attempts,
        )

    def _failed(self, run: Run, error: str) -> ProcessorFailed:
        return ProcessorFailed(
            run_id=self._run_id,
            processor_id=self._asked.processor_id,
            bucket_ids=self._asked.bucket_ids,
            attempts=run.attempts,
            error=error,
            permanent=True,
        )

    async def _append_to_run(self, event: Event, seq: int, step: str) -> int:
        event_id = id_of(self._run_id, self._record.meta.id, step)
        draft = Draft(self._owner, self._run_id, event, self._meta(event, event_id))
        return await self._means.log.append(
            [draft], Guard(processor.boundary(self._owner, self._run_id), seq)
        )

    def _meta(self, event: Event, event_id: str) -> Meta:
        source = self._record.meta
        return Meta(
            id=event_id,
            time=now(),
            type=type_of(event),
            actor=f"processor:{self._asked.processor_id}",
            cause=source.id,
            correlation=source.correlation or source.id,
        )


class _Account:
    """Which runs of a processor an owner has asked for, and which of them are unfinished."""

    def __init__(self, means: Means, owner: str, processor_id: str) -> None:
        self._connection = means.log.connection
        self._owner = owner
        self._filters = [
            subjects.of_runs(owner, event.VERB, processor_id)
            for event in (
                ProcessorRequested,
                ProcessorCompleted,
                ProcessorFailed,
                ProcessorCancelled,
            )
        ]
        self.asked: dict[str, int] = {}
        self._finished: dict[str, int] = {}
        self._open: set[str] = set()
        self._changed = asyncio.Event()
        self.known = asyncio.Event()

    async def follow(self, after: int) -> None:
        """Keep account of what was written after an event."""
        batches = Follower(self._connection, self._filters, after).batches()
        try:
            async for batch in batches:
                for stored in batch.messages:
                    record = decode(stored)
                    if isinstance(record.event, ProcessorRequested):
                        if record.event.backfill_id is not None:
                            self.ask(record.entity_id, record.seq)
                    elif isinstance(record.event, RunEvent):
                        self.finish(record.entity_id, record.seq)
                if not batch.pending:
                    self.known.set()
        finally:
            await batches.aclose()

    def ask(self, run_id: str, seq: int) -> None:
        """A run was asked for."""
        self.asked[run_id] = max(seq, self.asked.get(run_id, 0))
        if self._finished.get(run_id, 0) < seq:
            self._open.add(run_id)

    def finish(self, run_id: str, seq: int) -> None:
        """A run has ended."""
        self._finished[run_id] = seq
        if self.asked.get(run_id, 0) < seq:
            self._open.discard(run_id)
        self._changed.set()

    async def fewer_than(self, number: int) -> None:
        """Return once fewer runs than so many are unfinished."""
        while len(self._open) >= number:
            self._changed.clear()
            await self._changed.wait()
