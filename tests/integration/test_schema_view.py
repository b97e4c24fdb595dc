"""The view of schemas: the same however the log is cut, and seen as it should be."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections.schemas import list_schemas, projection
from reyna.domain.processor import ProcessorRegistered
from reyna.domain.schema import SYSTEM, SchemaRegistered, SchemaStatusChanged, Status
from tests.folding import History, folded

pytestmark = pytest.mark.usefixtures("folded_on_each")

STATUSES: list[Status] = ["draft", "active", "deprecated"]


def history(steps: list[tuple[str, int, Status]]) -> History:
    """Registrations of one name by several owners, and changes of status in between."""
    past = History()
    versions: dict[str, int] = {}
    spec = ProcessorRegistered(
        name="P",
        description="",
        version="1",
        input_schema_id="note-v1",
        output_schema_id="note-v2",
        subscribe_events=(),
        settings_schema=msgspec.Raw(b"{}"),
    )
    past.add(SYSTEM, "p1", spec)
    for owner, version, status in steps:
        known = versions.get(owner, 0)
        if version <= known:
            change = SchemaStatusChanged(name="note", version=version, status=status)
            past.add(owner, f"note-v{version}", change)
            continue
        versions[owner] = known + 1
        definition = msgspec.Raw(msgspec.json.encode({"title": owner, "maxLength": known}))
        event = SchemaRegistered(
            name="note", version=known + 1, definition=definition, status=status
        )
        past.add(owner, f"note-v{known + 1}", event)
    return past


STEPS = st.lists(
    st.tuples(st.sampled_from(["u1", "u2", SYSTEM]), st.integers(1, 3), st.sampled_from(STATUSES)),
    max_size=12,
)


@settings(max_examples=15)
@given(steps=STEPS, cuts=st.lists(st.integers(0, 12), max_size=4))
async def test_the_view_is_the_same_however_the_log_is_cut(
    steps: list[tuple[str, int, Status]], cuts: list[int]
) -> None:
    """Folding in any batches, as a replay does, gives the tables byte for byte."""
    records = history(steps).records
    async with folded(projection) as live, folded(projection) as rebuilt:
        await live.apply(records, cuts)
        await rebuilt.apply(records)
        assert await live.digests() == await rebuilt.digests()


async def test_pages_hold_what_is_the_callers_and_the_systems() -> None:
    """Page by page one sees one's own schemas and the system's, each once, in order."""
    steps: list[tuple[str, int, Status]] = [
        (owner, version, "active") for version in (1, 2, 3) for owner in ("u1", "u2", SYSTEM)
    ]
    async with folded(projection) as view:
        await view.apply(history(steps).records)
        async with view.seen_by("u1") as seen:
            found: list[tuple[int, object]] = []
            cursor = None
            while True:
                page = await list_schemas.fn(seen, limit=2, cursor=cursor)
                found += [
                    (s.version, msgspec.json.decode(s.definition)["title"]) for s in page.items
                ]
                cursor = page.next_cursor
                if cursor is None:
                    break
    assert found == [(v, owner) for v in (1, 2, 3) for owner in (SYSTEM, "u1")]
