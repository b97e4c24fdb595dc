"""The view of runs: its fold, and what its routes answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections.runs import projection
from projections.runs.routes import get_health, get_run, list_runs
from reyna.api.runs import ProcessorHealth, Run, RunPage
from reyna.api.views import CallersView, encode_cursor
from reyna.content import Readiness
from reyna.domain.blob import BlobCreated, BlobDeleted, BlobUpdated
from reyna.domain.instance import ProcessorInstanceChanged
from reyna.domain.processor import (
    BackfillRequested,
    ProcessorCancelled,
    ProcessorCompleted,
    ProcessorFailed,
    ProcessorRegistered,
    ProcessorRequested,
    ProcessorStarted,
    RunEvent,
    run_id_of,
)
from reyna.errors import Malformed, NotFound
from reyna.ids import rfc3339
from tests.folding import History, folded, time_of

pytestmark = pytest.mark.usefixtures("folded_on_each")

DATA = msgspec.Raw(b'{"content":"x"}')
NOTES = "note-v1"
STEPS = (
    "drop",
    "update",
    "register",
    "switch",
    "requested",
    "started",
    "completed",
    "failed",
    "cancelled",
)


def registered(schema_id: str = NOTES, *, active: bool = True) -> ProcessorRegistered:
    """A processor that takes new blobs of a schema."""
    return ProcessorRegistered(
        name="Summary",
        description="Says it in short.",
        version="1",
        input_schema_id=schema_id,
        output_schema_id="summary-v1",
        subscribe_events=("blob.created",),
        settings_schema=msgspec.Raw(b'{"type":"object"}'),
        default_active=active,
    )


class Scribe:
    """Writes a history of blobs, processors and runs."""

    def __init__(self) -> None:
        self.history = History()

    def register(self, processor_id: str, event: ProcessorRegistered | None = None) -> None:
        """Make a processor known."""
        self.history.add("system", processor_id, event or registered())

    def drop(self, blob_id: str, owner: str = "ann", schema_id: str = NOTES) -> str:
        """Make a blob; the id of the run that it would ask of the processor `sum`."""
        event = BlobCreated(schema_id=schema_id, bucket_ids=("k",), data=DATA)
        return run_id_of("sum", self.history.add(owner, blob_id, event).meta.id)

    def run(self, event: RunEvent, owner: str = "ann") -> None:
        """Say something of a run."""
        self.history.add(owner, event.run_id, event)


def started(run_id: str, attempt: int = 1) -> ProcessorStarted:
    """An attempt at a run over the blob x."""
    return ProcessorStarted(
        run_id=run_id,
        processor_id="sum",
        blob_id="x",
        bucket_ids=("k",),
        attempt=attempt,
        source_seq=2,
    )


def completed(run_id: str, attempts: int = 1) -> ProcessorCompleted:
    """The good end of a run over the blob x."""
    return ProcessorCompleted(
        run_id=run_id,
        processor_id="sum",
        blob_id="x",
        bucket_ids=("k",),
        derived_id="y",
        attempts=attempts,
        tokens_in=7,
        tokens_out=70,
        seconds=1.5,
    )


def failed(run_id: str, attempts: int = 5) -> ProcessorFailed:
    """The bad end of a run over the blob x."""
    return ProcessorFailed(
        run_id=run_id,
        processor_id="sum",
        blob_id="x",
        bucket_ids=("k",),
        attempts=attempts,
        error="The provider does not answer.",
        permanent=False,
    )


def requested(run_id: str, backfill_id: str | None = None) -> ProcessorRequested:
    """A run over the blob x, asked for by hand or by a backfill."""
    return ProcessorRequested(
        run_id=run_id,
        processor_id="sum",
        blob_id="x",
        bucket_ids=("k",),
        backfill_id=backfill_id,
    )


def cancelled(run_id: str) -> ProcessorCancelled:
    """The end of a run over the blob x, as its owner wanted it."""
    return ProcessorCancelled(run_id=run_id, processor_id="sum", blob_id="x", bucket_ids=("k",))


def switched(*, active: bool, rerun: bool = False) -> ProcessorInstanceChanged:
    """The processor `sum`, switched on or off."""
    return ProcessorInstanceChanged(processor_id="sum", active=active, rerun_on_update=rerun)


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Registrations, blobs, and runs that nothing or something asked for, in any order."""
    scribe = Scribe()
    asked = ["nobodys"]
    for step in range(draw(st.integers(0, 40))):
        run_id = draw(st.sampled_from(asked))
        match draw(st.sampled_from(STEPS)):
            case "drop":
                asked.append(
                    scribe.drop(f"b{step}", schema_id=draw(st.sampled_from([NOTES, "z-v1"])))
                )
            case "register":
                scribe.register(
                    draw(st.sampled_from(["sum", "other"])), registered(active=draw(st.booleans()))
                )
            case "switch":
                event = switched(active=draw(st.booleans()), rerun=draw(st.booleans()))
                scribe.history.add("ann", "sum", event)
            case "update":
                changed = BlobUpdated(schema_id=NOTES, data=DATA, changed=("data",))
                asked.append(run_id_of("sum", scribe.history.add("ann", "x", changed).meta.id))
            case "requested":
                scribe.run(requested(run_id))
            case "cancelled":
                scribe.run(cancelled(run_id))
            case "started":
                scribe.run(started(run_id, step))
            case "completed":
                scribe.run(completed(run_id, step))
            case _:
                scribe.run(failed(run_id, step))
    return scribe.history


