"""A log to replay: the life of many writers, appended as fast as the product's own batches go.

Each round, every writer drops a text into a bucket and a processor expands it; every second text is
revised, every tenth bucket renamed. All events are such as the product writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

import msgspec

from reyna.domain.blob import BlobCreated, BlobDerived, BlobUpdated, Provenance
from reyna.domain.bucket import BucketCreated, BucketUpdated
from reyna.domain.event import Boundary, Event, Meta, type_of
from reyna.domain.processor import (
    ProcessorCompleted,
    ProcessorRegistered,
    ProcessorStarted,
    run_id_of,
)
from reyna.domain.schema import SYSTEM
from reyna.ids import new_id, now
from reyna.log.stream import MAX_BATCH, Draft, Guard, Log

WRITERS = 200
BUCKETS = 10
PROCESSOR = "text-expansion"
_TEXT = "It was a quiet morning, and the sea lay flat as slate under the first light. " * 3
_INPUT = msgspec.Raw(msgspec.json.encode({"content": _TEXT}))
_REVISED = msgspec.Raw(msgspec.json.encode({"content": _TEXT.upper()}))
_EXPANDED = msgspec.Raw(
    msgspec.json.encode({"original": _TEXT, "expanded": _TEXT * 2, "expansion_ratio": 2.0})
)
# No event is ever in this boundary, so that one guard fits every batch.
NOBODY = Guard(Boundary(SYSTEM, "bucket", "bench"), 0)


class Seeder:
    """Appends the events of one never-ending story; `appended` counts them."""

    def __init__(self) -> None:
        self.appended = 0
        self._story = _story()

    async def extend(self, log: Log, to: int) -> None:
        """Append until there are `to` events."""
        while self.appended < to:
            drafts = list(islice(self._story, min(MAX_BATCH, to - self.appended)))
            await log.append(drafts, NOBODY)
            self.appended += len(drafts)


def _story() -> Iterator[Draft]:
    yield draft(
        SYSTEM,
        PROCESSOR,
        ProcessorRegistered(
            name="Text expansion",
            description="Expands a text.",
            version="1",
            input_schema_id="text-input-v1",
            output_schema_id="expanded-text-v1",
            subscribe_events=("blob.created", "blob.derived"),
            settings_schema=msgspec.Raw(b"{}"),
            default_active=True,
        ),
    )
    writers = {new_id(): [new_id() for _ in range(BUCKETS)] for _ in range(WRITERS)}
    for writer, buckets in writers.items():
        for number, bucket_id in enumerate(buckets):
            event = BucketCreated(name=f"Chapter {number}", type="chapter", rank=f"a{number}")
            yield draft(writer, bucket_id, event)
    for turn in count():
        for writer, buckets in writers.items():
            yield from _expansion(writer, buckets[turn % BUCKETS], revise=turn % 2 == 0)
            if turn % 10 == 0:
                renamed = BucketUpdated(name=f"Draft {turn}", type="chapter", changed=("name",))
                yield draft(writer, buckets[turn // 10 % BUCKETS], renamed)


def _expansion(writer: str, bucket_id: str, *, revise: bool) -> Iterator[Draft]:
    """One text from its first draft to its expansion: four events, or five."""
    blob_id, derived_id, where = new_id(), new_id(), (bucket_id,)
    created = BlobCreated(schema_id="text-input-v1", data=_INPUT, bucket_ids=where, tags=("sea",))
    first = draft(writer, blob_id, created)
    run_id = run_id_of(PROCESSOR, first.meta.id)
    yield first
    started = ProcessorStarted(
        run_id=run_id,
        processor_id=PROCESSOR,
        blob_id=blob_id,
        bucket_ids=where,
        attempt=1,
        source_seq=1,
    )
    yield draft(writer, run_id, started)
    provenance = Provenance(
        processor_version="1", source_blob_id=blob_id, source_seq=1, run_id=run_id, tokens_out=100
    )
    derived = BlobDerived(
        schema_id="expanded-text-v1",
        data=_EXPANDED,
        bucket_ids=where,
        parent_id=blob_id,
        processor_id=PROCESSOR,
        provenance=provenance,
    )
    yield draft(writer, derived_id, derived)
    completed = ProcessorCompleted(
        run_id=run_id,
        processor_id=PROCESSOR,
        blob_id=blob_id,
        bucket_ids=where,
        derived_id=derived_id,
        attempts=1,
        tokens_out=100,
    )
    yield draft(writer, run_id, completed)
    if revise:
        updated = BlobUpdated(
            schema_id="text-input-v1", data=_REVISED, bucket_ids=where, changed=("data",)
        )
        yield draft(writer, blob_id, updated)


def draft(owner: str, entity_id: str, event: Event) -> Draft:
    """An event as its owner's own doing, now."""
    meta = Meta(id=new_id(), time=now(), type=type_of(event), actor=f"user:{owner}")
    return Draft(owner, entity_id, event, meta)
