"""What is asked of the view of runs: a processor's runs, one run, a processor's health."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from litestar import get
from litestar.params import FromPath, FromQuery
from sqlalchemy import RowMapping, func, select

from projections.runs.tables import runs, subscriptions
from reyna.api.processors import status_of
from reyna.api.runs import ProcessorHealth, Run, RunPage, quantile, seconds_between
from reyna.api.views import DEFAULT_LIMIT, Cursor, Limit, View, decode_cursor, encode_cursor
from reyna.content import Readiness
from reyna.domain.processor import Status
from reyna.errors import NotFound
from reyna.ids import rfc3339
from reyna.log.subjects import token

MEASURED = 1000
"""Runs whose times are looked at for a processor's health: the last ones of the hour."""

_STRINGS = msgspec.json.Decoder(tuple[str, ...])
_Seq = Annotated[int, msgspec.Meta(ge=0, lt=2**63 - 1)]


@get("/processors/{processor_id:str}/runs", tags=["processors"])
async def list_runs(
    view: View,
    processor_id: FromPath[str],
    status: FromQuery[Status | None] = None,
    blob_id: FromQuery[str | None] = None,
    backfill_id: FromQuery[str | None] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> RunPage:
    """The caller's runs of one processor, newest first."""
    await _check_registered(view, processor_id)
    query = select(runs).where(runs.c.user_id == view.user_id, runs.c.processor_id == processor_id)
    if status is not None:
        query = query.where(runs.c.status == status)
    if blob_id is not None:
        query = query.where(runs.c.blob_id == token(blob_id))
    if backfill_id is not None:
        query = query.where(runs.c.backfill_id == token(backfill_id))
    if cursor is not None:
        (last,) = decode_cursor(cursor, tuple[_Seq])
        query = query.where(runs.c.first_seq < last)
    rows = await view.rows(query.order_by(runs.c.first_seq.desc()).limit(limit + 1))
    page = rows[:limit]
    more = encode_cursor(page[-1]["first_seq"]) if len(rows) > limit else None
    return RunPage(await _read(view, page), more)


@get("/runs/{run_id:str}", tags=["processors"])
async def get_run(view: View, run_id: FromPath[str]) -> Run:
    """One run."""
    query = select(runs).where(runs.c.run_id == token(run_id), runs.c.user_id == view.user_id)
    rows = await view.rows(query)
    if not rows:
        raise NotFound(f"There is no run {run_id}.")
    return (await _read(view, rows))[0]


@get("/processors/{processor_id:str}/health", tags=["processors"])
async def get_health(view: View, processor_id: FromPath[str]) -> ProcessorHealth:
    """How a processor does, for all its users together."""
    await _check_registered(view, processor_id)
    readiness = view.readiness(processor_id)
    of_processor = runs.c.processor_id == processor_id
    waiting = {
        row["status"]: row
        for row in await view.rows(
            select(
                runs.c.status,
                func.count().label("number"),
                func.min(runs.c.created_at).label("oldest"),
            )
            .where(of_processor, runs.c.status.in_(("queued", "running")))
            .group_by(runs.c.status)
        )
    }
    hour = runs.c.finished_at >= rfc3339(datetime.now(UTC) - timedelta(hours=1))
    ended = {
        row["status"]: row["number"]
        for row in await view.rows(
            select(runs.c.status, func.count().label("number"))
            .where(of_processor, runs.c.status.in_(("completed", "failed")), hour)
            .group_by(runs.c.status)
        )
    }
    times = await view.rows(
        select(runs.c.started_at, runs.c.finished_at)
        .where(of_processor, runs.c.status == "completed", hour)
        .where(runs.c.is_backfill.is_(False), runs.c.started_at.is_not(None))
        .order_by(runs.c.finished_at.desc())
        .limit(MEASURED)
    )
    seconds = sorted(seconds_between(row["started_at"], row["finished_at"]) for row in times)
    queued, running = waiting.get("queued"), waiting.get("running")
    return ProcessorHealth(
        processor_id=processor_id,
        status=status_of(readiness),
        advice=readiness.advice if readiness else None,
        resting=readiness is not None and readiness.resting,
        last_seen_at=readiness.last_seen_at if readiness else None,
        queued=queued["number"] if queued else 0,
        running=running["number"] if running else 0,
        oldest_queued_at=queued["oldest"] if queued else None,
        completed_last_hour=ended.get("completed", 0),
        failed_last_hour=ended.get("failed", 0),
        p50_seconds=quantile(seconds, 0.5),
        p99_seconds=quantile(seconds, 0.99),
    )


async def _check_registered(view: View, processor_id: str) -> None:
    query = select(subscriptions).where(subscriptions.c.processor_id == token(processor_id))
    if not await view.rows(query):
        raise NotFound(f"There is no processor {processor_id}.")


async def _read(view: View, rows: Sequence[RowMapping]) -> list[Run]:
    """The runs of some rows; of a backfill also how far it has come."""
    backfills = [row["run_id"] for row in rows if row["is_backfill"]]
    counted: dict[tuple[str, str], int] = {}
    if backfills:
        query = (
            select(runs.c.backfill_id, runs.c.status, func.count().label("number"))
            .where(runs.c.backfill_id.in_(backfills))
            .group_by(runs.c.backfill_id, runs.c.status)
        )
        for row in await view.rows(query):
            counted[row["backfill_id"], row["status"]] = row["number"]
    return [_run(view, row, counted) for row in rows]


def _why_it_waits(readiness: Readiness | None) -> str | None:
    if readiness is None:
        return "No worker of this processor is running."
    return None if readiness.ready else readiness.advice


def _run(view: View, row: RowMapping, counted: dict[tuple[str, str], int]) -> Run:
    run_id, backfill = row["run_id"], row["is_backfill"]
    waits = row["status"] == "queued" and not backfill
    readiness = view.readiness(row["processor_id"]) if waits else None
    return Run(
        run_id=run_id,
        processor_id=row["processor_id"],
        user_id=row["user_id"],
        blob_id=row["blob_id"],
        bucket_ids=_STRINGS.decode(row["bucket_ids"]),
        status=row["status"],
        attempts=row["attempts"],
        error=row["error"],
        permanent=row["permanent"],
        derived_id=row["derived_id"],
        tokens_in=row["tokens_in"],
        tokens_out=row["tokens_out"],
        cost=row["cost"],
        seconds=row["seconds"],
        detail=_why_it_waits(readiness) if waits else None,
        backfill_id=row["backfill_id"],
        total=row["total"],
        done=counted.get((run_id, "completed"), 0) if backfill else None,
        failed=counted.get((run_id, "failed"), 0) if backfill else None,
        source_seq=row["source_seq"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        seq=row["seq"],
    )
