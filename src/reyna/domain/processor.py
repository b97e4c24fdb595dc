"""Processors' and runs' events, and what a run is. How a run is done belongs to
`reyna.runtime.workers`.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from reyna.domain.event import Boundary, Event, Opaque
from reyna.ids import id_of


class ProcessorRegistered(Event, frozen=True, kw_only=True):
    """A processor, or a new version of one, was made known to the system."""

    KIND: ClassVar[str] = "processor"
    VERB: ClassVar[str] = "registered"
    TOPIC: ClassVar[str] = "processor.registered"

    name: str
    description: str
    version: str
    input_schema_id: str
    output_schema_id: str
    subscribe_events: tuple[str, ...]
    settings_schema: msgspec.Raw
    default_active: bool = False


class RunEvent(Event, frozen=True, kw_only=True):
    """What all events of a run say: whose run of which processor, over which source blob."""

    KIND: ClassVar[str] = "processor"
    QUALIFIER: ClassVar[str | None] = "processor_id"

    run_id: str
    processor_id: str
    blob_id: str
    bucket_ids: tuple[str, ...] = ()


class ProcessorStarted(RunEvent, frozen=True, kw_only=True):
    """An attempt began. `source_seq` is the seq of the event that the run answers."""

    VERB: ClassVar[str] = "started"
    TOPIC: ClassVar[str] = "processor.started"

    attempt: int
    source_seq: int


class ProcessorCompleted(RunEvent, frozen=True, kw_only=True):
    """The run is done; `derived_id` is the blob it made."""

    VERB: ClassVar[str] = "completed"
    TOPIC: ClassVar[str] = "processor.completed"

    derived_id: str
    attempts: int
    tokens_in: int | None = None
    tokens_out: int | None = None
    seconds: float | None = None


class ProcessorFailed(RunEvent, frozen=True, kw_only=True):
    """The run was given up; `error` says why in a sentence."""

    VERB: ClassVar[str] = "failed"
    TOPIC: ClassVar[str] = "processor.failed"

    attempts: int
    error: str
    permanent: bool


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run as its own events leave it."""

    run_id: str
    status: str
    attempts: int
    seq: int


def boundary(owner: str, run_id: str) -> Boundary:
    """The boundary that guards one run."""
    return Boundary(owner, "processor", run_id)


def fold(run: Run | None, run_id: str, event: Event | Opaque, seq: int) -> Run | None:
    """The run after `event`."""
    match event:
        case ProcessorStarted():
            return Run(run_id=run_id, status="running", attempts=event.attempt, seq=seq)
        case ProcessorCompleted():
            return Run(run_id=run_id, status="completed", attempts=event.attempts, seq=seq)
        case ProcessorFailed():
            return Run(run_id=run_id, status="failed", attempts=event.attempts, seq=seq)
    return run and msgspec.structs.replace(run, seq=seq)


def run_id_of(processor_id: str, event_id: str) -> str:
    """The id of the run by which a processor answers an event: the same wherever it is
    asked for.
    """
    return id_of("run", processor_id, event_id)
