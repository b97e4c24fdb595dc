"""How a list of blobs is walked: along which table, so that its order need not be sorted.

A database without statistics would often begin at the wrong end of a join. Here the end is chosen:
the walked table asks for each blob's version by a scalar query, which cannot be turned around.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import (
    CTE,
    ColumnElement,
    FromClause,
    Select,
    Table,
    and_,
    select,
    tuple_,
)

from projections.content.tables import blobs, buckets, filings, holds, tags
from reyna.api.views import CallersView

FEW = 2000
"""Up to so many blobs below a bucket are gathered and sorted; more are met in their order."""

MOST = 20_000
"""Ids given to a query by name: databases take no more than some 32,000 parameters."""

Query = Select[tuple[object, ...]]
_OF_BLOB = filings.c.blob_id == blobs.c.blob_id


class Walk(msgspec.Struct, frozen=True):
    """A query of versions: their `since`, the value they are ordered by, and their blob."""

    query: Query
    value: ColumnElement[str]
    blob_id: ColumnElement[str]

    def page(self, *, descending: bool, after: tuple[str, str] | None, most: int) -> Query:
        """At most so many, those behind the place `after`."""
        query = self.query
        place = tuple_(self.value, self.blob_id)
        if after is not None:
            query = query.where(place < after if descending else place > after)
        columns = (self.value, self.blob_id)
        return query.order_by(*(c.desc() if descending else c.asc() for c in columns)).limit(most)


def along_blobs(wanted: Query, by: str) -> Walk:
    """All wanted, in the order of an index of theirs."""
    columns = (blobs.c.since, blobs.c[by], blobs.c.blob_id)
    return Walk(wanted.with_only_columns(*columns), blobs.c[by], blobs.c.blob_id)


def gathered(versions: Select[Any], by: str) -> Walk:
    """The versions of a query that are few, to be sorted."""
    columns = (blobs.c.since, blobs.c[by], blobs.c.blob_id)
    query = select(*columns).where(blobs.c.since.in_(versions))
    return Walk(query, blobs.c[by], blobs.c.blob_id)


async def in_bucket(view: CallersView, bucket_id: str, wanted: Query, by: str) -> Walk:
    """Those in a bucket that is not in the trash."""
    return _along(filings, _filed(view, bucket_id), _OF_BLOB, wanted, by)


def with_tag(view: CallersView, tag: str, wanted: Query, by: str) -> Walk:
    """Those with a tag."""
    tagged = and_(tags.c.user_id == view.user_id, tags.c.tag == tag)
    return _along(tags, tagged, tags.c.since == blobs.c.since, wanted, by)


def has_tag(view: CallersView, tag: str) -> ColumnElement[bool]:
    """Whether a version has a tag."""
    of_version = [tags.c[name] == blobs.c[name] for name in ("created_at", "blob_id", "since")]
    tagged = and_(tags.c.user_id == view.user_id, tags.c.tag == tag, *of_version)
    return select(tags.c.since).where(tagged).exists()


async def below_bucket(view: CallersView, bucket_id: str, wanted: Query, by: str) -> Walk:
    """Those in a bucket that is not in the trash, or in one below it."""
    filed = await _filed_below(view, bucket_id)
    if len(await view.tuples(select(filings.c.blob_id).where(filed).limit(FEW + 1))) <= FEW:
        return gathered(_versions(filings, filed, _OF_BLOB, wanted), by)
    return along_blobs(wanted.where(_is(filed)), by)


async def is_in(view: CallersView, bucket_id: str, *, recursive: bool) -> ColumnElement[bool]:
    """Whether a blob is in a bucket, or also below it."""
    return _is(await _filed_below(view, bucket_id) if recursive else _filed(view, bucket_id))


def ranked(hits: CTE, wanted: Query, *, most: int) -> Query:
    """The best `most` versions wanted of those that a search has hit."""
    version = _version(hits, blobs.c.since == hits.c.since, wanted)
    found = select(version.label("since"), hits.c.score).subquery()
    return (
        select(found.c.since)
        .where(found.c.since.is_not(None))
        .order_by(found.c.score.desc(), found.c.since.desc())
        .limit(most)
    )


def living_buckets(view: CallersView) -> Query:
    """The caller's buckets that are there at the moment asked for."""
    return select(buckets).where(
        buckets.c.user_id == view.user_id, holds(buckets, view), buckets.c.hidden.is_(False)
    )


def _along(
    table: Table, which: ColumnElement[bool], match: ColumnElement[bool], wanted: Query, by: str
) -> Walk:
    """Along some rows of a table that keeps blobs by their age."""
    if by != "created_at":
        return gathered(_versions(table, which, match, wanted), by)
    version = _version(table, match, wanted)
    walked = (
        select(version.label("since"), table.c.created_at, table.c.blob_id).where(which).subquery()
    )
    return Walk(
        select(walked).where(walked.c.since.is_not(None)), walked.c.created_at, walked.c.blob_id
    )


def _versions(
    table: Table, which: ColumnElement[bool], match: ColumnElement[bool], wanted: Query
) -> Select[Any]:
    return select(_version(table, match, wanted)).where(which)


def _version(table: FromClause, match: ColumnElement[bool], wanted: Query) -> ColumnElement[object]:
    return wanted.with_only_columns(blobs.c.since).where(match).correlate(table).scalar_subquery()


def _filed(view: CallersView, bucket_id: str) -> ColumnElement[bool]:
    living = living_buckets(view).where(buckets.c.bucket_id == bucket_id).exists()
    return and_(filings.c.bucket_id == bucket_id, holds(filings, view), living)


async def _filed_below(view: CallersView, bucket_id: str) -> ColumnElement[bool]:
    subtree = _subtree(view, bucket_id)
    inside = [row[0] for row in await view.tuples(select(subtree.c.bucket_id).limit(MOST))]
    below = inside if len(inside) < MOST else select(_subtree(view, bucket_id).c.bucket_id)
    return and_(filings.c.bucket_id.in_(below), holds(filings, view))


def _is(filed: ColumnElement[bool]) -> ColumnElement[bool]:
    return select(filings.c.blob_id).where(_OF_BLOB, filed).exists()


def _subtree(view: CallersView, bucket_id: str) -> CTE:
    """The ids of a living bucket and of all below it."""
    living = living_buckets(view).with_only_columns(buckets.c.bucket_id)
    top = living.where(buckets.c.bucket_id == bucket_id).cte("subtree", recursive=True)
    return top.union(living.join(top, buckets.c.parent_bucket_id == top.c.bucket_id))
