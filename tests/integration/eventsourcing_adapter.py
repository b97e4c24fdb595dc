"""Our log behind the recorder interfaces of `eventsourcing`, so that its own suites can test it.

An aggregate is a boundary, a stored event one message of ours; appends, guards, batches and reads
are the product's own. Only what the library wants to be synchronous is bridged: the log lives in a
loop on a thread of its own.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, NoReturn, TypeVar
from uuid import UUID

import msgspec
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    IntegrityError,
    Notification,
    ProcessRecorder,
    StoredEvent,
    Subscription,
    Tracking,
    TrackingRecorder,
)
from litestar.handlers import HTTPRouteHandler
from sqlalchemy import MetaData

from reyna.content import Projection, Tx
from reyna.database import open_engine, sqlite_url, writing
from reyna.domain.event import Boundary, Event, Meta, type_of
from reyna.errors import WrongExpectedSeq
from reyna.ids import new_id, now
from reyna.log import embedded, subjects
from reyna.log.connection import Connection
from reyna.log.follow import Follower
from reyna.log.record import Record, Stored
from reyna.log.stream import Draft, Guard, Log
from reyna.runtime.views import Checkpoint, CheckpointMoved, Views, move_checkpoint

T = TypeVar("T")
OWNER = "suite"
ANSWER_TIMEOUT = 60


class Recorded(Event, frozen=True, kw_only=True):
    """An event of the library's, as one of ours."""

    KIND: ClassVar[str] = "aggregate"
    VERB: ClassVar[str] = "recorded"
    TOPIC: ClassVar[str] = "aggregate.recorded"

    originator_id: str
    originator_version: int
    topic: str
    state: bytes


class Snapshot(Recorded, frozen=True, kw_only=True):
    """A snapshot of an aggregate."""

    KIND: ClassVar[str] = "snapshot"
    TOPIC: ClassVar[str] = "snapshot.recorded"


class LogThread:
    """A nats-server, a log and a database in a loop on a thread of its own."""

    log: Log
    views: Views

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._failed: BaseException | None = None
        self._calls = 0
        self._stopped = False
        self._turn = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log")

    def start(self) -> None:
        """Start the thread; returns when the log is there."""
        self._thread.start()
        self._ready.wait(ANSWER_TIMEOUT)
        if self._failed is not None:
            raise self._failed

    def stop(self) -> None:
        """Stop everything once nobody is waiting for an answer; returns when it is gone."""
        with self._turn:
            self._stopped = True
            self._turn.wait_for(lambda: not self._calls, ANSWER_TIMEOUT)
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work in the log's loop and wait for its result."""
        with self._turn:
            if self._stopped:
                work.close()
                raise RuntimeError("The log has been stopped.")
            self._calls += 1
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result(ANSWER_TIMEOUT)
        finally:
            with self._turn:
                self._calls -= 1
                self._turn.notify_all()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._live())
        except BaseException as error:
            self._failed = error
            self._ready.set()
            raise
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())

    async def _live(self) -> None:
        with TemporaryDirectory() as folder:
            async with opened(Path(folder)) as (self.log, self.views):
                self._ready.set()
                await self._stop.wait()


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Log, Views]]:
    """A fresh log and a fresh database."""
    async with embedded.running(folder / "nats", "interval") as server:
        connection = await Connection.open(server.url, server.token)
        engine = open_engine(sqlite_url(folder / "views.db"))
        try:
            log = await Log.open(connection)
            views = Views(engine, log.epoch)
            await views.prepare([])
            yield log, views
        finally:
            await engine.dispose()
            await connection.close()


