"""The tables of blobs and buckets, as they are and as they were.

Every row holds for a while: from the seq `since` on, until the seq `until` replaced it (FOREVER
while it still holds). So the present and any moment of the past are read by the same queries.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    FromClause,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    bindparam,
    text,
)

from projections.content import search
from reyna.api.views import CallersView
from reyna.content import LATE, OWNER

FOREVER = 2**63 - 1

EMBEDDING = "embedding-v1"
"""The schema of embeddings. They are blobs, but an index and no content: lists that do not ask for
them leave them out."""
_EMBEDDINGS = text(f"schema_id = '{EMBEDDING}'")
_OTHERS = text(f"schema_id <> '{EMBEDDING}'")

metadata = MetaData()
# Ranks are ordered as plain ASCII; PostgreSQL's own order may be a language's.
_Rank = Text().with_variant(Text(collation="C"), "postgresql")
# SQLite takes only INTEGER for the row's own number.
_RowNumber = BigInteger().with_variant(Integer(), "sqlite")

blobs = Table(
    "blob_versions",
    metadata,
    # One event makes one version of one blob, so the seq alone is the key.
    Column("since", _RowNumber, primary_key=True, autoincrement=False),
    Column("until", BigInteger, nullable=False),
    Column("blob_id", String(64), nullable=False),
    Column("user_id", String(64), nullable=False),
    Column("schema_id", String(80), nullable=False),
    Column("processor_id", String(64)),
    Column("parent_id", String(64)),
    Column("title", Text),
    Column("tags", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("provenance", Text),
    Column("media", Text),
    Column("source_seq", BigInteger),
    Column("data_seq", BigInteger, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    Column("deleted", Boolean, nullable=False),
    # At the end: a database reads a long row only as far as it has to.
    Column("data", Text, nullable=False),
    # The fold asks by the id alone.
    Index("blob_versions_by_blob", "blob_id", "user_id", "until"),
    Index("blob_versions_by_parent", "user_id", "parent_id", "until", info=LATE),
    Index(
        "blob_versions_by_age",
        *("user_id", "created_at", "blob_id", "until"),
        sqlite_where=_OTHERS,
        postgresql_where=_OTHERS,
        info=LATE,
    ),
    Index(
        "blob_versions_by_change",
        *("user_id", "updated_at", "blob_id", "until"),
        sqlite_where=_OTHERS,
        postgresql_where=_OTHERS,
        info=LATE,
    ),
    Index(
        "blob_versions_of_embeddings",
        *("user_id", "since"),
        sqlite_where=_EMBEDDINGS,
        postgresql_where=_EMBEDDINGS,
        info=LATE,
    ),
    Index(
        "blob_versions_by_schema",
        *("user_id", "schema_id", "created_at", "blob_id", "until"),
        info=LATE,
    ),
)
"""All versions of all blobs. `data_seq` is the seq of the last change of `data`."""

tags = Table(
    "blob_tags",
    metadata,
    Column("user_id", String(64), primary_key=True),
    Column("tag", String(100), primary_key=True),
    Column("created_at", String(32), primary_key=True),
    Column("blob_id", String(64), primary_key=True),
    Column("since", BigInteger, primary_key=True),
    sqlite_with_rowid=False,
)
"""The tags of each version of a blob; `created_at` is the blob's."""

filings = Table(
    "blob_filings",
    metadata,
    Column("bucket_id", String(64), primary_key=True),
    Column("created_at", String(32), primary_key=True),
    Column("blob_id", String(64), primary_key=True),
    Column("since", BigInteger, primary_key=True),
    Column("until", BigInteger, nullable=False),
    Column("place", Integer, nullable=False),
    Index("blob_filings_by_blob", "blob_id"),
    sqlite_with_rowid=False,
    # A bucket in which something was ever filed has a row there.
    info={OWNER: ("bucket_fills", "bucket_id")},
)
"""Which blob was in which bucket, trashed or not; `created_at` is the blob's, `place` the bucket's
among those of the blob."""

fills = Table(
    "bucket_fills",
    metadata,
    Column("bucket_id", String(64), primary_key=True),
    Column("since", BigInteger, primary_key=True),
    Column("until", BigInteger, nullable=False),
    Column("user_id", String(64), nullable=False),
    Column("blobs", Integer, nullable=False),
    Column("filed_seq", BigInteger, nullable=False),
    # All of a row, so that the rows themselves are not looked up.
    Index(
        "bucket_fills_by_user",
        *("user_id", "until", "bucket_id", "since", "blobs", "filed_seq"),
        info=LATE,
    ),
)
"""How many living blobs a bucket held, trashed or not; `filed_seq` is the seq of its last own event
that filed one or took one out, 0 without any."""

buckets = Table(
    "bucket_versions",
    metadata,
    Column("bucket_id", String(64), primary_key=True),
    Column("since", BigInteger, primary_key=True),
    Column("until", BigInteger, nullable=False),
    Column("user_id", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("type", String(64), nullable=False),
    Column("parent_bucket_id", String(64)),
    Column("metadata", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("rank", _Rank, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    Column("hidden", Boolean, nullable=False),
    Index(
        "bucket_versions_by_parent",
        *("user_id", "parent_bucket_id", "until", "hidden", "rank", "bucket_id"),
        info=LATE,
    ),
    Index("bucket_versions_by_bucket", "user_id", "bucket_id", "until", info=LATE),
    Index("bucket_versions_by_age", "user_id", "created_at", "bucket_id", "until", info=LATE),
)
"""All versions of all buckets. `hidden`: in the trash, itself or with one above it; `seq` is the
bucket's own last event's, where `since` may be that of an event of one above it."""


texts = search.declare(metadata)
"""The words of each version of a blob, by its `since`."""


def is_embedding(table: FromClause) -> ColumnElement[bool]:
    """Whether a version of a blob is an embedding."""
    # Written out, because a database does not use a partial index for a value it is given later.
    return table.c.schema_id == bindparam(None, EMBEDDING, literal_execute=True)


def is_listed(table: FromClause) -> ColumnElement[bool]:
    """Whether a version of a blob is content, not an index of it."""
    return table.c.schema_id != bindparam(None, EMBEDDING, literal_execute=True)


def holds(table: FromClause, view: CallersView) -> ColumnElement[bool]:
    """Whether a row holds at the moment that the caller looks at."""
    if view.at is None:
        return table.c.until == FOREVER
    return and_(table.c.since <= view.at, table.c.until > view.at)
