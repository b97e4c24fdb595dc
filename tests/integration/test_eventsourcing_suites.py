"""The suites that `eventsourcing` ships for its own recorders, run against our log.

They were written for other stores by others: what they take for granted, the log must hold.
"""

from __future__ import annotations

import asyncio
from unittest import TestCase
from uuid import UUID, uuid4

import pytest
from eventsourcing.persistence import IntegrityError, StoredEvent, Tracking
from eventsourcing.tests import application, persistence

from tests.integration import eventsourcing_adapter as adapter
from tests.integration.eventsourcing_adapter import (
    Factory,
    LogAggregateRecorder,
    LogApplicationRecorder,
    LogThread,
    Recorded,
    ViewsTrackingRecorder,
)


class OnOurLog(TestCase):
    """Gives every test a fresh log."""

    def setUp(self) -> None:
        super().setUp()
        self.thread = LogThread()
        self.addCleanup(self.thread.stop)
        self.thread.start()


class TestAggregateRecorder(OnOurLog, persistence.AggregateRecorderTestCase):
    """Sequences of one aggregate: versions unique, writes whole, reads by version."""

    def create_recorder(self) -> LogAggregateRecorder:
        return LogAggregateRecorder(self.thread, Recorded)


class TestApplicationRecorder(
    OnOurLog, persistence.ApplicationRecorderTestCase[LogApplicationRecorder]
):
    """The log as one sequence of everything, written and read by many threads."""

    EXPECT_CONTIGUOUS_NOTIFICATION_IDS = False

    def create_recorder(self) -> LogApplicationRecorder:
        return LogApplicationRecorder(self.thread, Recorded)

    def test_insert_subscribe(self) -> None:
        """The suite's own test of following, which a recorder must ask for."""
        self.optional_test_insert_subscribe()


class TestNonInterleaving(OnOurLog, persistence.NonInterleavingNotificationIDsBaseCase):
    """Events written together stand together, whoever else writes."""

    def create_recorder(self) -> LogApplicationRecorder:
        return LogApplicationRecorder(self.thread, Recorded)


class TestTrackingRecorder(OnOurLog, persistence.TrackingRecorderTestCase):
    """A projection's checkpoint only moves forward, and each step is taken once."""

    def create_recorder(self) -> ViewsTrackingRecorder:
        return ViewsTrackingRecorder(self.thread)

    def test_of_two_moves_from_one_place_one_is_made(self) -> None:
        """Who read the same position but comes second is refused: the suite does not notice."""
        recorder = self.create_recorder()
        recorder.insert_tracking(Tracking("upstream", 10))
        found = self.thread.call(self.thread.views.checkpoint("upstream"))
        assert found is not None
        self.thread.call(recorder.move_from(found, 11))
        with pytest.raises(IntegrityError):
            self.thread.call(recorder.move_from(found, 12))
        assert recorder.max_tracking_id("upstream") == 11


class TestExampleApplication(OnOurLog, application.ExampleApplicationTestCase):
    """The library's example application, with snapshots, on our log."""

    expected_factory_topic = f"{adapter.__name__}:Factory"

    @pytest.fixture(autouse=True)
    def names_our_factory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PERSISTENCE_MODULE", adapter.__name__)

    def setUp(self) -> None:
        super().setUp()
        Factory.current = self.thread
        self.addCleanup(setattr, Factory, "current", None)


class TestWholeOrNothing(OnOurLog):
    """What the suites do not notice."""

    def test_of_two_writes_at_once_one_is_stored_whole(self) -> None:
        """Of the other, which also has several events, nothing is stored."""
        recorder = LogApplicationRecorder(self.thread, Recorded)
        for number in range(1, 21):
            self.thread.call(both(recorder, uuid4()))
            states = [event.state for event in recorder.select_notifications(None, 100)]
            assert len(states) == 3 * number
            assert set(states[-3:]) in ({b"one"}, {b"other"})


async def both(recorder: LogApplicationRecorder, aggregate: UUID) -> None:
    """Write twice at the same time; one fails."""
    outcomes = await asyncio.gather(
        recorder.insert(events(aggregate, b"one", 3)),
        recorder.insert(events(aggregate, b"other", 3)),
        return_exceptions=True,
    )
    assert {type(outcome) for outcome in outcomes} == {list, IntegrityError}


def events(aggregate: UUID, state: bytes, number: int) -> list[StoredEvent]:
    """The first events of an aggregate."""
    return [StoredEvent(aggregate, version, "topic", state) for version in range(number)]
