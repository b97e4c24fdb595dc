"""Presence: which workers are alive, here and elsewhere. Owns what counts as down.

Every worker process gives a sign of life for each of its processors; one that has been silent for
DOWN_AFTER seconds is dead. What works in this process is asked itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Self

import msgspec

from reyna.content import Readiness
from reyna.errors import LogUnavailable
from reyna.ids import new_id, now
from reyna.log.beats import Beat, beat, listen
from reyna.log.connection import Connection
from reyna.runtime.workers import Workers

logger = logging.getLogger(__name__)

# Seconds between two signs of life; a change is told within the shorter time.
BEAT = 3.0
LOOK = 0.5
# Seconds of silence after which a worker is dead, and forgotten.
DOWN_AFTER = 10.0
FORGOTTEN_AFTER = 3600.0
LAST_WORD = 1.0


class _Heard(msgspec.Struct):
    beat: Beat
    at: float


class Presence:
    """The workers of all processes, as they are heard of here."""

    def __init__(self, connection: Connection, workers: Workers) -> None:
        self._connection = connection
        self._workers = workers
        self._worker_id = new_id()
        self._heard: dict[tuple[str, str], _Heard] = {}
        self._told: dict[str, tuple[Readiness, float]] = {}

    @classmethod
    async def open(cls, connection: Connection, workers: Workers) -> Self:
        """Hear of all workers from now on. Raises LogUnavailable."""
        self = cls(connection, workers)
        await listen(connection, self._hear)
        return self

    def readiness(self, processor_id: str) -> Readiness | None:
        """How a processor does, taking all its workers together; None if none was ever heard of."""
        here = self._workers.readiness(processor_id)
        known = [] if here is None else [msgspec.structs.replace(here, last_seen_at=now())]
        alive = time.monotonic() - DOWN_AFTER
        silent: list[str] = []
        for heard in self._heard.values():
            sign = heard.beat
            if sign.processor_id != processor_id:
                continue
            if heard.at < alive or sign.leaving:
                silent.append(sign.time)
            else:
                known.append(Readiness(sign.ready, sign.advice, sign.resting, sign.time))
        if not known:
            advice = "No worker of it is running."
            return Readiness(False, advice, last_seen_at=max(silent)) if silent else None
        best = max(known, key=lambda one: (one.ready, not one.resting))
        seen = max((one.last_seen_at for one in known if one.last_seen_at), default=None)
        return msgspec.structs.replace(
            best, resting=any(one.resting for one in known), last_seen_at=seen
        )

    async def run(self) -> None:
        """Give signs of life for ever, and a last one at the end."""
        try:
            while True:
                for processor_id in self._workers.processor_ids:
                    await self._tell(processor_id)
                await asyncio.sleep(LOOK)
        finally:
            await self._leave()

    def _hear(self, sign: Beat) -> None:
        at = time.monotonic()
        if sign.worker_id != self._worker_id:
            self._heard[sign.worker_id, sign.processor_id] = _Heard(sign, at)
        for key in [k for k, heard in self._heard.items() if heard.at < at - FORGOTTEN_AFTER]:
            del self._heard[key]

    async def _tell(self, processor_id: str) -> None:
        found = self._workers.readiness(processor_id)
        assert found is not None, "it is installed here"
        told, at = self._told.get(processor_id, (None, 0.0))
        if found == told and time.monotonic() - at < BEAT:
            return
        try:
            await beat(self._connection, self._sign(processor_id, found))
            self._told[processor_id] = (found, time.monotonic())
        except LogUnavailable as error:
            logger.debug("a sign of life was not heard: %s", error)

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(LAST_WORD):
                for processor_id, (found, _) in self._told.items():
                    sign = self._sign(processor_id, found)
                    await beat(self._connection, msgspec.structs.replace(sign, leaving=True))
        except (TimeoutError, LogUnavailable) as error:
            logger.debug("that a worker leaves was not heard: %s", error)

    def _sign(self, processor_id: str, found: Readiness) -> Beat:
        return Beat(
            worker_id=self._worker_id,
            processor_id=processor_id,
            time=now(),
            ready=found.ready,
            advice=found.advice,
            resting=found.resting,
        )
