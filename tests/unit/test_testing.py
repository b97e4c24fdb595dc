"""What `reyna.testing` promises a plugin's author."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import msgspec
import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table

from reyna.content import Derived, ProcessorSpec, Progress, Projection, Readiness, Source, Tx
from reyna.errors import Invalid, Permanent
from reyna.log.record import Record
from reyna.settings import Settings
from reyna.testing import History, attempt, folded, given

metadata = MetaData()
texts = Table(
    "texts",
    metadata,
    Column("blob_id", String(64), primary_key=True),
    Column("place", Integer, nullable=False),
)


class Texts(Projection):
    """A row for each blob, with its seq."""

    name = "texts"
    version = 1
    kinds = frozenset({"blob"})
    tables = metadata

    async def apply(self, tx: Tx, records: Sequence[Record]) -> None:
        """Fold them."""
        rows = [{"blob_id": one.entity_id, "place": one.seq} for one in records]
        await tx.upsert(texts, rows)


class PlacesInBatch(Texts):
    """A row for each blob, with its place in the batch: a fold that depends on how it is cut."""

    async def apply(self, tx: Tx, records: Sequence[Record]) -> None:
        """Fold them wrongly."""
        rows = [{"blob_id": one.entity_id, "place": n} for n, one in enumerate(records)]
        await tx.upsert(texts, rows)


class Echo:
    """A processor that tells its settings and gives back what it is told to."""

    spec = ProcessorSpec(
        processor_id="echo",
        name="Echo",
        description="",
        version="1",
        input_schema_id="text-input-v1",
        also_reads=("note-v1",),
        output_schema_id="text-input-v1",
        settings_schema=msgspec.Raw(
            b'{"properties": {"voice": {"enum": ["low", "loud"], "default": "low"}}}'
        ),
    )

    def __init__(self, made: object = None, *, ready: bool = True) -> None:
        self.made = made or {"content": "Echo."}
        self.ready = ready

    def lifespan(self, settings: Settings) -> nullcontext[None]:
        """Nothing to open."""
        return nullcontext()

    def readiness(self) -> Readiness:
        """As it was made."""
        return Readiness(self.ready, "Stand before a wall.")

    async def run(self, source: Source, progress: Progress) -> Derived:
        """Tell, and give back."""
        await progress(source.schema_id)
        await progress(msgspec.json.decode(source.settings)["voice"])
        return Derived(data=msgspec.Raw(msgspec.json.encode(self.made)))


def history() -> History:
    """Two blobs, one changed and put into the trash."""
    past = History()
    past.create("ann", "b1", "text-input-v1", {"content": "One."})
    past.create("ann", "b2", "text-input-v1", {"content": "Two."})
    past.update("ann", "b2", "text-input-v1", {"content": "Three."})
    past.delete("ann", "b2", "text-input-v1")
    return past


async def test_given_events_a_view_has_rows() -> None:
    """Rows are those of the fold, by primary key."""
    async with given(Texts(), history().records) as view:
        assert [tuple(row.values()) for row in await view.rows(texts)] == [("b1", 1), ("b2", 4)]
        assert view.position == 4


async def test_given_refuses_a_fold_that_depends_on_its_batches() -> None:
    """What would be another view after a rebuild does not pass."""
    with pytest.raises(AssertionError, match="all at once"):
        async with given(PlacesInBatch(), history().records):
            pass


async def test_events_of_other_kinds_are_not_given_to_a_view() -> None:
    """A projection gets the kinds that it names, as the projector does it."""

    class Buckets(Texts):
        kinds = frozenset({"bucket"})

    async with folded(Buckets()) as view:
        await view.apply(history().records)
        assert await view.rows(texts) == []


async def test_an_attempt_gives_what_was_made_and_told() -> None:
    """Defaults are filled in, progress is kept, what was made is decoded."""
    made = await attempt(Echo(), {"content": "Ho!"})
    assert made.data == {"content": "Echo."}
    assert made.progress == ("text-input-v1", "low")
    loud = await attempt(Echo(), {"content": "Ho!"}, settings={"voice": "loud"})
    assert loud.progress == ("text-input-v1", "loud")


async def test_an_attempt_may_be_at_any_schema_that_is_read() -> None:
    """A schema that no package ships is given with the attempt."""
    schemas = {"note-v1": {"type": "object", "required": ["note"]}}
    made = await attempt(Echo(), {"note": "Ho!"}, schema_id="note-v1", schemas=schemas)
    assert made.progress[0] == "note-v1"
    with pytest.raises(AssertionError, match="ships note-v1"):
        await attempt(Echo(), {"note": "Ho!"}, schema_id="note-v1")
    with pytest.raises(AssertionError, match="does not read other-v1"):
        await attempt(Echo(), {}, schema_id="other-v1")


async def test_what_a_worker_refuses_an_attempt_refuses() -> None:
    """A wrong source, wrong settings, a wrong result and a processor that is not ready are told."""
    with pytest.raises(AssertionError, match="/content"):
        await attempt(Echo(), {"content": 3})
    with pytest.raises(Invalid):
        await attempt(Echo(), {"content": "Ho!"}, settings={"voice": "shrill"})
    with pytest.raises(AssertionError, match="Not valid under text-input-v1"):
        await attempt(Echo({"style": "dry"}), {"content": "Ho!"})
    with pytest.raises(AssertionError, match="Stand before a wall"):
        await attempt(Echo(ready=False), {"content": "Ho!"})


async def test_what_a_processor_raises_comes_through() -> None:
    """Permanent and Transient are the author's to expect."""

    class Dumb(Echo):
        async def run(self, source: Source, progress: Progress) -> Derived:
            raise Permanent("No voice.")

    with pytest.raises(Permanent, match="No voice"):
        await attempt(Dumb(), {"content": "Ho!"})
