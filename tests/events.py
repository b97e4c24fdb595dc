"""Events for tests: ordinary ones, made and appended in one line."""

from __future__ import annotations

import msgspec
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from reyna.domain import blob, bucket
from reyna.domain.blob import BlobCreated, BlobUpdated, Media, Provenance
from reyna.domain.bucket import BucketCreated
from reyna.domain.event import Boundary, Event, Meta, type_of
from reyna.ids import new_id, now
from reyna.log.record import Stored, encode
from reyna.log.stream import Draft, Guard, Log
from reyna.log.subjects import subject_of

SCHEMA = "text-input-v1"

tokens = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
schema_ids = st.from_regex(r"[a-z][a-z0-9-]{0,63}-v[1-9][0-9]{0,5}", fullmatch=True) | st.builds(
    lambda letter, version: f"{letter * 64}-v{version}",
    st.sampled_from("az"),
    st.integers(1, 999_999),
)
_whole = st.integers(0, 2**53)
_json = st.dictionaries(st.text(), st.text() | _whole | st.none(), max_size=3)
_BY_TYPE: dict[object, st.SearchStrategy[object]] = {
    int: _whole,
    int | None: st.none() | _whole,
    int | UnsetType: st.just(UNSET) | _whole,
    float | None: st.none() | st.floats(allow_nan=False, allow_infinity=False),
    msgspec.Raw: st.builds(lambda value: msgspec.Raw(msgspec.json.encode(value)), _json),
}


def events(event: type[Event]) -> st.SearchStrategy[Event]:
    """Events of a type with any field values; what stands in the subject is well-formed."""
    fields = _fields(event)
    if event.QUALIFIER is not None:
        fields[event.QUALIFIER] = schema_ids if event.QUALIFIER == "schema_id" else tokens
    if "provenance" in event.__struct_fields__:
        fields["provenance"] = st.builds(Provenance, **_fields(Provenance))
    if "media" in event.__struct_fields__:
        fields["media"] = st.just(msgspec.UNSET) | st.builds(Media, **_fields(Media))
    return st.builds(event, **fields)


def _fields(struct: type[msgspec.Struct]) -> dict[str, st.SearchStrategy[object]]:
    """Strategies for those fields whose type alone allows more than JSON does."""
    return {
        field.name: _BY_TYPE[field.type]
        for field in msgspec.structs.fields(struct)
        if field.type in _BY_TYPE
    }


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
