"""The view of processors and instances: its fold, and what its routes answer."""

from __future__ import annotations

import msgspec
import pytest

from projections.processors import get_instance, get_processor, list_processors, projection
from reyna.api.processors import Processor, ProcessorInstance
from reyna.api.views import encode_cursor
from reyna.content import Readiness
from reyna.domain.instance import ProcessorInstanceChanged
from reyna.domain.processor import ProcessorRegistered
from reyna.errors import Malformed, NotFound
from tests.folding import History, folded, time_of

pytestmark = pytest.mark.usefixtures("folded_on_each")

NOTES = "note-v1"


def registered(schema_id: str = NOTES, *, active: bool = True) -> ProcessorRegistered:
    """A processor that takes new blobs of a schema."""
    return ProcessorRegistered(
        name="Summary",
        description="Says it in short.",
        version="1",
        input_schema_id=schema_id,
        also_reads=("draft-v1",),
        output_schema_id="summary-v1",
        subscribe_events=("blob.created",),
        settings_schema=msgspec.Raw(b'{"type":"object"}'),
        default_active=active,
    )


@pytest.mark.parametrize(
    ("readiness", "status", "advice"),
    [
        (Readiness(ready=True), "healthy", None),
        (Readiness(ready=True, resting=True), "degraded", None),
        (Readiness(ready=True, advice="A demo model."), "healthy", "A demo model."),
        (Readiness(ready=False, advice="No model."), "down", "No model."),
        (None, "down", None),
    ],
)
async def test_processor_tells_all_its_fields(
    readiness: Readiness | None, status: str, advice: str | None
) -> None:
    """A processor is what its last registration says, and as healthy as it is here."""
    history = History()
    history.add("system", "sum", registered("old-v1"))
    history.add("system", "sum", registered())
    async with folded(projection) as view:
        await view.apply(history.records)
        async with view.seen_by("ann", readiness) as ann:
            found = await get_processor.fn(ann, "sum")
            page = await list_processors.fn(ann)
    assert isinstance(found, Processor)
    assert page.items == [found]
    assert msgspec.json.decode(msgspec.json.encode(found)) == {
        "processor_id": "sum",
        "name": "Summary",
        "description": "Says it in short.",
        "input_schema_id": NOTES,
        "also_reads": ["draft-v1"],
        "output_schema_id": "summary-v1",
        "subscribe_events": ["blob.created"],
        "settings_schema": {"type": "object"},
        "version": "1",
        "status": status,
        "last_seen_at": time_of(2),
        "advice": advice,
    }


async def test_processors_are_paged_by_id() -> None:
    """Pages give each processor once, by id."""
    history = History()
    for processor_id in ("c", "a", "b"):
        history.add("system", processor_id, registered())
    async with folded(projection) as view:
        await view.apply(history.records)
        async with view.seen_by("ann") as ann:
            first = await list_processors.fn(ann, limit=2)
            rest = await list_processors.fn(ann, limit=2, cursor=first.next_cursor)
    assert [item.processor_id for item in (*first.items, *rest.items)] == ["a", "b", "c"]
    assert rest.next_cursor is None


async def test_an_instance_is_as_it_was_last_set_up() -> None:
    """An instance nobody touched is as its processor has it; else the last change counts, each
    user's own, with the places of secrets and never what is sealed.
    """
    history = History()
    history.add("system", "sum", registered())
    history.add("system", "off", registered(active=False))
    for active in (True, False):
        history.add(
            "ann",
            "sum",
            ProcessorInstanceChanged(
                processor_id="sum",
                active=active,
                settings=msgspec.Raw(b'{"style":"dry"}'),
                secrets={"/key": "v1.sealed"},
                rerun_on_update=True,
            ),
        )
    async with folded(projection) as view:
        await view.apply(history.records)
        async with view.seen_by("ann") as ann:
            answer = await get_instance.fn(ann, "sum")
            assert msgspec.json.decode(msgspec.json.encode(answer.content)) == {
                "processor_id": "sum",
                "active": False,
                "settings": {"style": "dry"},
                "secrets": ["/key"],
                "rerun_on_update": True,
                "seq": 4,
            }
            assert answer.headers["ETag"] == '"4"'
            with pytest.raises(NotFound):
                await get_instance.fn(ann, "none")
        async with view.seen_by("eve") as eve:
            for processor_id, active in (("sum", True), ("off", False)):
                untouched = (await get_instance.fn(eve, processor_id)).content
                assert isinstance(untouched, ProcessorInstance)
                assert (untouched.active, untouched.secrets, untouched.seq) == (active, [], 0)


@pytest.mark.parametrize("wrong", ["a.b", "*", ">", "", "a" * 65, "a\0"])
async def test_wrong_ids_are_malformed(wrong: str) -> None:
    """What cannot be an id is refused as such, in a path and in a cursor."""
    async with folded(projection) as view, view.seen_by("ann") as ann:
        for route in (get_processor, get_instance):
            with pytest.raises(Malformed):
                await route.fn(ann, wrong)
        with pytest.raises(Malformed):
            await list_processors.fn(ann, cursor=encode_cursor(wrong))