async def listed(view: CallersView, processor_id: str = "sum", **filters: object) -> list[Run]:
    """The runs of all pages, of two each, that GET processors/{processor_id}/runs answers."""
    found: list[Run] = []
    cursor = None
    while True:
        page = await list_runs.fn(view, processor_id, limit=2, cursor=cursor, **filters)
        assert isinstance(page, RunPage)
        found.extend(page.items)
        cursor = page.next_cursor
        if cursor is None:
            return found
        assert len(page.items) == 2


async def run_after(history: History, run_id: str) -> Run:
    """The run as a history leaves it."""
    async with folded(projection) as view:
        await view.apply(history.records)
        async with view.seen_by("ann") as ann:
            run = await get_run.fn(ann, run_id)
    assert isinstance(run, Run)
    return run


@settings(max_examples=30)
@given(histories(), st.sets(st.integers(0, 60)))
async def test_batches_do_not_matter(history: History, cuts: set[int]) -> None:
    """However a history is cut into batches, the rows are the same to the byte."""
    records = history.records
    async with folded(projection) as whole, folded(projection) as cut, folded(projection) as single:
        await whole.apply(records)
        await cut.apply(records, cuts)
        await single.apply(records, range(len(records)))
        assert await whole.digests() == await cut.digests() == await single.digests()


async def test_run_tells_all_its_fields() -> None:
    """A run goes from queued over running to completed, and every field follows."""
    scribe = Scribe()
    scribe.register("sum")
    run_id = scribe.drop("x")
    queued = Run(
        run_id=run_id,
        processor_id="sum",
        user_id="ann",
        blob_id="x",
        bucket_ids=("k",),
        status="queued",
        attempts=0,
        error=None,
        permanent=None,
        derived_id=None,
        tokens_in=None,
        tokens_out=None,
        cost=None,
        seconds=None,
        detail="No worker of this processor is running.",
        backfill_id=None,
        total=None,
        done=None,
        failed=None,
        source_seq=2,
        created_at=time_of(2),
        started_at=None,
        finished_at=None,
        seq=2,
    )
    assert await run_after(scribe.history, run_id) == queued
    scribe.run(started(run_id))
    running = msgspec.structs.replace(
        queued, status="running", attempts=1, detail=None, started_at=time_of(3), seq=3
    )
    assert await run_after(scribe.history, run_id) == running
    scribe.run(completed(run_id))
    assert await run_after(scribe.history, run_id) == msgspec.structs.replace(
        running,
        status="completed",
        derived_id="y",
        tokens_in=7,
        tokens_out=70,
        seconds=1.5,
        finished_at=time_of(4),
        seq=4,
    )


