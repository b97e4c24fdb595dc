"""Circuit breakers: when a provider fails again and again, it is left alone for a while. Pure but
for the clock it is given.

Each user of a processor has a circuit of their own, for it may be their key or their endpoint that
is at fault; when several users' are open and nobody has been answered since they began to fail, the
fault is the provider's and nobody's runs are tried.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import msgspec

# Failures in a row that open a circuit, and circuits that stop a processor.
FAILURES = 5
SHARED = 2
# Seconds that a circuit is open at first; doubled with each probe that fails.
OPEN_FOR = 15.0
MAX_OPEN_FOR = 300.0
# Seconds after which a probe that was never heard of again is another's to make.
PROBE_WITHIN = 60.0
USERS = 10_000


class _Circuit(msgspec.Struct):
    failures: int = 0
    failing_since: float = 0.0
    opened: int = 0
    closed_until: float = 0.0

    def is_open(self, now: float) -> bool:
        return self.opened > 0 and now < self.closed_until


class Circuits:
    """The circuits of one processor in one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._by_owner: dict[str, _Circuit] = {}
        self._answered = -math.inf

    @property
    def open(self) -> bool:
        """Whether any circuit is open."""
        now = self._clock()
        return any(circuit.is_open(now) for circuit in self._by_owner.values())

    def wait(self, owner: str) -> float:
        """Seconds that an owner's next attempt has to wait, 0 for none. Who need not wait on an
        open circuit whose time is up makes the one probe.
        """
        now = self._clock()
        mine = self._by_owner.get(owner)
        if mine is not None and mine.opened:
            if mine.is_open(now):
                return mine.closed_until - now
            mine.closed_until = now + PROBE_WITHIN
            return 0.0
        left = sorted(
            circuit.closed_until - now
            for circuit in self._by_owner.values()
            if circuit.is_open(now) and circuit.failing_since > self._answered
        )
        return left[0] if len(left) >= SHARED else 0.0

    def succeeded(self, owner: str) -> None:
        """The provider answered."""
        self._answered = self._clock()
        self._by_owner.pop(owner, None)

    def failed(self, owner: str) -> None:
        """The provider failed in a way that may pass."""
        if owner not in self._by_owner and len(self._by_owner) >= USERS:
            self._by_owner.pop(next(iter(self._by_owner)))
        circuit = self._by_owner.setdefault(owner, _Circuit())
        if not circuit.failures:
            circuit.failing_since = self._clock()
        circuit.failures += 1
        if circuit.opened or circuit.failures >= FAILURES:
            wait = min(OPEN_FOR * 2.0**circuit.opened, MAX_OPEN_FOR)
            circuit.opened = min(circuit.opened + 1, 16)
            circuit.closed_until = self._clock() + wait
