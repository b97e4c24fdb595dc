"""Histories: events made by hand, as a log would hold them. Owns their seqs, ids and times."""

from __future__ import annotations

import msgspec

from reyna.domain.blob import BlobCreated, BlobDeleted, BlobDerived, BlobUpdated, Provenance
from reyna.domain.event import Event, Meta, type_of
from reyna.log import subjects
from reyna.log.record import Record


class History:
    """Events in the order of their seq; the time of event N is N microseconds past midnight."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def add(self, owner: str, entity_id: str, event: Event) -> Record:
        """Append an event; its id is `e` and its seq."""
        seq = len(self.records) + 1
        meta = Meta(id=f"e{seq}", time=time_of(seq), type=type_of(event), actor=f"user:{owner}")
        subject = subjects.parse(subjects.subject_of(owner, entity_id, event))
        self.records.append(Record(seq, subject, event, meta))
        return self.records[-1]

    def create(
        self, owner: str, blob_id: str, schema_id: str, data: object, *, title: str | None = None
    ) -> Record:
        """Somebody drops a blob."""
        event = BlobCreated(schema_id=schema_id, data=_raw(data), title=title)
        return self.add(owner, blob_id, event)

    def update(self, owner: str, blob_id: str, schema_id: str, data: object) -> Record:
        """Its owner replaces a blob's data."""
        event = BlobUpdated(schema_id=schema_id, data=_raw(data), changed=("data",))
        return self.add(owner, blob_id, event)

    def delete(self, owner: str, blob_id: str, schema_id: str) -> Record:
        """Its owner puts a blob into the trash."""
        return self.add(owner, blob_id, BlobDeleted(schema_id=schema_id))

    def derive(
        self,
        owner: str,
        blob_id: str,
        schema_id: str,
        data: object,
        *,
        parent_id: str,
        processor_id: str,
    ) -> Record:
        """A processor makes a blob of `parent_id`."""
        made = Provenance(
            processor_version="1",
            source_blob_id=parent_id,
            source_seq=len(self.records),
            run_id=f"run{len(self.records) + 1}",
        )
        event = BlobDerived(
            schema_id=schema_id,
            data=_raw(data),
            parent_id=parent_id,
            processor_id=processor_id,
            provenance=made,
        )
        return self.add(owner, blob_id, event)


def time_of(seq: int) -> str:
    """When event `seq` of a History happened."""
    return f"2026-01-01T00:00:00.{seq:06}Z"


def _raw(data: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(data))
