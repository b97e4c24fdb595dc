"""Starting on what other programs have left in the views' database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Column, MetaData, String, Table, text
from sqlalchemy.ext.asyncio import AsyncEngine

from projections.content import Content
from projections.content import projection as content
from reyna.cli import checks
from reyna.database import open_engine, writing
from reyna.errors import SetupError
from reyna.log.stream import Log
from reyna.runtime.projector import Projector
from reyna.runtime.replay import Replay
from reyna.runtime.views import Views, checkpoints, metadata
from tests.events import append_blob

LEFT = (
    "CREATE TABLE blobs (blob_id VARCHAR(64) PRIMARY KEY, data TEXT)",
    "CREATE TABLE buckets (bucket_id VARCHAR(64) PRIMARY KEY, name TEXT)",
    "CREATE TABLE blob_filings (blob_id VARCHAR(64), bucket_id VARCHAR(64), place INTEGER)",
    "CREATE INDEX bucket_fills_by_user ON buckets (name)",
    "INSERT INTO blob_filings VALUES ('b1', 'k1', 0)",
)


@pytest.fixture
async def engine(any_database: str) -> AsyncIterator[AsyncEngine]:
    """An engine on an empty database."""
    engine = open_engine(any_database)
    yield engine
    await engine.dispose()


@pytest.fixture
async def left(log: Log, engine: AsyncEngine) -> AsyncEngine:
    """A database as a program with other views has left it."""
    async with writing(engine) as connection:
        await connection.run_sync(metadata.create_all)
        for statement in LEFT:
            await connection.execute(text(statement))
        rows = [
            {"projection": name, "version": 1, "epoch": log.epoch, "position": 9}
            for name in ("tree", "blobs")
        ]
        await connection.execute(checkpoints.insert(), rows)
    return engine


async def test_an_older_programs_tables_do_not_stand_in_the_way(
    log: Log, left: AsyncEngine
) -> None:
    """A view that is new here is made and filled, though tables of its names were there."""
    head = await append_blob(log, "ann", "b1", "kept")
    views = Views(left, log.epoch, wait_timeout=30)
    assert await views.prepare([content]) == []
    projector = Projector(log.connection, views, [content])
    running = asyncio.create_task(projector.run())
    await views.reached(content, head)
    running.cancel()
    proofs = await Replay(log, views).verify([content], lambda _, __: None)
    assert {(one.same, one.position) for one in proofs} == {(True, head)}
    assert {one.table: one.rows for one in proofs}["blob_versions"] == 1
    assert await views.prepare([content]) == []
    assert (await views.checkpoint("content")) is not None


async def test_the_doctor_names_views_that_are_not_installed(log: Log, left: AsyncEngine) -> None:
    """What is left of other views is kept, and told."""
    await Views(left, log.epoch).prepare([content])
    findings = await checks.projections(left, [content], log.epoch, 0)
    assert [(one.status, one.what.split(" is ")[0]) for one in findings] == [
        ("ok", "the view content"),
        ("warn", "the view blobs"),
        ("warn", "the view tree"),
    ]


class Thief(Content):
    """A view that has a table of somebody else's."""

    name = "thief"

    def __init__(self, table: str) -> None:
        self.tables = MetaData()
        Table(table, self.tables, Column("x", String(1), primary_key=True))


@pytest.mark.parametrize("table", ["accounts", "checkpoints", "blob_tags", "blob_versions_by_age"])
async def test_no_view_takes_anothers_table(log: Log, engine: AsyncEngine, table: str) -> None:
    """Two with one name are refused before anything is dropped."""
    views = Views(engine, log.epoch)
    await views.prepare([content])
    with pytest.raises(SetupError, match=table):
        await views.prepare([content, Thief(table)])
