"""Processors' and runs' events, and what a run is. What may happen to a run is
`reyna.domain.run_rules`; how one is done belongs to `reyna.runtime.attempt`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec
from msgspec import UNSET, UnsetType

from reyna.domain.event import Boundary, Event, Opaque
from reyna.domain.instance import NO_SETTINGS
from reyna.ids import id_of

Status = Literal["queued", "running", "completed", "failed", "cancelled"]
FINISHED: frozenset[Status] = frozenset({"completed", "failed", "cancelled"})


def _no_settings() -> msgspec.Raw:
    return NO_SETTINGS


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
    also_reads: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """All schemas whose blobs it takes."""
        return (self.input_schema_id, *self.also_reads)


class RunEvent(Event, frozen=True, kw_only=True):
    """What all events of a run say: whose run of which processor, over which source blob.

    A backfill has no blob of its own, nor has a run over a bucket: that is in `bucket_ids`.
    """

    KIND: ClassVar[str] = "processor"
    QUALIFIER: ClassVar[str | None] = "processor_id"

    run_id: str
    processor_id: str
    blob_id: str | None = None
    bucket_ids: tuple[str, ...] = ()


class RunRequest(RunEvent, frozen=True, kw_only=True):
    """Somebody asked for a run, or for another try at one. `settings` go before the instance's;
    `secrets` are those among them, sealed, by JSON Pointer.
    """

    settings: msgspec.Raw = msgspec.field(default_factory=_no_settings)
    secrets: dict[str, str] = msgspec.field(default_factory=dict)


class ProcessorRequested(RunRequest, frozen=True, kw_only=True):
    """A run over one blob was asked for: by hand, or by the backfill `backfill_id`; or one over
    `bucket_id` with all below it, of a processor that reads buckets.
    """

    VERB: ClassVar[str] = "requested"
    TOPIC: ClassVar[str] = "processor.requested"

    backfill_id: str | None = None
    bucket_id: str | UnsetType = UNSET


class BackfillRequested(RunRequest, frozen=True, kw_only=True):
    """Runs over many blobs were asked for: those in `bucket_id` and below it, or without one all
    that the processor reads; with `schema_id` those of that schema alone. `per_minute` is how many
    may be asked for in a minute.
    """

    VERB: ClassVar[str] = "backfill.requested"
    TOPIC: ClassVar[str] = "processor.backfill.requested"

    bucket_id: str | None = None
    schema_id: str | None = None
    per_minute: int | None = None


class ProcessorStarted(RunEvent, frozen=True, kw_only=True):
    """An attempt began. `source_seq` is the seq of the event whose content it reads; `total` is how
    many blobs a backfill found.
    """

    VERB: ClassVar[str] = "started"
    TOPIC: ClassVar[str] = "processor.started"

    attempt: int
    source_seq: int
    total: int | None = None


class ProcessorCompleted(RunEvent, frozen=True, kw_only=True):
    """The run is done; `derived_id` is the blob it made, None for a backfill. `cost` is in US
    dollars, as the provider's prices have it.
    """

    VERB: ClassVar[str] = "completed"
    TOPIC: ClassVar[str] = "processor.completed"

    derived_id: str | None = None
    attempts: int
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None
    seconds: float | None = None


class ProcessorFailed(RunEvent, frozen=True, kw_only=True):
    """The run was given up; `error` says why in a sentence."""

    VERB: ClassVar[str] = "failed"
    TOPIC: ClassVar[str] = "processor.failed"

    attempts: int
    error: str
    permanent: bool


class ProcessorCancelled(RunEvent, frozen=True, kw_only=True):
    """The run's owner stopped it."""

    VERB: ClassVar[str] = "cancelled"
    TOPIC: ClassVar[str] = "processor.cancelled"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run as its own events leave it. `request` is the last one that somebody made, and
    `requested_at` its seq: None and 0 for a run that an event of its source asked for.
    """

    run_id: str
    processor_id: str
    blob_id: str | None
    bucket_ids: tuple[str, ...]
    status: Status
    attempts: int
    seq: int
    request: RunRequest | None = None
    requested_at: int = 0


def boundary(owner: str, run_id: str) -> Boundary:
    """The boundary that guards one run."""
    return Boundary(owner, "processor", run_id)


def fold(run: Run | None, run_id: str, event: Event | Opaque, seq: int) -> Run | None:
    """The run after `event`. Events come in the order of `seq`; superseded ones may be missing."""
    if not isinstance(event, RunEvent):
        return run and msgspec.structs.replace(run, seq=seq)
    status: Status
    attempts, request, requested_at = (
        (run.attempts, run.request, run.requested_at) if run else (0, None, 0)
    )
    match event:
        case RunRequest():
            status, attempts, request, requested_at = "queued", 0, event, seq
        case ProcessorStarted():
            status, attempts = "running", event.attempt
        case ProcessorCompleted():
            status, attempts = "completed", event.attempts
        case ProcessorFailed():
            status, attempts = "failed", event.attempts
        case _:
            status = "cancelled"
    return Run(
        run_id=run_id,
        processor_id=event.processor_id,
        blob_id=event.blob_id,
        bucket_ids=event.bucket_ids,
        status=status,
        attempts=attempts,
        seq=seq,
        request=request,
        requested_at=requested_at,
    )


def run_id_of(processor_id: str, event_id: str) -> str:
    """The id of the run by which a processor answers an event: the same wherever it is
    asked for.
    """
    return id_of("run", processor_id, event_id)


def child_id_of(backfill_id: str, blob_id: str) -> str:
    """The id of a backfill's run over one blob."""
    return id_of("backfill", backfill_id, blob_id)


def derived_id_of(run_id: str, version: str) -> str:
    """The id of the blob that a run makes by one version of its processor."""
    return id_of("derived", run_id, version)


def file_id_of(derived_id: str, key: str) -> str:
    """The id of the blob of a file that is made together with a derived blob."""
    return id_of("file", derived_id, key)
