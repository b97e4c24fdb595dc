"""Records: stored events with their place in the log. Owns how an event and its meta become bytes.

The payload is the event's own fields as JSON with one field more, `meta`; the log is readable
without this code.
"""

from __future__ import annotations

import msgspec

from reyna.domain import catalog
from reyna.domain.event import Event, Meta, Opaque
from reyna.log import subjects
from reyna.log.subjects import Subject

_EVENT = msgspec.json.Encoder()
_UNKNOWN = Meta(id="", time="", type="", actor="")


class _Envelope(msgspec.Struct):
    meta: Meta = _UNKNOWN


_META = msgspec.json.Decoder(_Envelope)


class Stored(msgspec.Struct, frozen=True):
    """A message as the stream gives it; `time` is the server's, RFC 3339."""

    seq: int
    subject: str
    payload: bytes


class Record(msgspec.Struct, frozen=True):
    """A stored event, decoded."""

    seq: int
    subject: Subject
    event: Event | Opaque
    meta: Meta

    @property
    def owner(self) -> str:
        """Whose event it is: a user's id or `system`."""
        return self.subject.owner

    @property
    def entity_id(self) -> str:
        """The blob, bucket, schema, run or processor it happened to."""
        return self.subject.entity_id

    @property
    def type(self) -> str:
        """The public type, for example `blob.created`."""
        return self.subject.type

    @property
    def time(self) -> str:
        """When it was decided, RFC 3339 UTC."""
        return self.meta.time


def encode(event: Event, meta: Meta) -> bytes:
    """The payload: the event's fields and `meta`."""
    body = _EVENT.encode(event)
    comma = b"," if len(body) > len(b"{}") else b""
    return body[:-1] + comma + b'"meta":' + _EVENT.encode(meta) + b"}"


def decode(stored: Stored) -> Record:
    """The record in a stored message. What cannot be read comes as `Opaque` with an empty meta."""
    subject = subjects.parse(stored.subject)
    event = catalog.decode(subject.type, stored.payload)
    try:
        meta = _META.decode(stored.payload).meta
    except (msgspec.MsgspecError, RecursionError):
        meta = _UNKNOWN
    return Record(stored.seq, subject, event, meta)
