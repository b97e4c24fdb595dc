"""The fold of blob and bucket events into versions.

A batch is folded in memory on top of the rows it touches, which are read once; then what is new is
inserted and what has come to an end is closed. A fold never changes a row otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import Table, bindparam, select, update

from projections.content import search
from projections.content.tables import (
    EMBEDDING,
    FOREVER,
    blobs,
    buckets,
    filings,
    fills,
    tags,
    texts,
)
from reyna.api.views import tag_lines
from reyna.content import Tx
from reyna.domain.blob import (
    BlobContent,
    BlobCreated,
    BlobDeleted,
    BlobDerived,
    BlobRestored,
    BlobUpdated,
    Provenance,
)
from reyna.domain.bucket import (
    BucketBlobAdded,
    BucketCreated,
    BucketDeleted,
    BucketDescription,
    BucketFiling,
    BucketRestored,
    BucketStructureChanged,
    BucketUpdated,
)
from reyna.log.record import Record

IDS = 1000
"""Ids in one query: databases take no more than some 32,000 parameters."""
TAGS = msgspec.json.Decoder(tuple[str, ...])

Row = dict[str, object]
_PLAIN = (blobs, tags, filings, fills, buckets)


class Fold:
    """One batch. What it touches is kept by its ids, as the last event seen leaves it."""

    def __init__(self, tx: Tx, records: Sequence[Record]) -> None:
        self._tx = tx
        self._records = records
        self._first_seq = records[0].seq
        self._blobs: dict[str, Row] = {}
        self._buckets: dict[str, Row] = {}
        self._filings: dict[str, dict[str, Row]] = {}
        self._fills: dict[str, Row] = {}
        self._new: dict[Table, list[Row]] = {table: [] for table in _PLAIN}
        closing = (blobs, filings, fills, buckets)
        self._closed: dict[Table, list[Row]] = {table: [] for table in closing}

    async def apply(self) -> None:
        """Fold all records, in order, and write what comes of it."""
        await self._load()
        for record in self._records:
            if record.subject.kind == "blob":
                self._blob(record)
            else:
                self._bucket(record)
        for table, rows in self._closed.items():
            await self._close_rows(table, rows)
        for table, rows in self._new.items():
            await self._tx.insert(table, rows)
        await search.add(self._tx, texts, await asyncio.to_thread(self._searched))

    def _searched(self) -> list[search.Version]:
        """The new versions that have words."""
        return [_searched(row) for row in self._new[blobs] if row["schema_id"] != EMBEDDING]

    async def _load(self) -> None:
        blob_ids, bucket_ids, filled = _touched(self._records)
        for row in await self._holding(blobs, "blob_id", blob_ids):
            self._blobs[str(row["blob_id"])] = row
        for row in await self._holding(filings, "blob_id", blob_ids):
            self._filings.setdefault(str(row["blob_id"]), {})[str(row["bucket_id"])] = row
            filled.add(str(row["bucket_id"]))
        for row in await self._holding(fills, "bucket_id", filled):
            self._fills[str(row["bucket_id"])] = row
        for row in await self._holding(buckets, "bucket_id", bucket_ids):
            self._buckets[str(row["bucket_id"])] = row

    async def _holding(self, declared: Table, key: str, ids: Iterable[str]) -> list[Row]:
        table, wanted = self._tx[declared], list(ids)
        rows: list[Row] = []
        for start in range(0, len(wanted), IDS):
            some = table.c[key].in_(wanted[start : start + IDS])
            found = await self._tx.execute(select(table).where(some, table.c.until == FOREVER))
            rows.extend(dict(row) for row in found.mappings())
        return rows

    def _blob(self, record: Record) -> None:
        event, blob_id = record.event, record.entity_id
        if isinstance(event, BlobCreated | BlobDerived):
            self._add_blob(_first_version(record, event))
            for place, bucket_id in enumerate(dict.fromkeys(event.bucket_ids)):
                self._file(record, self._blobs[blob_id], bucket_id, place)
                self._count(record, bucket_id, 1)
            return
        old = self._blobs.get(blob_id)
        if old is None:
            return
        new = old | {"since": record.seq, "updated_at": record.time}
        match event:
            case BlobUpdated():
                new |= _content(event)
                if "data" in event.changed:
                    new["data_seq"] = record.seq
            case BlobDeleted() | BlobRestored():
                new["deleted"] = isinstance(event, BlobDeleted)
        for bucket_id in self._filings.get(blob_id, ()):
            self._count(record, bucket_id, int(not new["deleted"]) - int(not old["deleted"]))
        self._close(blobs, old, record.seq)
        self._add_blob(new)

    def _add_blob(self, row: Row) -> None:
        self._blobs[str(row["blob_id"])] = row
        self._new[blobs].append(row)
        of_row = {name: row[name] for name in ("user_id", "created_at", "blob_id", "since")}
        for tag in dict.fromkeys(TAGS.decode(str(row["tags"]))):
            self._new[tags].append({"tag": tag, **of_row})

    def _bucket(self, record: Record) -> None:
        event = record.event
        if isinstance(event, BucketFiling):
            self._refile(record, event)
            return
        if isinstance(event, BucketCreated):
            self._add_bucket(_first_bucket(record, event))
            return
        if isinstance(event, BucketDeleted | BucketRestored):
            hidden: Row = {"hidden": isinstance(event, BucketDeleted)}
            for bucket_id in event.bucket_ids:
                if bucket_id != record.entity_id and bucket_id in self._buckets:
                    self._change_bucket(bucket_id, record, hidden)
        # Also for an event this version does not know: the ETag is that of the bucket's last event.
        if record.entity_id in self._buckets:
            own: Row = {"seq": record.seq, "updated_at": record.time}
            self._change_bucket(record.entity_id, record, own | _bucket_change(record))

    def _change_bucket(self, bucket_id: str, record: Record, change: Row) -> None:
        old = self._buckets[bucket_id]
        self._close(buckets, old, record.seq)
        self._add_bucket(old | {"since": record.seq, "until": FOREVER} | change)

    def _add_bucket(self, row: Row) -> None:
        self._buckets[str(row["bucket_id"])] = row
        self._new[buckets].append(row)

    def _refile(self, record: Record, event: BucketFiling) -> None:
        """Put a blob where it was not, or take it from where it was; each is counted once."""
        blob = self._blobs.get(event.blob_id)
        if blob is None:
            return
        filed = self._filings.setdefault(event.blob_id, {})
        change = 0
        if isinstance(event, BucketBlobAdded) and record.entity_id not in filed:
            places = [int(str(row["place"])) for row in filed.values()]
            self._file(record, blob, record.entity_id, max(places, default=-1) + 1)
            change = 1
        elif not isinstance(event, BucketBlobAdded) and record.entity_id in filed:
            self._close(filings, filed.pop(record.entity_id), record.seq)
            change = -1
        self._count(record, record.entity_id, 0 if blob["deleted"] else change)

    def _file(self, record: Record, blob: Row, bucket_id: str, place: int) -> None:
        row: Row = {
            "bucket_id": bucket_id,
            "created_at": blob["created_at"],
            "blob_id": blob["blob_id"],
            "since": record.seq,
            "until": FOREVER,
            "place": place,
        }
        self._filings.setdefault(str(blob["blob_id"]), {})[bucket_id] = row
        self._new[filings].append(row)

    def _count(self, record: Record, bucket_id: str, change: int) -> None:
        filing = isinstance(record.event, BucketFiling)
        if not change and not filing:
            return
        old = self._fills.get(bucket_id)
        if old is not None:
            self._close(fills, old, record.seq)
        row: Row = {
            "bucket_id": bucket_id,
            "since": record.seq,
            "until": FOREVER,
            "user_id": record.owner,
            "blobs": (int(str(old["blobs"])) if old else 0) + change,
            "filed_seq": record.seq if filing else old["filed_seq"] if old else 0,
        }
        self._fills[bucket_id] = row
        self._new[fills].append(row)

    def _close(self, table: Table, row: Row, seq: int) -> None:
        """End a version. One made in this batch has not been written yet."""
        row["until"] = seq
        if int(str(row["since"])) < self._first_seq:
            self._closed[table].append(row)

    async def _close_rows(self, declared: Table, rows: Sequence[Row]) -> None:
        if not rows:
            return
        table = self._tx[declared]
        keys = [column.name for column in table.primary_key]
        statement = update(table).values(until=bindparam("b_until"))
        for key in keys:
            statement = statement.where(table.c[key] == bindparam(f"b_{key}"))
        await self._tx.execute(
            statement, [{f"b_{name}": row[name] for name in (*keys, "until")} for row in rows]
        )


def _searched(row: Row) -> search.Version:
    title = None if row["title"] is None else str(row["title"])
    found = search.text_of(str(row["data"]), title, TAGS.decode(str(row["tags"])))
    return search.Version(int(str(row["since"])), str(row["user_id"]), found)


def _touched(records: Sequence[Record]) -> tuple[set[str], set[str], set[str]]:
    """The blobs and buckets that records change, and the buckets whose number of blobs they change.

    What a batch makes itself need not be read.
    """
    blob_ids: set[str] = set()
    bucket_ids: set[str] = set()
    filled: set[str] = set()
    for record in records:
        match record.event:
            case BlobCreated() | BlobDerived() as event:
                filled.update(event.bucket_ids)
            case BucketCreated():
                pass
            case BucketFiling() as event:
                blob_ids.add(event.blob_id)
                filled.add(record.entity_id)
            case BucketDeleted() | BucketRestored() as event:
                bucket_ids.update(event.bucket_ids, (record.entity_id,))
            case _:
                touched = blob_ids if record.subject.kind == "blob" else bucket_ids
                touched.add(record.entity_id)
    return blob_ids, bucket_ids, filled


def _first_version(record: Record, event: BlobCreated | BlobDerived) -> Row:
    provenance = event.provenance if isinstance(event, BlobDerived) else None
    return {
        "since": record.seq,
        "until": FOREVER,
        "blob_id": record.entity_id,
        "user_id": record.owner,
        "schema_id": event.schema_id,
        "processor_id": event.processor_id,
        "parent_id": event.parent_id,
        "provenance": msgspec.json.encode(provenance).decode() if provenance else None,
        "source_seq": _source_seq(record, provenance),
        "data_seq": record.seq,
        "created_at": record.time,
        "updated_at": record.time,
        "deleted": False,
        **_content(event),
    }


def _source_seq(record: Record, provenance: Provenance | None) -> int | None:
    """The event up to which a blob knows its parent; a file that was made together with it knows
    it as it was made.
    """
    if provenance is None:
        return None
    return provenance.source_seq if provenance.source_blob_id is not None else record.seq


def _content(event: BlobContent) -> Row:
    return {
        "data": bytes(event.data).decode(),
        "title": event.title,
        "tags": tag_lines(event.tags),
        "metadata": bytes(event.metadata).decode(),
        "media": msgspec.json.encode(event.media).decode() if event.media else None,
    }


def _first_bucket(record: Record, event: BucketCreated) -> Row:
    return {
        "bucket_id": record.entity_id,
        "since": record.seq,
        "until": FOREVER,
        "user_id": record.owner,
        "parent_bucket_id": event.parent_bucket_id,
        "rank": event.rank,
        "seq": record.seq,
        "created_at": record.time,
        "updated_at": record.time,
        "hidden": False,
        **_description(event),
    }


def _bucket_change(record: Record) -> Row:
    match record.event:
        case BucketUpdated() as event:
            return _description(event)
        case BucketStructureChanged() as event:
            return {"parent_bucket_id": event.parent_bucket_id, "rank": event.rank}
        case BucketDeleted():
            return {"hidden": True}
        case BucketRestored():
            return {"hidden": False}
    return {}


def _description(event: BucketDescription) -> Row:
    return {
        "name": event.name,
        "type": event.type,
        "metadata": bytes(event.metadata).decode(),
        "tags": tag_lines(event.tags),
    }