async def test_finished_runs_stay_until_started_again() -> None:
    """What a lost worker says later changes nothing; a newer start begins anew."""
    scribe = Scribe()
    scribe.register("sum")
    run_id = scribe.drop("x")
    scribe.run(started(run_id))
    scribe.run(completed(run_id))
    done = await run_after(scribe.history, run_id)
    scribe.run(failed(run_id))
    assert await run_after(scribe.history, run_id) == msgspec.structs.replace(done, seq=5)
    scribe.run(started(run_id, 2))
    again = await run_after(scribe.history, run_id)
    assert (again.status, again.derived_id, again.finished_at) == ("running", None, None)
    scribe.run(failed(run_id, 2))
    given_up = await run_after(scribe.history, run_id)
    assert (given_up.status, given_up.attempts) == ("failed", 2)
    assert given_up.error == "The provider does not answer."


async def test_queued_is_what_the_queue_takes() -> None:
    """A run is queued for each event of the type and schema that an active processor takes."""
    scribe = Scribe()
    scribe.drop("before")
    scribe.register("sum")
    scribe.register("also")
    scribe.register("off", registered(active=False))
    scribe.register("others", registered("other-v1"))
    scribe.drop("x")
    scribe.drop("unfit", schema_id="third-v1")
    history = scribe.history
    changed = BlobUpdated(schema_id=NOTES, data=DATA, changed=("data",))
    history.add("ann", "x", changed)
    history.add("ann", "x", BlobDeleted(schema_id=NOTES))
    history.add("ann", "mine", registered())
    scribe.drop("later")
    async with folded(projection) as view:
        await view.apply(history.records)
        async with view.seen_by("ann") as ann:
            for processor_id in ("sum", "also"):
                runs = await listed(ann, processor_id)
                assert [run.blob_id for run in runs] == ["later", "x"]
            for processor_id in ("off", "others"):
                assert await listed(ann, processor_id) == []
            with pytest.raises(NotFound):
                await listed(ann, "mine")


async def test_run_that_no_event_asked_for_appears_when_it_starts() -> None:
    """A run of a processor that is off by default is there from its first attempt on."""
    scribe = Scribe()
    scribe.register("sum", registered(active=False))
    scribe.drop("x")
    scribe.run(started("by-hand"))
    run = await run_after(scribe.history, "by-hand")
    assert (run.status, run.blob_id, run.bucket_ids) == ("running", "x", ("k",))
    assert run.created_at == run.started_at == time_of(3)


async def test_runs_are_listed_newest_first() -> None:
    """Pages give each of the caller's runs that fits once, the newest first."""
    scribe = Scribe()
    scribe.register("sum")
    ids = [scribe.drop(f"b{number}") for number in range(5)]
    scribe.drop("x", owner="eve")
    scribe.run(started(ids[1]))
    async with folded(projection) as view:
        await view.apply(scribe.history.records)
        async with view.seen_by("ann") as ann:
            assert [run.run_id for run in await listed(ann)] == ids[::-1]
            assert [run.run_id for run in await listed(ann, status="running")] == [ids[1]]
            assert [run.run_id for run in await listed(ann, blob_id="b3")] == [ids[3]]
            assert await listed(ann, status="failed") == []
        async with view.seen_by("eve") as eve:
            assert [run.blob_id for run in await listed(eve)] == ["x"]
            with pytest.raises(NotFound):
                await get_run.fn(eve, ids[0])


async def test_queued_runs_say_what_they_wait_for() -> None:
    """The advice of a processor that is not ready stands with its queued runs, and no others."""
    scribe = Scribe()
    scribe.register("sum")
    waiting, running = scribe.drop("a"), scribe.drop("b")
    scribe.run(started(running))
    advice = Readiness(ready=False, advice="Set OPENAI_API_KEY.")
    async with folded(projection) as view:
        await view.apply(scribe.history.records)
        async with view.seen_by("ann", advice) as ann:
            assert (await get_run.fn(ann, waiting)).detail == "Set OPENAI_API_KEY."
            assert (await get_run.fn(ann, running)).detail is None
        async with view.seen_by("ann", Readiness(ready=True, advice="A demo model.")) as ann:
            assert (await get_run.fn(ann, waiting)).detail is None


