"""Reading an owner's tree from the log. Owns what must be read to know it whole.

The last message of each subject is enough for the buckets, but not for filings: those of many blobs
share a bucket's subject, so all of them are read.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from reyna.domain import bucket
from reyna.domain.bucket import BucketBlobAdded, BucketBlobRemoved, Tree
from reyna.errors import LogUnavailable
from reyna.log import subjects
from reyna.log.follow import Follower, read
from reyna.log.record import Record, decode
from reyna.log.stream import Log

# Seconds without anything new; with the append after it, a client that waits for five must still
# hear our 503. Hundreds of thousands of filings take longer, but only once.
SILENCE = 3.0
# Buckets with filings that are read one by one; more cost less by one look through the whole log.
READ_SINGLY = 16
# Events folded before others get their turn.
FOLD_AT_ONCE = 1000
_FILINGS = frozenset({BucketBlobAdded.VERB, BucketBlobRemoved.VERB})


async def load(log: Log, owner: str) -> Tree:
    """The owner's tree as it was at one moment: what is appended meanwhile is not in it.

    Raises LogUnavailable when the log does not go on for SILENCE seconds.
    """
    try:
        async with asyncio.timeout(SILENCE) as patience:
            records = await last_records(log, subjects.guard(bucket.boundary(owner)))
            records = await _with_all_filings(log, owner, records, patience)
    except TimeoutError as error:
        raise LogUnavailable("The tree cannot be read now.") from error
    tree = Tree()
    for number, record in enumerate(records, start=1):
        tree.fold(record.entity_id, record.event, record.seq, record.time)
        if number % FOLD_AT_ONCE == 0:
            await asyncio.sleep(0)
    return tree


async def last_records(log: Log, filter_: str) -> list[Record]:
    """The last record of each subject under a filter, in order."""
    stored = await log.last_of_each(filter_)
    if stored is not None:
        return [decode(message) for message in stored]
    records: list[Record] = []
    follower = Follower(log.connection, [filter_], 0, last_per_subject=True)
    async with aclosing(follower.batches()) as batches:
        async for batch in batches:
            records.extend(decode(message) for message in batch.messages)
            if not batch.pending:
                break
    return records


async def _with_all_filings(
    log: Log, owner: str, records: list[Record], patience: asyncio.Timeout
) -> list[Record]:
    """The records and all filings up to the last of them, in order. Every batch renews the
    patience.
    """
    filed = {record.entity_id for record in records if record.subject.verb in _FILINGS}
    if not filed:
        return records
    filters = [subjects.of_filings(owner)]
    if len(filed) <= READ_SINGLY:
        filters = [one for bucket_id in filed for one in subjects.of_filings_in(owner, bucket_id)]
    last = records[-1].seq
    found = {record.seq: record for record in records}
    for filter_ in filters:
        async with aclosing(read(log.connection, [filter_], 0, last)) as batches:
            async for batch in batches:
                found.update((message.seq, decode(message)) for message in batch.messages)
                patience.reschedule(asyncio.get_running_loop().time() + SILENCE)
    return [found[seq] for seq in sorted(found)]
