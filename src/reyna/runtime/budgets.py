"""Budgets: how many tokens a user may spend in a day. Folded from what completed runs say of
themselves, so a restart forgets nothing.

A day is UTC's. What runs at the moment is not counted yet, so a budget may be overdrawn by it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime

from reyna.domain.processor import ProcessorCompleted
from reyna.errors import Permanent
from reyna.log import subjects
from reyna.log.follow import Follower
from reyna.log.record import decode
from reyna.log.stream import Log

_COMPLETED = subjects.of_runs(None, "completed")


class Budgets:
    """What users have spent today. `tokens_per_day` None: without a limit."""

    def __init__(self, log: Log, tokens_per_day: int | None) -> None:
        self._log = log
        self._tokens_per_day = tokens_per_day
        self._after = 0
        self._day = ""
        self._spent: Counter[str] = Counter()
        self.known = asyncio.Event()
        if tokens_per_day is None:
            self.known.set()

    def spent(self, owner: str) -> int:
        """The tokens that an owner has spent today, as far as is known here."""
        return self._spent[owner] if self._day == _today() else 0

    def check(self, owner: str) -> None:
        """Raise Permanent if an owner has spent all of today's tokens."""
        if self._tokens_per_day is not None and self.spent(owner) >= self._tokens_per_day:
            raise Permanent(
                f"The budget of {self._tokens_per_day} tokens a day is used up; there is a new one"
                " at midnight UTC. Try this run again then."
            )

    async def prepare(self) -> None:
        """Find out where today begins. Raises LogUnavailable."""
        if self._tokens_per_day is not None:
            first = await self._log.first_since(_COMPLETED, f"{_today()}T00:00:00Z")
            self._after = await self._log.head() if first is None else first.seq - 1

    async def follow(self) -> None:
        """Keep account for ever, if there is a limit."""
        if self._tokens_per_day is None:
            return
        batches = Follower(self._log.connection, [_COMPLETED], self._after).batches()
        try:
            async for batch in batches:
                for stored in batch.messages:
                    record = decode(stored)
                    if isinstance(record.event, ProcessorCompleted):
                        self._count(record.owner, record.time[:10], record.event)
                if not batch.pending:
                    self.known.set()
        finally:
            await batches.aclose()

    def _count(self, owner: str, day: str, event: ProcessorCompleted) -> None:
        if day < self._day:
            return
        if day > self._day:
            self._day = day
            self._spent.clear()
        self._spent[owner] += (event.tokens_in or 0) + (event.tokens_out or 0)


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
