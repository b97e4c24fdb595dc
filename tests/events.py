"""Events for tests: ordinary ones, made and appended in one line."""

from __future__ import annotations

import msgspec

from reyna.domain import blob, bucket
from reyna.domain.blob import BlobCreated, BlobUpdated
from reyna.domain.bucket import BucketCreated
from reyna.domain.event import Boundary, Event, Meta, type_of
from reyna.ids import new_id, now
from reyna.log.record import Stored, encode
from reyna.log.stream import Draft, Guard, Log
from reyna.log.subjects import subject_of

SCHEMA = "text-input-v1"


def meta_of(event: Event, event_id: str | None = None) -> Meta:
    """The meta of a new event."""
    return Meta(id=event_id or new_id(), time=now(), type=type_of(event), actor="user:u1")


def draft(owner: str, entity_id: str, event: Event, event_id: str | None = None) -> Draft:
    """The event, ready to be appended."""
    return Draft(owner, entity_id, event, meta_of(event, event_id))


def stored(seq: int, owner: str, entity_id: str, event: Event) -> Stored:
    """The event as the stream would give it."""
    return Stored(seq, subject_of(owner, entity_id, event), encode(event, meta_of(event)))


def blob_created(text: str = "words", schema_id: str = SCHEMA) -> BlobCreated:
    """A blob that says `text`."""
    return BlobCreated(schema_id=schema_id, data=_content(text))


def blob_updated(text: str) -> BlobUpdated:
    """A blob that now says `text`."""
    return BlobUpdated(schema_id=SCHEMA, data=_content(text), changed=("data",))


def bucket_created(name: str = "A book") -> BucketCreated:
    """A root."""
    return BucketCreated(name=name, type="book", rank="a0")


def of_blob(seq: int, owner: str, blob_id: str) -> Guard:
    """The condition that nothing has happened to a blob since `seq`."""
    return Guard(blob.boundary(owner, blob_id), seq)


def of_tree(seq: int, owner: str) -> Guard:
    """The condition that nothing has happened in an owner's tree since `seq`."""
    return Guard(bucket.boundary(owner), seq)


async def append_blob(log: Log, owner: str, blob_id: str, text: str = "words") -> int:
    """Append the creation of a blob."""
    return await log.append(
        [draft(owner, blob_id, blob_created(text))], Guard(Boundary(owner, "blob", blob_id), 0)
    )


def _content(text: str) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode({"content": text}))
