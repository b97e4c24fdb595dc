"""How a list of blobs is walked: along which table, so that its order need not be sorted.

A database without statistics would often begin at the wrong end of a join. Here the end is chosen:
the walked table asks for each blob's version by a scalar query, which cannot be turned around.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    CTE,
    ColumnElement,
    FromClause,
    Select,
    String,
    Table,
    and_,
    any_,
    func,
    literal,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY

from projections.content.tables import blobs, buckets, filings, holds, tags
from reyna.api.views import CallersView

FEW = 2000
"""Up to so many blobs of a bucket are gathered and sorted; more are met in their order."""

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
    filed = _filed(view, bucket_id)
    if by != "created_at" and not await _few(view, filed):
        return along_blobs(wanted.where(_is(filed)), by)
    return _along(filings, filed, _OF_BLOB, wanted, by)


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
    inside = await _subtree(view, bucket_id)
    filed = _filed_in(view, filings.c.bucket_id, inside)
    if await _few(view, filed):
        return gathered(_versions(filings, filed, _OF_BLOB, wanted), by)
    return along_blobs(wanted.where(_is_in(view, inside)), by)


async def is_in(view: CallersView, bucket_id: str, *, recursive: bool) -> ColumnElement[bool]:
    """Whether a blob is in a bucket, or also below it."""
    if recursive:
        return _is_in(view, await _subtree(view, bucket_id))
    return _is(_filed(view, bucket_id))


def ranked(hits: CTE, wanted: Query, *, most: int) -> Query:
    """The best `most` versions wanted of those that a search has hit."""
    version = _version(hits, blobs.c.since == hits.c.since, wanted)
    # Else the version may be asked for once to be tested and once to be told.
    found = select(version.label("since"), hits.c.score).cte("found").prefix_with("MATERIALIZED")
    return (
        select(found.c.since)
        .where(found.c.since.is_not(None))
        .order_by(found.c.score.desc(), found.c.since.desc())
        .limit(most)
    )


def living_buckets(view: CallersView, *, by_id: bool = False) -> Query:
    """The caller's buckets that are there at the moment asked for; `by_id` if ids say which.

    Without statistics SQLite takes what one user has for a few rows, and looks through all of them
    rather than follow some ids. As an expression the owner is no way into an index.
    """
    owner = func.coalesce(buckets.c.user_id, "") if by_id else buckets.c.user_id
    return select(buckets).where(
        owner == view.user_id, holds(buckets, view), buckets.c.hidden.is_(False)
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


def _filed_in(
    view: CallersView, bucket_id: ColumnElement[str], inside: Sequence[str]
) -> ColumnElement[bool]:
    """Whether a filing is in one of many buckets, which are a single parameter however many."""
    if view.connection.dialect.name == "sqlite":
        listed = func.json_each(msgspec.json.encode(inside).decode()).table_valued("value")
        return and_(bucket_id.in_(select(listed.c.value)), holds(filings, view))
    return and_(bucket_id == any_(literal(inside, ARRAY(String))), holds(filings, view))


def _is_in(view: CallersView, inside: Sequence[str]) -> ColumnElement[bool]:
    # As an expression the bucket is no way into an index, which would be asked once for each.
    return _is(_filed_in(view, func.coalesce(filings.c.bucket_id, ""), inside))


async def _few(view: CallersView, filed: ColumnElement[bool]) -> bool:
    some = select(filings.c.blob_id).where(filed).limit(FEW + 1).subquery()
    count = await view.connection.scalar(select(func.count()).select_from(some))
    return (count or 0) <= FEW


def _is(filed: ColumnElement[bool]) -> ColumnElement[bool]:
    return select(filings.c.blob_id).where(_OF_BLOB, filed).exists()


async def _subtree(view: CallersView, bucket_id: str) -> list[str]:
    """The ids of a living bucket and of all below it."""
    living = living_buckets(view).with_only_columns(buckets.c.bucket_id)
    top = living.where(buckets.c.bucket_id == bucket_id).cte("subtree", recursive=True)
    below = top.union(living.join(top, buckets.c.parent_bucket_id == top.c.bucket_id))
    return [row[0] for row in await view.tuples(select(below.c.bucket_id))]
