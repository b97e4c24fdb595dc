"""Health: whether this process lives, and whether it is ready, each part named with its lag."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response
from sqlalchemy import func, select

from reyna.api.metrics import CONTENT_TYPE, Metrics
from reyna.content import Projection
from reyna.database import reading
from reyna.errors import Unavailable
from reyna.runtime.hub import Hub
from reyna.runtime.projector import Projector
from reyna.runtime.views import Views, aside
from reyna.runtime.workers import Workers

State = Literal["ok", "behind", "down", "rebuilding"]
# A projection this many events behind the log is not ready to answer.
TOO_FAR = 1000
# Seconds that the log is given to answer.
LOOK_WITHIN = 2.0


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One part. `lag` counts events; `set_aside` the records that a projection could not apply."""

    status: State
    position: int | None = None
    lag: int | None = None
    set_aside: int = 0
    detail: str | None = None


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Ready only when log, database and projections are. Processors are named; they do
    not decide.
    """

    status: Literal["ready", "not ready"]
    epoch: str
    log: Part
    database: Part
    projections: dict[str, Part]
    processors: dict[str, Part]


class Alive(msgspec.Struct, frozen=True):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Health:
    """Looks at the parts when asked."""

    def __init__(
        self,
        hub: Hub,
        views: Views,
        projector: Projector,
        projections: Sequence[Projection],
        workers: Workers,
    ) -> None:
        self._hub = hub
        self._views = views
        self._projector = projector
        self._projections = projections
        self._workers = workers

    async def look(self) -> Ready:
        """The state of all parts now."""
        log, head = await self._log()
        database, projections = await self._projections_at(head)
        ready = (
            log.status == "ok"
            and database.status == "ok"
            and all(part.status == "ok" for part in projections.values())
        )
        return Ready(
            status="ready" if ready else "not ready",
            epoch=self._hub.log.epoch,
            log=log,
            database=database,
            projections=projections,
            processors=self._processors(),
        )

    async def _log(self) -> tuple[Part, int]:
        try:
            head = await self._hub.log.head(LOOK_WITHIN)
        except Unavailable as error:
            return Part(status="down", position=self._hub.position, detail=error.detail), 0
        return Part(status="ok", position=head, lag=max(head - self._hub.position, 0)), head

    async def _projections_at(self, head: int) -> tuple[Part, dict[str, Part]]:
        parts: dict[str, Part] = {}
        try:
            async with reading(self._views.engine) as connection:
                query = select(aside.c.projection, func.count().label("found")).group_by(
                    aside.c.projection
                )
                counted = (await connection.execute(query)).all()
                failed = {row.projection: row.found for row in counted}
            for projection in self._projections:
                parts[projection.name] = await self._projection(
                    projection, head, failed.get(projection.name, 0)
                )
        except Unavailable as error:
            return Part(status="down", detail=error.detail), parts
        return Part(status="ok"), parts

    async def _projection(self, projection: Projection, head: int, failed: int) -> Part:
        found = await self._views.checkpoint(projection.name)
        if found is None or not self._views.serves(projection, found):
            return Part(status="rebuilding", set_aside=failed)
        lag = max(head - found.position, 0)
        behind = lag > TOO_FAR or not self._projector.caught_up.is_set() or self._projector.trouble
        return Part(
            status="behind" if behind else "ok",
            position=found.position,
            lag=lag,
            set_aside=failed,
            detail=self._projector.trouble,
        )

    def _processors(self) -> dict[str, Part]:
        parts: dict[str, Part] = {}
        for processor_id in self._workers.processor_ids:
            readiness = self._workers.readiness(processor_id)
            if readiness is not None:
                parts[processor_id] = Part(
                    status="ok" if readiness.ready else "down", detail=readiness.advice
                )
        return parts


def routes(health: Health, metrics: Metrics, hub: Hub) -> list[HTTPRouteHandler]:
    """GET /health/live, /health/ready and /metrics."""

    @get("/health/live", tags=["health"], sync_to_thread=False)
    def live() -> Alive:
        """The process answers."""
        return Alive()

    @get("/health/ready", tags=["health"])
    async def ready() -> Response[Ready]:
        """Whether requests can be served, part by part."""
        found = await health.look()
        if found.status == "ready":
            return Response(found)
        return Response(found, status_code=503, headers={"Retry-After": "1"})

    @get("/metrics", tags=["health"], media_type="text/plain")
    async def measured() -> Response[bytes]:
        """Counters and gauges in the Prometheus text format."""
        found = await health.look()
        lag = {name: part.lag or 0 for name, part in found.projections.items()}
        metrics.observe(found.log.position or 0, lag, hub.sockets)
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return [live, ready, measured]