async def test_switched_off_takes_back_what_waits() -> None:
    """Switching off takes back queued runs that events asked for, and no others; events of an
    instance that is off ask for none, those after it was switched on again do.
    """
    scribe = Scribe()
    scribe.register("sum")
    waiting, running = scribe.drop("waits"), scribe.drop("runs")
    scribe.drop("waits", owner="eve")
    scribe.run(started(running))
    scribe.run(requested("by-hand"))
    scribe.history.add("ann", "sum", switched(active=False))
    while_off = scribe.drop("off")
    scribe.history.add("ann", "sum", switched(active=True))
    after = scribe.drop("on")
    async with folded(projection) as view:
        await view.apply(scribe.history.records, [2, 5])
        async with view.seen_by("ann") as ann:
            assert [run.run_id for run in await listed(ann)] == [after, "by-hand", running]
            for run_id in (waiting, while_off):
                with pytest.raises(NotFound):
                    await get_run.fn(ann, run_id)
        async with view.seen_by("eve") as eve:
            assert [run.status for run in await listed(eve)] == ["queued"]


async def test_a_worker_that_was_faster_than_the_switch_is_seen() -> None:
    """A run that starts after its instance was switched off is there all the same."""
    scribe = Scribe()
    scribe.register("sum")
    run_id = scribe.drop("x")
    scribe.history.add("ann", "sum", switched(active=False))
    scribe.run(started(run_id))
    assert (await run_after(scribe.history, run_id)).status == "running"


async def test_updates_ask_for_runs_of_those_who_want_it() -> None:
    """With `rerun_on_update` a change of the data asks for another run; one of a title does not."""
    scribe = Scribe()
    scribe.register("sum")
    scribe.history.add("ann", "sum", switched(active=True, rerun=True))
    first = scribe.drop("x")
    titled = BlobUpdated(schema_id=NOTES, data=DATA, title="T", changed=("title",))
    scribe.history.add("ann", "x", titled)
    changed = BlobUpdated(schema_id=NOTES, data=DATA, changed=("data", "title"))
    second = run_id_of("sum", scribe.history.add("ann", "x", changed).meta.id)
    scribe.history.add("eve", "x", changed)
    async with folded(projection) as view:
        await view.apply(scribe.history.records)
        async with view.seen_by("ann") as ann:
            assert [run.run_id for run in await listed(ann)] == [second, first]
        async with view.seen_by("eve") as eve:
            assert await listed(eve) == []


async def test_retried_runs_are_queued_again() -> None:
    """A run that failed, and is asked for again, waits anew; its last request is its source."""
    scribe = Scribe()
    scribe.register("sum")
    run_id = scribe.drop("x")
    scribe.run(started(run_id, 5))
    scribe.run(failed(run_id))
    assert (await run_after(scribe.history, run_id)).permanent is False
    scribe.run(requested(run_id))
    run = await run_after(scribe.history, run_id)
    assert (run.status, run.attempts, run.error, run.started_at) == ("queued", 0, None, None)
    assert (run.permanent, run.source_seq, run.created_at) == (None, 5, time_of(2))


async def test_a_cancellation_can_come_too_late() -> None:
    """A cancelled run has ended; that it was completed all the same is told when it is."""
    scribe = Scribe()
    scribe.register("sum")
    run_id = scribe.drop("x")
    scribe.run(cancelled(run_id))
    run = await run_after(scribe.history, run_id)
    assert (run.status, run.finished_at) == ("cancelled", time_of(3))
    scribe.run(completed(run_id))
    assert (await run_after(scribe.history, run_id)).status == "completed"
    scribe.run(cancelled(run_id))
    assert (await run_after(scribe.history, run_id)).status == "completed"


