"""The composition root: settings become parts, parts become one running studio. Tests replace parts
here.

Everything that lives as long as the process is opened and closed by `studio`, in one place and in
one order; nothing else in the program makes its own connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
from litestar import Litestar, Router
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.types import ControllerRouterHandler

import templates as files
from reyna import __version__, content
from reyna.api import (
    asyncapi,
    auth,
    commands,
    events,
    filing,
    health,
    history,
    live,
    media,
    openapi,
    page,
    problems,
    proof,
)
from reyna.api import processors as processor_routes
from reyna.api import schemas as schema_routes
from reyna.api import templates as template_routes
from reyna.api.metrics import Metrics
from reyna.api.security import Edge, stamp
from reyna.api.views import view_router
from reyna.commands.blobs import BlobCommands
from reyna.commands.boundaries import Boundaries
from reyna.commands.bucket_types import BucketTypes
from reyna.commands.buckets import BucketCommands
from reyna.commands.filing import FilingCommands
from reyna.commands.handler import Handler
from reyna.commands.idempotency import Idempotency
from reyna.commands.instances import InstanceCommands, Instances
from reyna.commands.media import MediaCommands
from reyna.commands.registry import Registry
from reyna.commands.revert import Reverts
from reyna.commands.runs import RunCommands, WhoAsked
from reyna.commands.schemas import Schemas, Shipped
from reyna.commands.secrets import Vault
from reyna.commands.stored_blobs import StoredBlobs
from reyna.commands.templates import Templates
from reyna.content import Asked, Embedder, Processor, Projection, RunIndex
from reyna.database import open_engine
from reyna.errors import Unavailable
from reyna.identity.accounts import Accounts
from reyna.identity.tokens import Tokens
from reyna.judge import definitions
from reyna.judge.pool import Judges
from reyna.log.connection import Connection
from reyna.log.media import MediaStore
from reyna.log.stream import Log
from reyna.runtime.attempt import Means
from reyna.runtime.budgets import Budgets
from reyna.runtime.hub import Hub
from reyna.runtime.lanes import Limits
from reyna.runtime.media_sweep import MediaSweep
from reyna.runtime.presence import Presence
from reyna.runtime.projector import Projector
from reyna.runtime.replay import Replay
from reyna.runtime.running import Running
from reyna.runtime.views import Views
from reyna.runtime.workers import Workers
from reyna.settings import Settings

logger = logging.getLogger(__name__)

# Places in each queue that one user's backfill may take.
BACKFILL_PLACES = 2
# What a request may have beside the blob's own JSON.
ENVELOPE_BYTES = 64 * 1024


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the studio's servers are. Accounts and views are two databases: views may be
    deleted.
    """

    nats_url: str
    nats_token: str | None
    accounts_url: str
    views_url: str
    secret: str


@asynccontextmanager
async def studio(
    settings: Settings,
    place: Place,
    *,
    projections: Sequence[Projection] | None = None,
    processors: Sequence[Processor] | None = None,
    schemas: Sequence[Shipped] | None = None,
) -> AsyncIterator[Litestar]:
    """A running studio, as an ASGI application without a lifespan of its own. What is not given is
    everything installed.

    Raises SetupError when something it needs is not there. An unexpected end of one of its loops
    ends the block.
    """
    projections = content.projections() if projections is None else projections
    processors = content.processors() if processors is None else processors
    async with AsyncExitStack() as stack:
        core = await _core(stack, place, content.schemas() if schemas is None else schemas)
        log = core.log
        for processor in processors:
            await stack.enter_async_context(processor.lifespan(settings))
        instances = Instances(log, core.boundaries, Vault(place.secret))
        means = Means(
            log=log,
            boundaries=core.boundaries,
            schemas=core.schemas,
            instances=instances,
            budgets=Budgets(log, settings.tokens_per_day),
            running=Running(log),
            store=core.store,
        )
        workers = Workers(means, processors, _limits(settings))
        await workers.register()
        views_engine = open_engine(place.views_url, rebuildable=True)
        stack.push_async_callback(views_engine.dispose)
        views = Views(views_engine, log.epoch, settings.wait_timeout)
        outdated = await views.prepare(projections)
        replay = Replay(log, views)
        hub = Hub(log, core.boundaries)
        projector = Projector(log.connection, views, projections)
        presence = await Presence.open(log.connection, workers)
        runs = RunCommands(
            core.handler, log, core.boundaries, instances, _who_asked(views, projections)
        )
        embedder = next((one for one in processors if isinstance(one, Embedder)), None)
        routes = [
            *_content_routes(core, settings, hub),
            *processor_routes.routes(
                InstanceCommands(core.handler, core.boundaries, instances), runs
            ),
            *proof.routes(replay, views, projections),
            *(view_router(one, views, log, presence.readiness, embedder) for one in projections),
        ]
        looked_at = health.Health(hub, views, projector, projections, workers)
        app = _application(settings, core, hub, looked_at, routes)
        rebuild = _rebuild(replay, outdated)
        sweep = MediaSweep(log, core.store)
        async with _running(
            hub.run(), projector.run(), workers.run(), presence.run(), sweep.run(), rebuild
        ):
            await hub.started.wait()
            yield app


class _Core(msgspec.Struct, frozen=True, kw_only=True):
    """What everything else stands on."""

    log: Log
    store: MediaStore
    boundaries: Boundaries
    judges: Judges
    schemas: Schemas
    tokens: Tokens
    accounts: Accounts
    handler: Handler


