"""Two writers' libraries to be queried: 100,000 blobs in 10,000 buckets, beside another's.

Owns what is in them and where; how they are asked is `bench.queries`' business. No processor reads
the schemas in them, so that nothing works beside the queries.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

import msgspec

from bench.seed import NOBODY, draft
from reyna.domain.blob import BlobCreated, BlobDerived, BlobUpdated, Provenance
from reyna.domain.bucket import BucketCreated
from reyna.ids import new_id
from reyna.log.stream import MAX_BATCH, Draft, Log

ROOTS, BRANCHES = 10, 13
WORDS = 60
COMMON, RARE = "harbour", "zephyr"
"""A word of every second text, and one of every thousandth."""
TAG = "sea"
"""The tag of about every twentieth blob."""

_CHANCE = random.Random(1)
_LETTERS = "aeiounrstlmdk"
_VOCABULARY = ["".join(_CHANCE.choices(_LETTERS, k=_CHANCE.randint(3, 9))) for _ in range(3000)]


class Library:
    """What one writer has. `middle` is the seq by which half of the blobs were there."""

    def __init__(self, owner: str, blobs: int, buckets: int) -> None:
        self.owner = owner
        self.buckets = [new_id() for _ in range(buckets)]
        self.blobs = [new_id() for _ in range(blobs)]
        self.derived = [new_id() for _ in range(blobs // 10)]
        self.middle = 0

    @property
    def root(self) -> str:
        """A root; about a quarter of all buckets are below it."""
        return self.buckets[0]

    @property
    def conversation(self) -> str:
        """The bucket that holds a tenth of all blobs."""
        return self.buckets[1]

    @property
    def source(self) -> str:
        """A blob that another was derived from."""
        return self.blobs[0]

    async def store(self, log: Log) -> None:
        """Append all of it."""
        await _append(log, self._buckets())
        for half in (range(len(self.blobs) // 2), range(len(self.blobs) // 2, len(self.blobs))):
            self.middle = await log.head()
            await _append(log, self._some_blobs(half))
        await _append(log, self._revisions())

    def _buckets(self) -> Iterator[Draft]:
        for number, bucket_id in enumerate(self.buckets):
            parent = self.buckets[(number - ROOTS) // BRANCHES] if number >= ROOTS else None
            created = BucketCreated(
                name=f"Chapter {number}",
                type="chapter" if number % 10 else "book",
                parent_bucket_id=parent,
                rank=f"a{number:06}V",
                tags=(TAG,) if number % 20 == 0 else (),
                metadata=msgspec.Raw(b'{"status":"draft"}'),
            )
            yield draft(self.owner, bucket_id, created)

    def _some_blobs(self, numbers: range) -> Iterator[Draft]:
        for number in numbers:
            in_conversation = number % 10 == 1
            where = 1 if in_conversation else _CHANCE.randrange(2, len(self.buckets))
            created = BlobCreated(
                schema_id="message-v1" if in_conversation else "note-v1",
                data=_text(number),
                bucket_ids=(self.buckets[where],),
                title=f"Note {number}",
                tags=(TAG,) if number % 21 == 0 else ("draft",),
            )
            yield draft(self.owner, self.blobs[number], created)
            if number % 10 == 0:
                yield self._derivation(number)

    def _derivation(self, number: int) -> Draft:
        """An expansion of every tenth blob."""
        provenance = Provenance(
            processor_version="1",
            source_blob_id=self.blobs[number],
            source_seq=1,
            run_id=new_id(),
        )
        derived = BlobDerived(
            schema_id="expanded-text-v1",
            data=_text(number),
            parent_id=self.blobs[number],
            processor_id="text-expansion",
            provenance=provenance,
        )
        return draft(self.owner, self.derived[number // 10], derived)

    def _revisions(self) -> Iterator[Draft]:
        """Every ninth blob is written anew."""
        for number in range(0, len(self.blobs), 9):
            updated = BlobUpdated(
                schema_id="message-v1" if number % 10 == 1 else "note-v1",
                data=_text(number),
                title=f"Revision {number}",
                tags=("draft",),
                changed=("data", "title", "tags"),
            )
            yield draft(self.owner, self.blobs[number], updated)


def _text(number: int) -> msgspec.Raw:
    words = _CHANCE.choices(_VOCABULARY, k=WORDS)
    if number % 2:
        words[WORDS // 2] = COMMON
    if number % 1000 == 0:
        words[WORDS // 3] = RARE
    return msgspec.Raw(msgspec.json.encode({"content": f"{' '.join(words)}."}))


async def _append(log: Log, drafts: Iterator[Draft]) -> None:
    while batch := list(islice(drafts, MAX_BATCH)):
        await log.append(batch, NOBODY)
