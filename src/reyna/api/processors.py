"""Processors over HTTP: setting an instance up, asking for runs, trying again, stopping. What is
read is read from the views; what an instance looks like to a client is said here for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
from litestar import post, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Response

from reyna.api.requests import Req, caller_of, documents, if_match, read
from reyna.commands.idempotency import Answer
from reyna.commands.instances import InstanceCommands
from reyna.commands.requests import PutInstance, RequestRun
from reyna.commands.runs import RunCommands
from reyna.content import Readiness
from reyna.log.subjects import token

Health = Literal["healthy", "degraded", "down"]


class Processor(msgspec.Struct, frozen=True, kw_only=True):
    """A registered processor. It takes blobs of `input_schema_id` and of those in `also_reads`.
    `advice` is for its operator, and may be there when it is healthy.
    """

    processor_id: str
    name: str
    description: str
    input_schema_id: str
    also_reads: tuple[str, ...]
    output_schema_id: str
    subscribe_events: tuple[str, ...]
    settings_schema: object
    version: str
    status: Health
    last_seen_at: str | None
    advice: str | None


class ProcessorPage(msgspec.Struct, frozen=True):
    """One page of processors."""

    items: list[Processor]
    next_cursor: str | None


class ProcessorInstance(msgspec.Struct, frozen=True, kw_only=True):
    """A user's settings of a processor. `secrets` are the places of those that are set; they are
    not told, and stay when they are not named. `seq` is 0 for one that was never set up.
    """

    processor_id: str
    active: bool
    settings: object
    secrets: list[str]
    rerun_on_update: bool
    seq: int


class RunAnswer(msgspec.Struct, frozen=True):
    """What was asked of a run is in the log."""

    run_id: str
    seq: int


def routes(instances: InstanceCommands, runs: RunCommands) -> list[HTTPRouteHandler]:
    """The routes that write."""
    return [*_instance_routes(instances), *_run_routes(runs)]


def status_of(readiness: Readiness | None) -> Health:
    """How a processor is, by what was last heard of its workers."""
    if readiness is None or not readiness.ready:
        return "down"
    return "degraded" if readiness.resting else "healthy"


def instance_answer(
    processor_id: str,
    settings: msgspec.Raw,
    secrets: Mapping[str, str] | list[str],
    seq: int,
    *,
    active: bool,
    rerun_on_update: bool,
) -> Response[ProcessorInstance]:
    """An instance as a client sees it, with its ETag."""
    body = ProcessorInstance(
        processor_id=processor_id,
        active=active,
        settings=settings,
        secrets=sorted(secrets),
        rerun_on_update=rerun_on_update,
        seq=seq,
    )
    return Response(body, headers={"ETag": f'"{seq}"'})


def _instance_routes(instances: InstanceCommands) -> list[HTTPRouteHandler]:
    @put(
        "/processors/{processor_id:str}/instance",
        operation_class=documents(PutInstance),
        tags=["processors"],
    )
    async def put_instance(
        request: Req, processor_id: FromPath[str]
    ) -> Response[ProcessorInstance]:
        """Switch a processor on or off, and set it up."""
        asked = await read(request, PutInstance)
        caller = await caller_of(request)
        answer, instance = await instances.put(
            caller, token(processor_id), asked, if_match(request)
        )
        response = instance_answer(
            processor_id,
            instance.settings,
            instance.secrets,
            answer.seq,
            active=instance.active,
            rerun_on_update=instance.rerun_on_update,
        )
        response.headers["Reyna-Seq"] = str(answer.seq)
        return response

    return [put_instance]


def _run_routes(runs: RunCommands) -> list[HTTPRouteHandler]:
    def accepted(answer: Answer) -> Response[RunAnswer]:
        headers = {
            "Reyna-Seq": str(answer.seq),
            "ETag": f'"{answer.seq}"',
            "Location": f"/api/v1/runs/{answer.entity_id}",
        }
        body = RunAnswer(answer.entity_id, answer.seq)
        return Response(body, status_code=202, headers=headers)

    @post(
        "/processors/{processor_id:str}/runs",
        status_code=202,
        operation_class=documents(RequestRun),
        tags=["processors"],
    )
    async def request_run(request: Req, processor_id: FromPath[str]) -> Response[RunAnswer]:
        """Run a processor over a blob, or over all in a bucket or of a schema: a backfill."""
        asked = await read(request, RequestRun)
        return accepted(await runs.request(await caller_of(request), token(processor_id), asked))

    @post("/runs/{run_id:str}/retry", status_code=202, tags=["processors"])
    async def retry_run(request: Req, run_id: FromPath[str]) -> Response[RunAnswer]:
        """Try a run again that failed or was cancelled."""
        return accepted(await runs.retry(await caller_of(request), token(run_id)))

    @post("/runs/{run_id:str}/cancel", status_code=202, tags=["processors"])
    async def cancel_run(request: Req, run_id: FromPath[str]) -> Response[RunAnswer]:
        """Stop a run that waits or runs."""
        return accepted(await runs.cancel(await caller_of(request), token(run_id)))

    return [request_run, retry_run, cancel_run]
