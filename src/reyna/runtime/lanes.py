"""Lanes: whose turn it is. Owns the limits that keep one user from holding up another, or a
backfill from holding up anybody. Pure: nothing here waits.

Users take turns. A user has at most `per_user` places at once and a backfill of theirs less, and
all backfills together leave one place free, so that there is always a way past them.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

# Items of one user that wait here, of each sort; more are put off, so that what comes after them
# can come.
WAITING = 64


class Limits(msgspec.Struct, frozen=True):
    """How many items are worked on at once: of all users, of one, and by backfills of one."""

    places: int
    per_user: int
    per_backfiller: int

    @property
    def backfilled(self) -> int:
        """How many by backfills of all users."""
        return max(self.places - 1, 1)


class Turn(msgspec.Struct, Generic[T], frozen=True):
    """An item that may be worked on."""

    owner: str
    backfilled: bool
    item: T


class Lanes(Generic[T]):
    """What waits and what is worked on, of one queue in one process."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: OrderedDict[str, tuple[deque[T], deque[T]]] = OrderedDict()
        self._working: Counter[str] = Counter()
        self._backfilling: Counter[str] = Counter()

    @property
    def has_place(self) -> bool:
        """Whether a place is free."""
        return self._working.total() < self._limits.places

    def offer(self, owner: str, item: T, *, backfilled: bool) -> bool:
        """Let an item wait for its turn; False if too many of its owner's wait already."""
        lanes = self._waiting.setdefault(owner, (deque(), deque()))
        lane = lanes[backfilled]
        if len(lane) >= WAITING:
            return False
        lane.append(item)
        return True

    def take(self) -> Turn[T] | None:
        """The next item, None while none may be worked on. It has its place until `finish`."""
        if not self.has_place:
            return None
        for owner, (singles, backfilled) in self._waiting.items():
            if self._working[owner] >= self._limits.per_user:
                continue
            if singles:
                return self._begin(Turn(owner, False, singles.popleft()))
            if backfilled and self._may_backfill(owner):
                return self._begin(Turn(owner, True, backfilled.popleft()))
        return None

    def finish(self, turn: Turn[T]) -> None:
        """Free the place of an item."""
        _less(self._working, turn.owner)
        if turn.backfilled:
            _less(self._backfilling, turn.owner)

    def _may_backfill(self, owner: str) -> bool:
        return (
            self._backfilling[owner] < self._limits.per_backfiller
            and self._backfilling.total() < self._limits.backfilled
        )

    def _begin(self, turn: Turn[T]) -> Turn[T]:
        self._working[turn.owner] += 1
        if turn.backfilled:
            self._backfilling[turn.owner] += 1
        self._waiting.move_to_end(turn.owner)
        if not any(self._waiting[turn.owner]):
            del self._waiting[turn.owner]
        return turn


def _less(counter: Counter[str], owner: str) -> None:
    counter[owner] -= 1
    if not counter[owner]:
        del counter[owner]