async def test_a_backfill_says_how_far_it_has_come() -> None:
    """A backfill counts its own runs by how they ended, and no others."""
    scribe = Scribe()
    scribe.register("sum")
    asked = BackfillRequested(run_id="all", processor_id="sum", bucket_id="k", bucket_ids=("k",))
    scribe.run(asked)
    begun = ProcessorStarted(
        run_id="all", processor_id="sum", bucket_ids=("k",), attempt=1, source_seq=2, total=4
    )
    scribe.run(begun)
    for number in range(3):
        scribe.run(requested(f"c{number}", "all"))
        scribe.run(started(f"c{number}"))
    scribe.run(completed("c0"))
    scribe.run(failed("c1"))
    scribe.run(requested("alone"))
    scribe.run(completed("alone"))
    run = await run_after(scribe.history, "all")
    assert (run.status, run.blob_id, run.bucket_ids) == ("running", None, ("k",))
    assert (run.total, run.done, run.failed) == (4, 1, 1)
    async with folded(projection) as view:
        await view.apply(scribe.history.records)
        async with view.seen_by("ann") as ann:
            children = await listed(ann, backfill_id="all")
            assert [run.run_id for run in children] == ["c2", "c1", "c0"]
            assert {run.backfill_id for run in children} == {"all"}
            assert {run.total for run in children} == {None}


async def test_health_counts_everybodys_runs() -> None:
    """Health tells what waits, what runs, and what ended in the last hour, with its run times."""
    scribe = Scribe()
    scribe.register("sum")
    scribe.drop("x")
    scribe.run(started(scribe.drop("y", owner="eve")), owner="eve")
    done = scribe.drop("z")
    scribe.run(started(done))
    scribe.run(completed(done))
    recent = rfc3339(datetime.now(UTC) - timedelta(minutes=5))
    later = rfc3339(datetime.now(UTC) - timedelta(minutes=4))
    ready = Readiness(ready=True, resting=True, last_seen_at=recent)
    for number, event in enumerate((started("r"), completed("r"), failed("s"))):
        record = scribe.history.add("ann", event.run_id, event)
        meta = msgspec.structs.replace(record.meta, time=later if number else recent)
        scribe.history.records[-1] = msgspec.structs.replace(record, meta=meta)
    async with folded(projection) as view:
        await view.apply(scribe.history.records)
        async with view.seen_by("bob", ready) as bob:
            found = await get_health.fn(bob, "sum")
    assert isinstance(found, ProcessorHealth)
    assert (found.status, found.resting, found.last_seen_at) == ("degraded", True, recent)
    assert (found.queued, found.running, found.oldest_queued_at) == (1, 1, time_of(2))
    assert (found.completed_last_hour, found.failed_last_hour) == (1, 1)
    assert found.p50_seconds == found.p99_seconds
    assert 59 < (found.p50_seconds or 0) < 61


@pytest.mark.parametrize("wrong", ["a.b", "*", ">", "", "a" * 65, "a\0"])
async def test_wrong_ids_are_malformed(wrong: str) -> None:
    """What cannot be an id is refused as such, in a path, a query and a cursor."""
    scribe = Scribe()
    scribe.register("sum")
    async with folded(projection) as view:
        await view.apply(scribe.history.records)
        async with view.seen_by("ann") as ann:
            for route in (get_health, list_runs, get_run):
                with pytest.raises(Malformed):
                    await route.fn(ann, wrong)
            with pytest.raises(Malformed):
                await list_runs.fn(ann, "sum", blob_id=wrong)
            with pytest.raises(Malformed):
                await list_runs.fn(ann, "sum", backfill_id=wrong)


@pytest.mark.parametrize(
    "cursor", ["!", encode_cursor("a"), encode_cursor(-1), encode_cursor(2**63)]
)
async def test_foreign_cursor_is_malformed(cursor: str) -> None:
    """A cursor that was not made here is refused."""
    scribe = Scribe()
    scribe.register("sum")
    async with folded(projection) as view:
        await view.apply(scribe.history.records)
        async with view.seen_by("ann") as ann:
            with pytest.raises(Malformed):
                await list_runs.fn(ann, "sum", cursor=cursor)


async def test_unknown_things_are_not_found() -> None:
    """A processor or run that never was is not found."""
    async with folded(projection) as view, view.seen_by("ann") as ann:
        for route in (get_health, list_runs, get_run):
            with pytest.raises(NotFound):
                await route.fn(ann, "nothing")
