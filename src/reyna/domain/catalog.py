"""Every event type by its name. Owns which types this version knows and how old shapes are read.

A type that is not here, or whose stored shape no longer fits, is carried as `Opaque`: a newer
program's events never stop an older one.
"""

from __future__ import annotations

import msgspec

from reyna.domain import blob, bucket, instance, processor, schema
from reyna.domain.event import Event, Opaque, type_of

EVENTS: dict[str, type[Event]] = {
    type_of(event): event
    for event in (
        blob.BlobCreated,
        blob.BlobDerived,
        blob.BlobUpdated,
        blob.BlobDeleted,
        blob.BlobRestored,
        bucket.BucketCreated,
        bucket.BucketUpdated,
        bucket.BucketStructureChanged,
        bucket.BucketDeleted,
        bucket.BucketRestored,
        bucket.BucketBlobAdded,
        bucket.BucketBlobRemoved,
        schema.SchemaRegistered,
        schema.SchemaStatusChanged,
        processor.ProcessorRegistered,
        instance.ProcessorInstanceChanged,
        processor.ProcessorRequested,
        processor.BackfillRequested,
        processor.ProcessorStarted,
        processor.ProcessorCompleted,
        processor.ProcessorFailed,
        processor.ProcessorCancelled,
    )
}

_DECODERS: dict[str, msgspec.json.Decoder[Event]] = {
    name: msgspec.json.Decoder(event) for name, event in EVENTS.items()
}


def decode(type_name: str, payload: bytes) -> Event | Opaque:
    """The event in `payload`, or it as it stands when this version cannot read it."""
    decoder = _DECODERS.get(type_name)
    if decoder is None:
        return Opaque(payload)
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, RecursionError):
        return Opaque(payload)
