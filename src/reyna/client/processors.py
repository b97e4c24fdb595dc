"""Processors, the caller's settings of them, and their runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Literal, TypeAlias, TypedDict, Unpack

import msgspec

from reyna.client.model import Instance, Page, Processor, ProcessorHealth, Run, Schema
from reyna.client.pages import walk
from reyna.client.transport import Transport, segment

RunStatus: TypeAlias = Literal["queued", "running", "completed", "failed", "cancelled"]


class RunFilters(TypedDict, total=False):
    """Which runs."""

    status: RunStatus
    blob_id: str


class NewRun(msgspec.Struct, frozen=True):
    """A run was asked for."""

    run_id: str


class _Start(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    blob_id: str | None = None
    bucket_id: str | None = None
    schema_id: str | None = None
    settings: Mapping[str, object] = {}
    per_minute: int | None = None


class _Instance(msgspec.Struct, frozen=True, omit_defaults=True):
    active: bool
    settings: Mapping[str, object] = {}
    rerun_on_update: bool = False


class Processors:
    """`studio.processors`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, min_seq: int | None = None) -> AsyncIterator[Processor]:
        """All registered processors, by id."""
        return walk(self._transport, "/processors", Page[Processor], {}, min_seq)

    async def get(self, processor_id: str) -> Processor:
        """One processor. Raises NotFound."""
        return await self._transport.get(_path(processor_id), Processor)

    async def health(self, processor_id: str) -> ProcessorHealth:
        """How a processor does now."""
        return await self._transport.get(f"{_path(processor_id)}/health", ProcessorHealth)

    def schemas(self, processor_id: str) -> AsyncIterator[Schema]:
        """The schemas that a processor reads and writes, and those registered as its own."""
        return walk(self._transport, f"{_path(processor_id)}/schemas", Page[Schema], {})

    async def instance(self, processor_id: str) -> Instance:
        """The caller's settings of a processor; secrets are never read back."""
        return await self._transport.get(f"{_path(processor_id)}/instance", Instance)

    async def set_up(
        self,
        processor_id: str,
        *,
        active: bool,
        settings: Mapping[str, object] = {},
        rerun_on_update: bool = False,
        if_match: int | None = None,
    ) -> int:
        """Switch a processor on or off for the caller, with these settings.

        Raises Invalid where the settings break its schema.
        """
        path = f"{_path(processor_id)}/instance"
        body = _Instance(active, settings, rerun_on_update)
        return (await self._transport.change("PUT", path, body, if_match)).seq

    async def run(
        self,
        processor_id: str,
        *,
        blob_id: str | None = None,
        bucket_id: str | None = None,
        schema_id: str | None = None,
        settings: Mapping[str, object] = {},
        per_minute: int | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Ask for a run over one blob; gives the run's id.

        Over a bucket and what is below it, or over all blobs of a schema, it is a backfill, whose
        pace `per_minute` bounds.
        """
        body = _Start(
            blob_id=blob_id,
            bucket_id=bucket_id,
            schema_id=schema_id,
            settings=settings,
            per_minute=per_minute,
        )
        path = f"{_path(processor_id)}/runs"
        return (await self._transport.post(path, body, idempotency_key)).read(NewRun).run_id

    def runs(
        self, processor_id: str, *, min_seq: int | None = None, **filters: Unpack[RunFilters]
    ) -> AsyncIterator[Run]:
        """The caller's runs of a processor, newest first."""
        return walk(self._transport, f"{_path(processor_id)}/runs", Page[Run], filters, min_seq)

    async def runs_page(
        self,
        processor_id: str,
        *,
        limit: int = 50,
        cursor: str | None = None,
        min_seq: int | None = None,
        **filters: Unpack[RunFilters],
    ) -> Page[Run]:
        """One page of them; `cursor` is the `next_cursor` of the page before."""
        query = {**filters, "limit": limit, "cursor": cursor}
        path = f"{_path(processor_id)}/runs"
        return await self._transport.get(path, Page[Run], query, min_seq)


class Runs:
    """`studio.runs`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self, run_id: str, *, min_seq: int | None = None) -> Run:
        """One run. Raises NotFound."""
        return await self._transport.get(_run_path(run_id), Run, min_seq=min_seq)

    async def retry(self, run_id: str) -> int:
        """Try a failed run again; gives the seq of the event."""
        return (await self._transport.post(f"{_run_path(run_id)}/retry")).seq

    async def cancel(self, run_id: str) -> int:
        """Stop a run; gives the seq of the event."""
        return (await self._transport.post(f"{_run_path(run_id)}/cancel")).seq


def _path(processor_id: str) -> str:
    return f"/processors/{segment(processor_id)}"


def _run_path(run_id: str) -> str:
    return f"/runs/{segment(run_id)}"
