"""GET health/proof: whether the live views are what the log says, on demand, for an admin.

Owns who may ask, how often and for how long. What is compared is `reyna.runtime.replay.verify`'s
business; the same is had from `reyna replay --verify`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.response import Response

from reyna.api.problems import MEDIA_TYPE, Problem
from reyna.api.requests import Req
from reyna.api.security import ADMIN
from reyna.api.views import min_seq
from reyna.content import Projection
from reyna.errors import Forbidden, TooManyRequests, Unavailable
from reyna.runtime.proof import Proof, conclude
from reyna.runtime.replay import Replay
from reyna.runtime.views import Views

# Seconds that a proof may take.
WITHIN = 900.0
RETRY_AFTER = 30


def routes(
    replay: Replay, views: Views, projections: Sequence[Projection]
) -> list[HTTPRouteHandler]:
    """GET health/proof."""
    making = asyncio.Lock()

    @get(
        "/health/proof",
        tags=["health"],
        responses={
            403: ResponseSpec(Problem, description="Forbidden", media_type=MEDIA_TYPE),
            429: ResponseSpec(Problem, description="Too Many Requests", media_type=MEDIA_TYPE),
        },
    )
    async def prove_views(request: Req) -> Response[Proof]:
        """Rebuild all views from the log beside the live ones and compare them, table by table and
        user by user. For admins; one at a time; given up when the caller leaves.
        """
        if ADMIN not in request.user.roles:
            raise Forbidden("Only an admin has the views of all users proven.")
        minimum = min_seq(request.headers)
        if making.locked():
            raise TooManyRequests("A proof is being made already; ask again later.", RETRY_AFTER)
        async with making, _in_time(request):
            for projection in projections:
                await views.reached(projection, minimum)
            tables = await replay.verify(projections, lambda _, __: None, gently=True)
        proof = conclude(tables)
        headers = {"Reyna-Seq": str(proof.position), "Cache-Control": "no-store"}
        return Response(proof, headers=headers)

    return [prove_views]


@asynccontextmanager
async def _in_time(request: Req) -> AsyncIterator[None]:
    """End the block when the caller leaves, or after WITHIN seconds, by raising Unavailable."""
    try:
        async with asyncio.timeout(WITHIN) as limit:
            watching = asyncio.create_task(_watch(request, limit), name="watch a caller")
            try:
                yield
            finally:
                watching.cancel()
                await asyncio.wait([watching])
    except TimeoutError as error:
        raise Unavailable("The proof was given up: it took too long, or nobody waits.") from error


async def _watch(request: Req, limit: asyncio.Timeout) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
    if not limit.expired():
        limit.reschedule(asyncio.get_running_loop().time())
