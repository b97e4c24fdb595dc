"""What a run, and a processor's health, look like to a client. Both come from the view of runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from reyna.api.processors import Health
from reyna.domain.processor import Status


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A processor's work on one blob, or a backfill's on many.

    `source_seq` is the event that asked for it, `started_at` the last attempt's; `seconds` is the
    provider's time, `cost` in US dollars; `permanent` says of a failed run that it would fail
    again; `detail` what a queued one waits for. Only a backfill has a `total`, and how many of its
    runs are `done` or `failed`; its runs name it in `backfill_id`.
    """

    run_id: str
    processor_id: str
    user_id: str
    blob_id: str | None
    bucket_ids: tuple[str, ...]
    status: Status
    attempts: int
    error: str | None
    permanent: bool | None
    derived_id: str | None
    tokens_in: int | None
    tokens_out: int | None
    cost: float | None
    seconds: float | None
    detail: str | None
    backfill_id: str | None
    total: int | None
    done: int | None
    failed: int | None
    source_seq: int
    created_at: str
    started_at: str | None
    finished_at: str | None
    seq: int


class RunPage(msgspec.Struct, frozen=True):
    """One page of runs."""

    items: list[Run]
    next_cursor: str | None


class ProcessorHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How a processor does, for all its users together.

    `resting`: its provider failed again and again and is left alone for a while. The last hour's
    figures are of runs that ended in it; run times are those of completed ones, in seconds.
    """

    processor_id: str
    status: Health
    advice: str | None
    resting: bool
    last_seen_at: str | None
    queued: int
    running: int
    oldest_queued_at: str | None
    completed_last_hour: int
    failed_last_hour: int
    p50_seconds: float | None
    p99_seconds: float | None


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The value below which that share of ordered values lies, None for none."""
    if not ordered:
        return None
    return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)], 3)


def seconds_between(start: str, end: str) -> float:
    """Seconds between two times, RFC 3339."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
