"""Events as others see them: the public form of a record, on the socket, in `GET events`, in `reyna
log`.
"""

from __future__ import annotations

import msgspec

from reyna.domain.blob import BlobDerived, BlobEvent
from reyna.domain.bucket import (
    BucketCreated,
    BucketDeleted,
    BucketEvent,
    BucketFiling,
    BucketRestored,
    BucketStructureChanged,
)
from reyna.domain.event import Event, Opaque
from reyna.domain.instance import ProcessorInstanceChanged
from reyna.domain.processor import ProcessorRegistered, RunEvent, RunRequest
from reyna.log.record import Record


class EventFrame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event. `data` are the event's own fields; `bucket_ids` where it happened, `bucket_id` the
    first.
    """

    type: str
    seq: int
    time: str
    user_id: str
    bucket_id: str | None = None
    bucket_ids: tuple[str, ...] = ()
    blob_id: str | None = None
    schema_id: str | None = None
    parent_id: str | None = None
    run_id: str | None = None
    processor_id: str | None = None
    data: Event | msgspec.Raw


def frame_of(record: Record) -> EventFrame:
    """The public form of a record."""
    event = record.event
    data = msgspec.Raw(event.raw) if isinstance(event, Opaque) else _without_secrets(event)
    buckets = buckets_of(record)
    frame = EventFrame(
        type=record.type,
        seq=record.seq,
        time=record.time,
        user_id=record.owner,
        bucket_id=buckets[0] if buckets else None,
        bucket_ids=buckets,
        data=data,
    )
    match event:
        case BlobEvent():
            return msgspec.structs.replace(
                frame,
                blob_id=record.entity_id,
                schema_id=event.schema_id,
                parent_id=event.parent_id if isinstance(event, BlobDerived) else None,
                processor_id=event.processor_id if isinstance(event, BlobDerived) else None,
            )
        case BucketFiling():
            return msgspec.structs.replace(frame, blob_id=event.blob_id, schema_id=event.schema_id)
        case RunEvent():
            return msgspec.structs.replace(
                frame, run_id=event.run_id, processor_id=event.processor_id, blob_id=event.blob_id
            )
        case ProcessorRegistered() | ProcessorInstanceChanged():
            return msgspec.structs.replace(frame, processor_id=record.entity_id)
    if record.subject.kind == "schema":
        return msgspec.structs.replace(frame, schema_id=record.entity_id)
    return frame


def _without_secrets(event: Event) -> Event:
    """The event with the places of its secrets alone: what is sealed is nobody's to read."""
    if isinstance(event, ProcessorInstanceChanged | RunRequest) and event.secrets:
        return msgspec.structs.replace(event, secrets=dict.fromkeys(event.secrets, ""))
    return event


def buckets_of(record: Record) -> tuple[str, ...]:
    """The buckets that an event happened in: a blob's, a run's, or the bucket itself."""
    match record.event:
        case BlobEvent() | RunEvent():
            return record.event.bucket_ids
        case BucketEvent():
            return (record.entity_id,)
    return (record.entity_id,) if record.subject.kind == "bucket" else ()


def concerned(record: Record) -> tuple[str, ...]:
    """The buckets whose watchers want to know: where it happened, the parents it came to or left,
    and where else the blob is that was filed.
    """
    event = record.event
    others: tuple[str | None, ...] = ()
    match event:
        case BucketCreated() | BucketDeleted() | BucketRestored():
            others = (event.parent_bucket_id,)
        case BucketStructureChanged():
            others = (event.parent_bucket_id, event.previous_parent_bucket_id)
        case BucketFiling():
            others = event.bucket_ids
    return (*buckets_of(record), *(other for other in others if other))


def blob_of(record: Record) -> str | None:
    """The blob that an event is about, if it is about one: itself, a run's source, what was
    filed.
    """
    match record.event:
        case BlobEvent():
            return record.entity_id
        case BucketFiling() | RunEvent():
            return record.event.blob_id
    return None