class LogAggregateRecorder(AggregateRecorder):
    """Aggregates of one kind in the log."""

    def __init__(self, thread: LogThread, event_type: type[Recorded]) -> None:
        self.thread = thread
        self._event_type = event_type

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """Store the events, all or none. IntegrityError when a version is taken."""
        self.thread.call(self.insert(stored_events))
        return None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """An aggregate's events by version."""
        found, _ = self.thread.call(self._select(originator_id))
        wanted = [
            event
            for event in found
            if (gt is None or event.originator_version > gt)
            and (lte is None or event.originator_version <= lte)
        ]
        wanted.sort(key=lambda event: event.originator_version, reverse=desc)
        return wanted[:limit]

    async def _select(self, originator_id: UUID | str) -> tuple[list[StoredEvent], int]:
        filter_ = subjects.guard(self._boundary(originator_id))
        messages = await self.thread.log.since(filter_, 0)
        assert messages is not None, "an aggregate of a test is small"
        events = [
            StoredEvent(found.originator_id, found.originator_version, found.topic, found.state)
            for found in map(notification, messages)
        ]
        return events, messages[-1].seq if messages else 0

    async def insert(self, events: Sequence[StoredEvent]) -> list[int]:
        """As our handler does it: read the boundary, decide, append under its guard.

        Several aggregates at once are several boundaries, each of them one append.
        """
        seqs: dict[tuple[UUID | str, int], int] = {}
        for originator_id in dict.fromkeys(event.originator_id for event in events):
            mine = [event for event in events if event.originator_id == originator_id]
            known, seq = await self._select(originator_id)
            versions = [event.originator_version for event in (*known, *mine)]
            if len(set(versions)) < len(versions):
                raise IntegrityError(f"A version of {originator_id} is taken.")
            drafts = [self._draft(event) for event in mine]
            try:
                last = await self.thread.log.append(
                    drafts, Guard(self._boundary(originator_id), seq)
                )
            except WrongExpectedSeq as error:
                raise IntegrityError(str(error)) from error
            for event, number in zip(mine, range(last - len(mine) + 1, last + 1), strict=True):
                seqs[event.originator_id, event.originator_version] = number
        return [seqs[event.originator_id, event.originator_version] for event in events]

    def _boundary(self, originator_id: UUID | str) -> Boundary:
        return Boundary(OWNER, self._event_type.KIND, str(originator_id))

    def _draft(self, stored: StoredEvent) -> Draft:
        event = self._event_type(
            originator_id=str(stored.originator_id),
            originator_version=stored.originator_version,
            topic=stored.topic,
            state=stored.state,
        )
        meta = Meta(id=new_id(), time=now(), type=type_of(event), actor="user:suite")
        return Draft(OWNER, str(stored.originator_id), event, meta)


class LogApplicationRecorder(LogAggregateRecorder, ApplicationRecorder):
    """Aggregates in the log, and the log itself as the application's sequence."""

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """Store the events, all or none; their seqs. IntegrityError when a version is taken."""
        return self.thread.call(self.insert(stored_events))

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """The log from a seq on."""
        after = 0 if start is None else start - inclusive_of_start
        return self.thread.call(self._notifications(after, limit, stop, topics))

    def max_notification_id(self) -> int | None:
        """The log's head, None for an empty log."""
        return self.thread.call(self.thread.log.head()) or None

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> Subscription[ApplicationRecorder]:
        """The log, followed."""
        return LogSubscription(self, gt, topics)

    async def _notifications(
        self, after: int, limit: int, stop: int | None, topics: Sequence[str]
    ) -> list[Notification]:
        found: list[Notification] = []
        follower = Follower(self.thread.log.connection, [kind_filter(self._event_type)], after)
        async with aclosing(follower.batches()) as batches:
            async for batch in batches:
                for message in batch.messages:
                    if len(found) == limit or (stop is not None and message.seq > stop):
                        return found
                    if not topics or notification(message).topic in topics:
                        found.append(notification(message))
                if not batch.pending:
                    break
        return found


