"""Runs and instances: each rule given, when and then; and what of their events is enough."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reyna.domain import instance, processor
from reyna.domain.blob import BlobContent, BlobCreated, BlobUpdated
from reyna.domain.event import Event, Opaque
from reyna.domain.instance import Instance, InstanceRules, ProcessorInstanceChanged, asks
from reyna.domain.processor import (
    BackfillRequested,
    ProcessorCancelled,
    ProcessorCompleted,
    ProcessorFailed,
    ProcessorRequested,
    ProcessorStarted,
    Run,
    Status,
)
from reyna.domain.run_rules import RunRules
from reyna.errors import Conflict
from tests.events import blob_created, blob_updated

OF: dict[str, Any] = {"run_id": "r", "processor_id": "p", "blob_id": "b", "bucket_ids": ("k",)}
SETTINGS = msgspec.Raw(b'{"style":"dry"}')
REQUESTED = ProcessorRequested(**OF, settings=SETTINGS, backfill_id="f")
STARTED = ProcessorStarted(**OF, attempt=2, source_seq=1)
COMPLETED = ProcessorCompleted(**OF, derived_id="d", attempts=2)
FAILED = ProcessorFailed(**OF, attempts=5, error="No.", permanent=False)
CANCELLED = ProcessorCancelled(**OF)
EVENTS: tuple[Event, ...] = (REQUESTED, STARTED, COMPLETED, FAILED, CANCELLED)
WAITING = Run(
    run_id="r",
    processor_id="p",
    blob_id="b",
    bucket_ids=("k",),
    status="queued",
    attempts=0,
    seq=0,
)


def after(*events: Event | Opaque) -> Run | None:
    """The run after events, numbered from 1."""
    run: Run | None = None
    for seq, event in enumerate(events, start=1):
        run = processor.fold(run, "r", event, seq)
    return run


@pytest.mark.parametrize(
    ("events", "status", "attempts"),
    [
        ((REQUESTED,), "queued", 0),
        ((STARTED,), "running", 2),
        ((STARTED, COMPLETED), "completed", 2),
        ((STARTED, FAILED), "failed", 5),
        ((STARTED, CANCELLED), "cancelled", 2),
        ((STARTED, FAILED, REQUESTED), "queued", 0),
        ((CANCELLED, COMPLETED), "completed", 2),
    ],
)
def test_a_run_is_what_happened_last(
    events: tuple[Event, ...], status: Status, attempts: int
) -> None:
    """Each event of a run says what it is now; one that this version does not know only counts."""
    run = after(*events)
    assert run is not None
    assert (run.status, run.attempts, run.seq) == (status, attempts, len(events))
    again = after(*events, Opaque(b"{}"))
    assert again == msgspec.structs.replace(run, seq=len(events) + 1)


@given(st.lists(st.sampled_from(EVENTS), max_size=12))
def test_the_last_of_each_kind_is_enough(events: list[Event]) -> None:
    """A run is known from the last event of each kind, in their order, however many there were."""
    whole: Run | None = None
    short: Run | None = None
    last = {type(event): seq for seq, event in enumerate(events)}
    for seq, event in enumerate(events):
        whole = processor.fold(whole, "r", event, seq)
        if last[type(event)] == seq:
            short = processor.fold(short, "r", event, seq)
    assert whole == short


@pytest.mark.parametrize("events", [(FAILED,), (CANCELLED,), (STARTED, FAILED)])
def test_what_did_not_succeed_is_tried_again(events: tuple[Event, ...]) -> None:
    """A failed or cancelled run is asked for again, for the same blob."""
    rules = RunRules("u", "r", after(*events))
    rules.retry()
    (decided,) = rules.decided()
    assert decided.event == ProcessorRequested(**OF)


@pytest.mark.parametrize(
    "asked", [REQUESTED, BackfillRequested(run_id="r", processor_id="p", bucket_id="k")]
)
def test_a_retry_asks_for_the_same(asked: Event) -> None:
    """What was asked for by hand, its settings too, is asked for again."""
    rules = RunRules("u", "r", after(asked, CANCELLED))
    rules.retry()
    (decided,) = rules.decided()
    assert decided.event == msgspec.structs.replace(asked, bucket_ids=("k",))


@pytest.mark.parametrize("events", [(), (REQUESTED,), (STARTED,), (COMPLETED,)])
def test_nothing_else_is_tried_again(events: tuple[Event, ...]) -> None:
    """A run that waits, runs or has succeeded is not tried again."""
    with pytest.raises(Conflict):
        RunRules("u", "r", after(*events)).retry()


@pytest.mark.parametrize("events", [(), (REQUESTED,), (STARTED,), (FAILED, REQUESTED)])
def test_what_has_not_ended_is_cancelled(events: tuple[Event, ...]) -> None:
    """A run that waits or runs is cancelled."""
    rules = RunRules("u", "r", after(*events))
    rules.cancel(WAITING)
    (decided,) = rules.decided()
    assert decided.event == CANCELLED


@pytest.mark.parametrize("event", [COMPLETED, FAILED, CANCELLED])
def test_what_has_ended_is_not_cancelled(event: Event) -> None:
    """A run that has ended stays as it ended."""
    with pytest.raises(Conflict):
        RunRules("u", "r", after(event)).cancel(WAITING)


def test_a_run_is_asked_for_once() -> None:
    """A new run needs a new id."""
    rules = RunRules("u", "r", None)
    rules.request(REQUESTED)
    assert [decided.event for decided in rules.decided()] == [REQUESTED]
    with pytest.raises(Conflict):
        RunRules("u", "r", after(STARTED)).request(REQUESTED)


def test_an_instance_changes_only_when_something_does() -> None:
    """Setting up what is set up already decides nothing."""
    event = ProcessorInstanceChanged(processor_id="p", active=True, settings=SETTINGS)
    rules = InstanceRules("u", "p", Instance(active=True))
    rules.change(event)
    assert [decided.event for decided in rules.decided()] == [event]
    known = instance.fold(Instance(active=False), event, 7)
    assert (known.active, known.settings, known.seq) == (True, SETTINGS, 7)
    again = InstanceRules("u", "p", known)
    again.change(event)
    assert not again.decided()
    assert instance.fold(known, Opaque(b""), 9) == known


ON, OFF = Instance(active=True), Instance(active=False)
AGAIN = Instance(active=True, rerun_on_update=True)
CREATED, UPDATED = blob_created(), blob_updated("x")
TITLED = msgspec.structs.replace(UPDATED, changed=("title",))


@pytest.mark.parametrize(
    ("known", "subscribed", "event", "wanted"),
    [
        (ON, {"blob.created"}, CREATED, True),
        (OFF, {"blob.created"}, CREATED, False),
        (ON, {"blob.derived"}, CREATED, False),
        (ON, {"blob.created"}, blob_created(schema_id="other-v1"), False),
        (ON, {"blob.created"}, UPDATED, False),
        (AGAIN, {"blob.created"}, UPDATED, True),
        (AGAIN, {"blob.created"}, TITLED, False),
        (ON, {"blob.updated"}, TITLED, True),
        (msgspec.structs.replace(AGAIN, active=False), {"blob.created"}, UPDATED, False),
    ],
)
def test_which_events_ask_for_runs(
    known: Instance, subscribed: set[str], event: BlobContent, wanted: bool
) -> None:
    """What is subscribed to asks for a run, and changed data if the instance says so; off: none."""
    assert isinstance(event, BlobCreated | BlobUpdated)
    assert asks(known, subscribed, "text-input-v1", f"blob.{event.VERB}", event) is wanted
