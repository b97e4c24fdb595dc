"""Records: an event is the same after the log as before it, and readable without this program."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reyna.domain.catalog import EVENTS
from reyna.domain.event import Event, Meta, Opaque
from reyna.log.record import Stored, decode, encode
from reyna.log.subjects import subject_of
from tests.events import blob_created, bucket_created, events, meta_of, schema_ids, stored, tokens

metas = st.builds(Meta, hops=st.integers(0, 100))


@pytest.mark.parametrize("event_type", EVENTS.values(), ids=EVENTS)
@settings(max_examples=30)
@given(data=st.data(), meta=metas)
def test_an_event_comes_out_of_the_log_as_it_went_in(
    event_type: type[Event], data: st.DataObject, meta: Meta
) -> None:
    """Every type of event, and its meta, are equal after encoding and decoding."""
    event = data.draw(events(event_type))
    entity_id = data.draw(schema_ids if event_type.KIND == "schema" else tokens)
    record = decode(Stored(7, subject_of("u1", entity_id, event), encode(event, meta)))
    assert (record.seq, record.owner, record.entity_id) == (7, "u1", entity_id)
    assert (record.event, record.meta) == (event, meta)


def test_the_log_is_readable_without_this_program() -> None:
    """A payload is one JSON object: the event's own fields, and the meta that is not empty."""
    event = blob_created("Größe")
    meta = Meta(id="e1", time="2026-11-22T15:04:05.123456Z", type="blob.created", actor="user:u1")
    assert json.loads(encode(event, meta)) == {
        "schema_id": "text-input-v1",
        "bucket_ids": [],
        "data": {"content": "Größe"},
        "title": None,
        "tags": [],
        "metadata": {},
        "parent_id": None,
        "processor_id": None,
        "meta": {
            "id": "e1",
            "time": "2026-11-22T15:04:05.123456Z",
            "type": "blob.created",
            "actor": "user:u1",
        },
    }


def test_data_is_kept_to_the_byte() -> None:
    """Blanks, the order of keys and how numbers are written are the writer's and stay."""
    raw = msgspec.Raw(b'{ "z": 1.0, "a" : 1e2, "n": 12345678901234567890 }')
    event = msgspec.structs.replace(blob_created(), data=raw)
    assert decode(stored(1, "u1", "b1", event)).event == event


def test_an_event_of_a_type_of_the_future_is_carried() -> None:
    """An unknown type is opaque: its bytes, and its meta, which is read all the same."""
    meta = meta_of(bucket_created())
    payload = encode(bucket_created(), meta)
    record = decode(Stored(1, "reyna.u1.bucket.k1.painted", payload))
    assert record.event == Opaque(payload)
    assert (record.type, record.meta) == ("bucket.painted", meta)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"name": "no type and no rank", "meta": {"id": "e1"}}',
        b'{"name": 7, "type": "book", "rank": "a0"}',
        b"[]",
        b"not json",
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"meta":' + b"[" * 100_000,
    ],
)
def test_what_cannot_be_read_is_carried(payload: bytes) -> None:
    """A shape of another time, or no JSON at all, is opaque, with an empty meta."""
    record = decode(Stored(1, "reyna.u1.bucket.k1.created", payload))
    assert record.event == Opaque(payload)
    assert record.meta == Meta(id="", time="", type="", actor="")


def test_a_field_of_the_future_is_no_obstacle() -> None:
    """An event with a field more is read, without that field."""
    event = bucket_created()
    payload = encode(event, meta_of(event)).replace(b"{", b'{"colour":"red",', 1)
    assert decode(Stored(1, "reyna.u1.bucket.k1.created", payload)).event == event
