"""Whose turn it is: limits hold at every moment, users take turns, nobody is left waiting."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from reyna.runtime.lanes import WAITING, Lanes, Limits, Turn

LIMITS = Limits(places=4, per_user=3, per_backfiller=2)


def offered(lanes: Lanes[int], owner: str, *items: int, backfilled: bool = False) -> None:
    """Let items wait."""
    for item in items:
        assert lanes.offer(owner, item, backfilled=backfilled)


def taken(lanes: Lanes[int]) -> list[Turn[int]]:
    """All that may be worked on now."""
    turns: list[Turn[int]] = []
    while (turn := lanes.take()) is not None:
        turns.append(turn)
    return turns


def test_users_take_turns() -> None:
    """However much one waits for, others come in between."""
    lanes = Lanes[int](Limits(places=1, per_user=1, per_backfiller=1))
    offered(lanes, "ann", 1, 2, 3)
    offered(lanes, "bob", 4)
    order: list[int] = []
    while (turn := lanes.take()) is not None:
        order.append(turn.item)
        lanes.finish(turn)
    assert order == [1, 4, 2, 3]


def test_one_user_leaves_a_place() -> None:
    """A user has no more than so many places, and what comes of others goes past."""
    lanes = Lanes[int](LIMITS)
    offered(lanes, "ann", 1, 2, 3, 4)
    assert [turn.item for turn in taken(lanes)] == [1, 2, 3]
    assert lanes.has_place
    offered(lanes, "bob", 5)
    assert [turn.item for turn in taken(lanes)] == [5]
    assert not lanes.has_place


def test_backfills_leave_a_place() -> None:
    """A backfill has fewer places than its user, and all of them together not the last one."""
    lanes = Lanes[int](LIMITS)
    for number, owner in enumerate(("ann", "bob", "eve")):
        offered(lanes, owner, *range(number * 3, number * 3 + 3), backfilled=True)
    working = taken(lanes)
    assert Counter(turn.owner for turn in working) == {"ann": 1, "bob": 1, "eve": 1}
    offered(lanes, "ann", 99)
    assert [turn.item for turn in taken(lanes)] == [99]


def test_single_runs_go_before_a_users_own_backfill() -> None:
    """What a user asks for alone does not wait for that user's backfill."""
    lanes = Lanes[int](Limits(places=1, per_user=1, per_backfiller=1))
    offered(lanes, "ann", 1, 2, backfilled=True)
    offered(lanes, "ann", 3)
    first = lanes.take()
    assert first is not None
    assert (first.item, first.backfilled) == (3, False)


def test_too_many_are_turned_away() -> None:
    """Only so many of a user wait here, of each sort."""
    lanes = Lanes[int](LIMITS)
    offered(lanes, "ann", *range(WAITING))
    assert not lanes.offer("ann", 99, backfilled=False)
    assert lanes.offer("ann", 99, backfilled=True)
    assert lanes.offer("bob", 99, backfilled=False)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), max_size=80),
    st.builds(Limits, st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)),
)
def test_limits_always_hold(steps: list[tuple[str, bool, bool]], limits: Limits) -> None:
    """Whatever comes and ends in whatever order, no limit is passed and nothing is lost."""
    lanes = Lanes[int](limits)
    waiting = 0
    working: list[Turn[int]] = []
    for number, (owner, backfilled, finish) in enumerate(steps):
        waiting += lanes.offer(owner, number, backfilled=backfilled)
        turns = taken(lanes)
        waiting -= len(turns)
        working += turns
        assert len(working) <= limits.places
        assert max(Counter(turn.owner for turn in working).values()) <= limits.per_user
        assert sum(turn.backfilled for turn in working) <= limits.backfilled
        if finish and working:
            lanes.finish(working.pop(0))
            turns = taken(lanes)
            waiting -= len(turns)
            working += turns
    while working:
        lanes.finish(working.pop())
        turns = taken(lanes)
        waiting -= len(turns)
        working += turns
    assert waiting == 0
