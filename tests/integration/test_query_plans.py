"""How SQLite goes about the content view's queries: by the ids it is given, never through all rows.

The databases here are empty of statistics and nearly of rows, as the planner sees every database.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from projections.content import projection
from projections.content.blobs import get_blob
from projections.content.buckets import get_bucket, list_buckets
from projections.content.lineage import get_lineage
from reyna.api.views import CallersView
from reyna.domain.blob import BlobCreated, BlobDeleted, BlobUpdated
from reyna.domain.bucket import BucketBlobAdded, BucketCreated, BucketUpdated
from tests.folding import History, folded

DATA = msgspec.Raw(b'{"content":"x"}')

Asked = list[tuple[str, Any]]


@contextmanager
def asked() -> Iterator[Asked]:
    """The queries made in the block, with their parameters."""
    queries: Asked = []

    def note(_: object, __: object, sql: str, parameters: object, ___: object, ____: bool) -> None:
        if sql.startswith(("SELECT", "WITH")):
            queries.append((sql, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield queries
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def plans(view: CallersView, queries: Asked) -> list[str]:
    """The steps that SQLite takes for some queries."""
    steps: list[str] = []
    for sql, parameters in queries:
        found = await view.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters)
        steps += found.scalars(3)
    return steps


def history() -> History:
    """Two buckets, one below the other, and two blobs, one from the other."""
    history = History()
    top = BucketCreated(name="Top", type="book", rank="a0")
    history.add("ann", "k1", top)
    history.add("ann", "k2", msgspec.structs.replace(top, parent_bucket_id="k1"))
    first = BlobCreated(schema_id="note-v1", data=DATA, bucket_ids=("k2",))
    history.add("ann", "b1", first)
    history.add("ann", "b2", msgspec.structs.replace(first, parent_id="b1"))
    return history


async def test_fold_finds_what_it_changes_by_its_ids() -> None:
    """The cost of an event does not grow with what there is."""
    past = history()
    count = len(past.records)
    past.add("ann", "b1", BlobUpdated(schema_id="note-v1", data=DATA, changed=("data",)))
    past.add("ann", "b2", BlobDeleted(schema_id="note-v1", bucket_ids=("k2",)))
    added = BucketBlobAdded(blob_id="b1", schema_id="note-v1", bucket_ids=("k2", "k1"))
    past.add("ann", "k1", added)
    past.add("ann", "k1", BucketUpdated(name="Up", type="book", changed=("name",)))
    async with folded(projection) as view:
        await view.apply(past.records[:count])
        with asked() as queries:
            await view.apply(past.records[count:])
        async with view.seen_by("ann") as ann:
            steps = await plans(ann, queries)
    assert len(queries) == 4
    assert [step for step in steps if step.startswith("SCAN")] == []


@pytest.mark.parametrize(
    ("route", "parameters"),
    [
        (get_blob, {"blob_id": "b1"}),
        (get_lineage, {"blob_id": "b2"}),
        (get_bucket, {"bucket_id": "k2"}),
        (list_buckets, {"parent_bucket_id": "k1"}),
    ],
)
@pytest.mark.parametrize("at", [None, 4])
async def test_one_thing_is_found_by_its_id(
    route: Any, parameters: dict[str, str], at: int | None
) -> None:
    """What is asked by its id costs the same however much its owner has."""
    async with folded(projection) as view:
        await view.apply(history().records)
        async with view.seen_by("ann", at=at) as ann:
            with asked() as queries:
                await route.fn(ann, **parameters)
            steps = await plans(ann, queries)
    assert queries
    assert [step for step in steps if step.endswith("(user_id=?)")] == []
