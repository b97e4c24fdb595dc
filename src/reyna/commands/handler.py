"""The handler: one way for every command. Owns the loop of decide, append, retry, and idempotency.

A command gives an attempt: a function that loads what it needs and returns the rules that have
decided, with the seq its decision rests on. A conflict means that somebody was faster: it is tried
again on the newer state.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from reyna.commands.boundaries import Boundaries
from reyna.commands.idempotency import Answer, Idempotency, kept_since
from reyna.domain.event import Boundary, Decided, Meta, Rules, type_of
from reyna.errors import (
    Invalid,
    LogUnavailable,
    PreconditionFailed,
    Rejected,
    WrongExpectedSeq,
)
from reyna.ids import id_of, new_id, now
from reyna.log import subjects
from reyna.log.record import Record
from reyna.log.stream import Draft, Guard, Log

ATTEMPTS = 30


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. `key` is the Idempotency-Key and `fingerprint` the digest of what was asked with
    it.
    """

    user_id: str
    key: str | None = None
    fingerprint: str | None = None


class Decision(msgspec.Struct, frozen=True):
    """Rules that have decided, and the seq of the boundary they looked at.

    `own_seq` is the thing's own last seq, where that is another: the answer when nothing changes.
    """

    rules: Rules
    seq: int
    own_seq: int | None = None


Attempt = Callable[[str], Awaitable[Decision]]
# The ETags a caller will accept, as seqs; None when it does not care.
IfMatch = frozenset[int] | None


class Handler:
    """Executes commands against one log."""

    def __init__(self, log: Log, boundaries: Boundaries, idempotency: Idempotency) -> None:
        self._log = log
        self._boundaries = boundaries
        self._idempotency = idempotency

    async def create(self, caller: Caller, kind: str, attempt: Attempt) -> Answer:
        """Run a command that brings something new into being; the attempt is given its id."""
        entity_id = new_id() if caller.key is None else id_of(caller.user_id, kind, caller.key)
        return await self.change(caller, Boundary(caller.user_id, kind, entity_id), attempt)

    async def change(self, caller: Caller, target: Boundary, attempt: Attempt) -> Answer:
        """Run a command on `target`, whose id the attempt is given. Without an id the first event
        decides what it is about.

        With a key, the first answer is given again for as long as it is remembered, and nothing is
        written. Raises what the attempt raises, and LogUnavailable.
        """
        entity_id = target.entity_id or ""
        if caller.key is None:
            return await self._commit(caller, entity_id, attempt, new_id())
        async with self._boundaries.locked(f"key {caller.user_id} {caller.key}"):
            answer = await self._idempotency.recall(
                caller.user_id, caller.key, caller.fingerprint or ""
            )
            if answer is None:
                answer = await self._keyed(caller, caller.key, target, attempt)
                await self._idempotency.remember(
                    caller.user_id, caller.key, caller.fingerprint or "", answer
                )
        return answer

    async def _keyed(self, caller: Caller, key: str, target: Boundary, attempt: Attempt) -> Answer:
        """Run a keyed command unless the log shows that it was run before, or is run elsewhere."""
        target_id = target.entity_id or ""
        event_id = id_of(caller.user_id, key, target.kind, "event")
        first = await self._event(target, event_id)
        if first is not None and first.time < kept_since():
            # The key is free again; what was made with it keeps the id that follows from it.
            entity_id = new_id() if first.subject.verb == "created" else target_id
            return await self._commit(caller, entity_id, attempt, new_id())
        if first is None:
            try:
                return await self._commit(caller, target_id, attempt, event_id)
            except Rejected:
                # Another process may have been given the same request at the same moment.
                first = await self._event(target, event_id)
                if first is None:
                    raise
        if first.meta.fingerprint != caller.fingerprint:
            raise Invalid("This Idempotency-Key was used before with another request.")
        return Answer(first.entity_id, first.seq + first.meta.batch - 1, first.time)

    async def _event(self, boundary: Boundary, event_id: str) -> Record | None:
        """The event of that id, if it is among the last ones of the boundary."""
        records = await self._boundaries.records(boundary)
        return next((record for record in records if record.meta.id == event_id), None)

    async def _commit(
        self, caller: Caller, entity_id: str, attempt: Attempt, event_id: str
    ) -> Answer:
        for tried in range(ATTEMPTS):
            try:
                decision = await attempt(entity_id)
                decided = decision.rules.decided()
            except Rejected:
                # The refusal may rest on a stale tree: it counts once the tree is fresh.
                if tried:
                    raise
                await self._boundaries.refresh(caller.user_id)
                continue
            if not decided and not tried:
                # So may it that there is nothing to do.
                await self._boundaries.refresh(caller.user_id)
                continue
            time = now()
            if not decided:
                own_seq = decision.seq if decision.own_seq is None else decision.own_seq
                return Answer(entity_id, own_seq, time)
            drafts = _drafts(caller, decision.rules.boundary.owner, decided, event_id, time)
            try:
                seq = await self._log.append(drafts, Guard(decision.rules.boundary, decision.seq))
            except WrongExpectedSeq:
                await self._boundaries.refresh(caller.user_id)
                await asyncio.sleep(random.uniform(0, 0.002 * min(tried, 10)))
                continue
            self._boundaries.appended(seq, decision.seq, drafts)
            return Answer(entity_id or decided[0].entity_id, seq, time)
        raise LogUnavailable("Too many writers are changing the same thing; try again.")


def _drafts(
    caller: Caller, owner: str, decided: Sequence[Decided], event_id: str, time: str
) -> list[Draft]:
    return [
        Draft(
            owner,
            one.entity_id,
            one.event,
            Meta(
                id=event_id if number == 0 else id_of(event_id, str(number)),
                time=time,
                type=type_of(one.event),
                actor=f"user:{caller.user_id}",
                fingerprint=caller.fingerprint,
                batch=len(decided) if number == 0 else 1,
            ),
        )
        for number, one in enumerate(decided)
    ]


def check_match(seq: int, if_match: IfMatch) -> None:
    """Raise PreconditionFailed unless `seq` is one that the caller accepts."""
    if if_match is not None and seq not in if_match:
        raise PreconditionFailed(f'It has changed since: its ETag is now "{seq}".')


def tree_key(owner: str) -> str:
    """The key under which a process takes turns at one owner's tree."""
    return subjects.guard(Boundary(owner, "bucket"))
