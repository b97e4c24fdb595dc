"""Circuit breakers: open after failures in a row, one probe, and no user's fault is another's."""

from __future__ import annotations

from reyna.runtime.circuits import FAILURES, MAX_OPEN_FOR, OPEN_FOR, PROBE_WITHIN, Circuits


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def failing(circuits: Circuits, owner: str, times: int = FAILURES) -> None:
    """So many failures in a row."""
    for _ in range(times):
        circuits.failed(owner)


def test_failures_in_a_row_open_it() -> None:
    """Only failures in a row open a circuit, and then for a while."""
    circuits = Circuits(Clock())
    failing(circuits, "ann", FAILURES - 1)
    circuits.succeeded("ann")
    failing(circuits, "ann", FAILURES - 1)
    assert circuits.wait("ann") == 0
    assert not circuits.open
    circuits.failed("ann")
    assert circuits.wait("ann") == OPEN_FOR
    assert circuits.open


def test_one_probe_goes_through() -> None:
    """When its time is up one attempt is made; its success closes the circuit, its failure opens
    it for twice as long.
    """
    clock = Clock()
    circuits = Circuits(clock)
    failing(circuits, "ann")
    clock.now += OPEN_FOR
    assert circuits.wait("ann") == 0
    assert circuits.wait("ann") == PROBE_WITHIN
    circuits.failed("ann")
    assert circuits.wait("ann") == 2 * OPEN_FOR
    clock.now += 2 * OPEN_FOR
    assert circuits.wait("ann") == 0
    circuits.succeeded("ann")
    assert circuits.wait("ann") == 0
    assert not circuits.open


def test_a_lost_probe_is_made_again() -> None:
    """A probe of which nothing more is heard does not keep the circuit open for ever."""
    clock = Clock()
    circuits = Circuits(clock)
    failing(circuits, "ann")
    clock.now += OPEN_FOR
    assert circuits.wait("ann") == 0
    clock.now += PROBE_WITHIN
    assert circuits.wait("ann") == 0


def test_it_is_never_open_for_too_long() -> None:
    """However often probes fail, there is a longest time."""
    clock = Clock()
    circuits = Circuits(clock)
    for _ in range(40):
        circuits.failed("ann")
    assert circuits.wait("ann") == MAX_OPEN_FOR


def test_one_users_fault_is_nobody_elses() -> None:
    """One user's open circuit stops no other; those of several do, for the fault is shared."""
    circuits = Circuits(Clock())
    failing(circuits, "ann")
    assert circuits.wait("bob") == 0
    failing(circuits, "eve")
    assert 0 < circuits.wait("bob") <= OPEN_FOR


def test_users_who_fail_beside_others_who_are_answered_stop_nobody() -> None:
    """However many circuits are open, a provider that answers somebody is not at fault."""
    clock = Clock()
    circuits = Circuits(clock)
    for owner in ("ann", "bob", "cem"):
        failing(circuits, owner)
    assert circuits.wait("dan") > 0
    clock.now += 1
    circuits.succeeded("dan")
    assert circuits.wait("dan") == circuits.wait("eve") == 0
    assert circuits.wait("ann") > 0
