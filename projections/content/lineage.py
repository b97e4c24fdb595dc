"""The graph of what a blob was derived from and what came of it."""

from __future__ import annotations

import msgspec
from litestar import get
from litestar.params import FromPath
from sqlalchemy import RowMapping, select

from projections.content.blobs import present
from projections.content.tables import blobs, holds
from projections.content.walks import Query
from reyna.api.views import CallersView, View
from reyna.errors import NotFound
from reyna.log.subjects import token

MOST = 1000
"""Blobs in one graph; `complete` is false when there are more."""


_COLUMNS = (
    blobs.c.blob_id,
    blobs.c.parent_id,
    blobs.c.schema_id,
    blobs.c.processor_id,
    blobs.c.title,
    blobs.c.source_seq,
    blobs.c.data_seq,
    blobs.c.deleted,
    blobs.c.created_at,
)


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A blob in the graph; `trashed` ones are named because others came from them."""

    blob_id: str
    schema_id: str
    processor_id: str | None
    title: str | None
    stale: bool
    trashed: bool
    created_at: str


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """`child_id` came from `parent_id`; by a processor, or with None by hand."""

    parent_id: str
    child_id: str
    processor_id: str | None


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """All that a blob came from and all that came of it, the oldest first."""

    blob_id: str
    nodes: list[Node]
    links: list[Link]
    complete: bool


@get("/blobs/{blob_id:str}/lineage", tags=["blobs"])
async def get_lineage(view: View, blob_id: FromPath[str]) -> Lineage:
    """What a blob was derived from, and what came of it."""
    own = await view.rows(
        present(view).with_only_columns(*_COLUMNS).where(blobs.c.blob_id == token(blob_id))
    )
    if not own:
        raise NotFound(f"There is no blob {blob_id}.")
    found: dict[str, RowMapping] = {blob_id: own[0]}
    await _ancestors(view, found, own[0]["parent_id"])
    await _descendants(view, found, blob_id)
    complete = len(found) <= MOST
    rows = sorted(found.values(), key=lambda row: (row["created_at"], row["blob_id"]))[:MOST]
    kept = {row["blob_id"] for row in rows}
    return Lineage(
        blob_id=blob_id,
        nodes=[_node(row, found.get(row["parent_id"] or "")) for row in rows],
        links=[
            Link(
                parent_id=row["parent_id"],
                child_id=row["blob_id"],
                processor_id=row["processor_id"],
            )
            for row in rows
            if row["parent_id"] in kept
        ],
        complete=complete,
    )


async def _ancestors(
    view: CallersView, found: dict[str, RowMapping], parent_id: str | None
) -> None:
    while parent_id is not None and parent_id not in found and len(found) <= MOST:
        query = _any(view).where(blobs.c.blob_id == parent_id)
        for row in await view.rows(query):
            found[parent_id] = row
            parent_id = row["parent_id"]
            break
        else:
            return


async def _descendants(view: CallersView, found: dict[str, RowMapping], blob_id: str) -> None:
    level = [blob_id]
    while level and len(found) <= MOST:
        query = _any(view).where(blobs.c.parent_id.in_(level)).limit(MOST + 1)
        rows = [row for row in await view.rows(query) if row["blob_id"] not in found]
        found |= {row["blob_id"]: row for row in rows}
        level = [row["blob_id"] for row in rows]


def _any(view: CallersView) -> Query:
    return select(*_COLUMNS).where(blobs.c.user_id == view.user_id, holds(blobs, view))


def _node(row: RowMapping, source: RowMapping | None) -> Node:
    made_from = row["source_seq"]
    changed = source["data_seq"] if source is not None else 0
    return Node(
        blob_id=row["blob_id"],
        schema_id=row["schema_id"],
        processor_id=row["processor_id"],
        title=row["title"],
        stale=made_from is not None and changed > made_from,
        trashed=row["deleted"],
        created_at=row["created_at"],
    )


routes = (get_lineage,)