async def _core(stack: AsyncExitStack, place: Place, shipped: Sequence[Shipped]) -> _Core:
    """The log and the accounts' database, opened for as long as the stack."""
    connection = await Connection.open(place.nats_url, place.nats_token)
    stack.push_async_callback(connection.close)
    accounts_engine = open_engine(place.accounts_url)
    stack.push_async_callback(accounts_engine.dispose)
    log = await Log.open(connection)
    boundaries = Boundaries(log)
    judges = Judges()
    stack.push_async_callback(judges.close)
    registered = Schemas(log, boundaries, judges)
    await registered.ship(shipped)
    tokens = Tokens(place.secret)
    accounts = Accounts(accounts_engine, tokens)
    await accounts.prepare()
    idempotency = Idempotency(accounts_engine)
    await idempotency.prepare()
    return _Core(
        log=log,
        store=await MediaStore.open(connection),
        boundaries=boundaries,
        judges=judges,
        schemas=registered,
        tokens=tokens,
        accounts=accounts,
        handler=Handler(log, boundaries, idempotency),
    )


def _content_routes(core: _Core, settings: Settings, hub: Hub) -> list[ControllerRouterHandler]:
    """What is written, and what is read from the log itself."""
    handler, log, boundaries, depth = core.handler, core.log, core.boundaries, settings.max_depth
    templates, types = Templates(files.load()), BucketTypes(log, core.schemas)
    blobs = BlobCommands(handler, boundaries, core.schemas, settings.max_blob_bytes)
    buckets = BucketCommands(handler, boundaries, types, templates, depth)
    reverts = Reverts(log, handler, boundaries, types, depth)
    stored = StoredBlobs(log, core.judges)
    uploads = MediaCommands(blobs, boundaries, core.store, settings.max_media_bytes)
    return [
        auth.router,
        *commands.routes(blobs, buckets, reverts),
        *filing.routes(FilingCommands(handler, boundaries, depth)),
        *template_routes.routes(templates),
        *schema_routes.routes(Registry(handler, boundaries, core.schemas, core.judges, stored)),
        *media.routes(uploads, log, settings.max_blob_bytes + ENVELOPE_BYTES),
        *events.routes(log),
        *history.routes(log, boundaries),
        live.route(hub, core.tokens, blobs, buckets, settings.allowed_origins),
    ]


def _application(
    settings: Settings,
    core: _Core,
    hub: Hub,
    looked_at: health.Health,
    routes: Sequence[ControllerRouterHandler],
) -> Litestar:
    metrics = Metrics()
    api = Router(path=commands.PREFIX, route_handlers=routes)
    app = Litestar(
        route_handlers=[
            api,
            *health.routes(looked_at, metrics, hub),
            *asyncapi.routes(),
            *page.routes(),
        ],
        middleware=[Edge(core.tokens.verify)],
        before_send=[stamp(metrics)],
        dependencies={"accounts": Provide(lambda: core.accounts, sync_to_thread=False)},
        exception_handlers={Exception: problems.answer},
        request_max_body_size=max(settings.max_blob_bytes, definitions.MAX_BYTES) + ENVELOPE_BYTES,
        # The documents alone: pages that show them load their code from elsewhere.
        openapi_config=OpenAPIConfig(
            title="ReYNa Studio",
            version=__version__,
            path="/openapi",
            render_plugins=[JsonRenderPlugin(path="/openapi.json")],
        ),
        cors_config=CORSConfig(
            allow_origins=list(settings.allowed_origins),
            allow_headers=[
                "Authorization",
                "Content-Type",
                "Idempotency-Key",
                "If-Match",
                "If-None-Match",
                "If-Range",
                "Range",
                "Reyna-Min-Seq",
            ],
            expose_headers=[
                "Reyna-Seq",
                "ETag",
                "Location",
                "Retry-After",
                "Content-Disposition",
                "Content-Range",
            ],
        ),
        logging_config=None,
        debug=False,
    )
    openapi.complete(app.openapi_schema)
    return app


def _limits(settings: Settings) -> Limits:
    return Limits(settings.runs_at_once, settings.runs_per_user, BACKFILL_PLACES)


def _who_asked(views: Views, projections: Sequence[Projection]) -> WhoAsked:
    """What asked for a run, as the view has it that knows."""

    async def who_asked(user_id: str, run_id: str) -> Asked | None:
        for projection in projections:
            if isinstance(projection, RunIndex):
                async with views.read(projection, 0) as read:
                    return await projection.asked(read.connection, user_id, run_id)
        return None

    return who_asked


@asynccontextmanager
async def _running(*loops: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run loops for the length of the block; one that ends by an error ends the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(loop) for loop in loops]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def _rebuild(replay: Replay, outdated: list[Projection]) -> None:
    if not outdated:
        return
    names = ", ".join(projection.name for projection in outdated)
    logger.info("rebuilding %s from the log: changed since it was built", names)
    while True:
        try:
            for done in await replay.rebuild(outdated, None, lambda _, __: None):
                logger.info("rebuilt %s up to %d", done.projection, done.position)
        except Unavailable as error:
            logger.warning("rebuilding %s waits: %s", names, error)
            await asyncio.sleep(1.0)
        except Exception:
            # The other views go on; these answer 503 and health names them.
            logger.exception("%s cannot be rebuilt", names)
            return
        else:
            return