class LogSubscription(Subscription[ApplicationRecorder]):
    """A follower in the log's loop that fills a queue for the caller's thread."""

    def __init__(
        self, recorder: LogApplicationRecorder, gt: int | None, topics: Sequence[str]
    ) -> None:
        super().__init__(recorder, gt, topics)
        self._arrived: queue.SimpleQueue[Notification | None] = queue.SimpleQueue()
        self._thread = recorder.thread
        self._following = self._thread.call(self._start(gt or 0, topics))

    def stop(self) -> None:
        """End the iteration, also one that is waiting."""
        if not self._has_been_stopped:
            super().stop()
            self._arrived.put(None)
            self._thread.call(self._end())

    def __next__(self) -> Notification:
        """The next event; waits for it."""
        found = None if self._has_been_stopped else self._arrived.get(timeout=ANSWER_TIMEOUT)
        if found is None:
            raise StopIteration
        return found

    async def _start(self, after: int, topics: Sequence[str]) -> asyncio.Task[None]:
        return asyncio.create_task(self._follow(after, topics))

    async def _follow(self, after: int, topics: Sequence[str]) -> None:
        follower = Follower(self._thread.log.connection, [kind_filter(Recorded)], after)
        async with aclosing(follower.batches()) as batches:
            async for batch in batches:
                for message in batch.messages:
                    found = notification(message)
                    if not topics or found.topic in topics:
                        self._arrived.put(found)

    async def _end(self) -> None:
        self._following.cancel()
        await asyncio.gather(self._following, return_exceptions=True)


class Upstream(Projection):
    """A projection without tables: its checkpoint is the position in an upstream application."""

    version = 1
    kinds = frozenset[str]()
    tables = MetaData()
    routes: Sequence[HTTPRouteHandler] = ()

    def __init__(self, name: str) -> None:
        self.name = name

    async def apply(self, tx: Tx, records: Sequence[Record]) -> None:
        """There is nothing to apply."""


class ViewsTrackingRecorder(TrackingRecorder):
    """Positions of upstream applications, kept as our projections' checkpoints are."""

    def __init__(self, thread: LogThread) -> None:
        self._thread = thread

    def insert_tracking(self, tracking: Tracking) -> None:
        """Move the position. IntegrityError when it is there or beyond already."""
        self._thread.call(self._move(Upstream(tracking.application_name), tracking.notification_id))

    def max_tracking_id(self, application_name: str) -> int | None:
        """The position, None if there is none."""
        found = self._thread.call(self._thread.views.checkpoint(application_name))
        return found.position if found and found.position else None

    async def _move(self, upstream: Projection, to: int) -> None:
        views = self._thread.views
        await views.prepare([upstream])
        found = await views.checkpoint(upstream.name)
        assert found is not None
        # As the projector: what is not after the checkpoint is not due.
        if found.position >= to:
            raise IntegrityError(f"{upstream.name} is at {found.position} already.")
        await self.move_from(found, to)

    async def move_from(self, found: Checkpoint, to: int) -> None:
        """Move a position from where it was read."""
        try:
            async with writing(self._thread.views.engine) as connection:
                await move_checkpoint(connection, found, to)
        except CheckpointMoved as error:
            raise IntegrityError(str(error)) from error


class Factory(InfrastructureFactory[TrackingRecorder]):
    """Makes the recorders over the log that `current` names."""

    current: ClassVar[LogThread | None] = None

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        """A recorder of events or of snapshots."""
        return LogAggregateRecorder(
            self._thread(), Snapshot if purpose == "snapshots" else Recorded
        )

    def application_recorder(self) -> ApplicationRecorder:
        """A recorder of events that is followed."""
        return LogApplicationRecorder(self._thread(), Recorded)

    def tracking_recorder(
        self, tracking_recorder_class: type[TrackingRecorder] | None = None
    ) -> TrackingRecorder:
        """A recorder of positions."""
        return ViewsTrackingRecorder(self._thread())

    def process_recorder(self) -> ProcessRecorder:
        """There is none: our processors keep no events and positions in one transaction."""
        return _no_process_recorder()

    def _thread(self) -> LogThread:
        assert Factory.current is not None, "a test names the log before it makes a factory"
        return Factory.current


def notification(message: Stored) -> Notification:
    """The library's view of a stored message."""
    found = msgspec.json.decode(message.payload, type=Recorded)
    return Notification(
        id=message.seq,
        originator_id=UUID(found.originator_id),
        originator_version=found.originator_version,
        topic=found.topic,
        state=found.state,
    )


def kind_filter(event_type: type[Recorded]) -> str:
    """The filter of all events of a kind."""
    return subjects.guard(Boundary(OWNER, event_type.KIND))


def _no_process_recorder() -> NoReturn:
    raise NotImplementedError
