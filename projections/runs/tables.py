"""The tables of the view of runs: the runs, and what is needed to tell which event asks for one."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

from reyna.content import LATE

metadata = MetaData()
subscriptions = Table(
    "run_subscriptions",
    metadata,
    Column("processor_id", String(64), primary_key=True),
    Column("schema_ids", Text, nullable=False),
    Column("types", Text, nullable=False),
    Column("default_active", Boolean, nullable=False),
)
instances = Table(
    "run_instances",
    metadata,
    Column("user_id", String(64), primary_key=True),
    Column("processor_id", String(64), primary_key=True),
    Column("active", Boolean, nullable=False),
    Column("rerun_on_update", Boolean, nullable=False),
)
runs = Table(
    "runs",
    metadata,
    Column("run_id", String(64), primary_key=True),
    Column("processor_id", String(64), nullable=False),
    Column("user_id", String(64), nullable=False),
    Column("blob_id", String(64)),
    Column("bucket_ids", Text, nullable=False),
    Column("status", String(16), nullable=False),
    # By a person or a backfill, not by an event.
    Column("requested", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Text),
    Column("permanent", Boolean),
    Column("derived_id", String(64)),
    Column("tokens_in", Integer),
    Column("tokens_out", Integer),
    Column("cost", Float),
    Column("seconds", Float),
    Column("backfill_id", String(64)),
    Column("is_backfill", Boolean, nullable=False),
    Column("total", Integer),
    Column("source_seq", BigInteger, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("started_at", String(32)),
    Column("finished_at", String(32)),
    Column("first_seq", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Index("runs_by_processor", "user_id", "processor_id", "first_seq"),
    Index("runs_by_status", "processor_id", "status", "finished_at", info=LATE),
    Index("runs_by_backfill", "backfill_id", "status", info=LATE),
)
