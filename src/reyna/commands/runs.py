"""Commands on runs: ask for one by hand, or for many; try one again; stop one.

A run that an event asked for exists from that event on, though nothing is written of it: then a
view says which event it was, and the log is asked whether that is true.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

import msgspec

from reyna.commands.boundaries import Boundaries
from reyna.commands.handler import Caller, Decision, Handler
from reyna.commands.idempotency import Answer
from reyna.commands.instances import Instances, check_settings
from reyna.commands.requests import RequestRun
from reyna.commands.secrets import Json, paths_of, taken_out
from reyna.content import Asked
from reyna.domain import processor
from reyna.domain.blob import BlobContent
from reyna.domain.bucket import BUCKET_SCHEMA
from reyna.domain.processor import (
    BackfillRequested,
    ProcessorRegistered,
    ProcessorRequested,
    Run,
    RunRequest,
    run_id_of,
)
from reyna.domain.run_rules import RunRules
from reyna.errors import Conflict, FieldError, Invalid, NotFound
from reyna.log.record import decode
from reyna.log.stream import Log

WhoAsked = Callable[[str, str], Awaitable[Asked | None]]


class RunCommands:
    """Request, retry and cancel runs. `who_asked` says by user and run which event asked for it."""

    def __init__(
        self,
        handler: Handler,
        log: Log,
        boundaries: Boundaries,
        instances: Instances,
        who_asked: WhoAsked,
    ) -> None:
        self._handler = handler
        self._log = log
        self._boundaries = boundaries
        self._instances = instances
        self._who_asked = who_asked

    async def request(self, caller: Caller, processor_id: str, asked: RequestRun) -> Answer:
        """Ask for a run over one blob, or for a backfill, or of a processor that reads buckets for
        a run over one; also of an instance that is off.

        Raises NotFound for what is not the caller's, Invalid for settings that do not fit or a blob
        of another schema, Conflict when the instance's own settings do not fit.
        """
        _check_source(asked)
        registered = await self._instances.registered(processor_id)
        settings, secrets = await self._settings(caller, processor_id, registered, asked.settings)
        if asked.schema_id is not None:
            _check_schema("/schema_id", asked.schema_id, registered.reads)
        template = ProcessorRequested(
            run_id="",
            processor_id=processor_id,
            blob_id=asked.blob_id,
            settings=settings,
            secrets=secrets,
        )

        async def attempt(run_id: str) -> Decision:
            known = await self._boundaries.run(caller.user_id, run_id)
            rules = RunRules(caller.user_id, run_id, known)
            event = await self._event(caller.user_id, registered, asked, template)
            rules.request(msgspec.structs.replace(event, run_id=run_id))
            return Decision(rules, known.seq if known else 0)

        return await self._handler.create(caller, "processor", attempt)

    async def retry(self, caller: Caller, run_id: str) -> Answer:
        """Try a run again that failed or was cancelled. Raises NotFound, or Conflict."""

        async def attempt(_: str) -> Decision:
            run = await self._boundaries.run(caller.user_id, run_id)
            if run is None:
                await self._waiting(caller.user_id, run_id)
            rules = RunRules(caller.user_id, run_id, run)
            rules.retry()
            return Decision(rules, run.seq if run else 0)

        boundary = processor.boundary(caller.user_id, run_id)
        return await self._handler.change(caller, boundary, attempt)

    async def cancel(self, caller: Caller, run_id: str) -> Answer:
        """Stop a run that waits or runs. Raises NotFound, or Conflict."""

        async def attempt(_: str) -> Decision:
            run = await self._boundaries.run(caller.user_id, run_id)
            rules = RunRules(caller.user_id, run_id, run)
            rules.cancel(run or await self._waiting(caller.user_id, run_id))
            return Decision(rules, run.seq if run else 0)

        boundary = processor.boundary(caller.user_id, run_id)
        return await self._handler.change(caller, boundary, attempt)

    async def _settings(
        self, caller: Caller, processor_id: str, registered: ProcessorRegistered, asked: Json
    ) -> tuple[msgspec.Raw, dict[str, str]]:
        """The settings that were asked for, as an event holds them."""
        check_settings(asked)
        schema = registered.settings_schema
        public, secrets = taken_out(asked, paths_of(msgspec.json.decode(schema)))
        raw = msgspec.Raw(msgspec.json.encode(public))
        sealed = self._instances.sealed(caller.user_id, processor_id, secrets)
        instance = await self._instances.find(
            caller.user_id, processor_id, default_active=registered.default_active
        )
        tried = RunRequest(run_id="", processor_id=processor_id, settings=raw, secrets=sealed)
        try:
            self._instances.settings(caller.user_id, processor_id, schema, instance, tried)
        except Invalid as error:
            if asked:
                raise
            raise Conflict(
                "This processor's settings do not fit it: set it up first.", error.errors
            ) from error
        return raw, sealed

    async def _event(
        self,
        user_id: str,
        registered: ProcessorRegistered,
        asked: RequestRun,
        template: ProcessorRequested,
    ) -> RunRequest:
        if registered.input_schema_id == BUCKET_SCHEMA:
            bucket_id = _bucket_of(asked)
            (await self._boundaries.tree(user_id, fresh=True)).live(bucket_id)
            return msgspec.structs.replace(template, bucket_ids=(bucket_id,), bucket_id=bucket_id)
        if asked.blob_id is not None:
            found = await self._boundaries.blob(user_id, asked.blob_id)
            if found is None or found.deleted:
                raise NotFound(f"There is no blob {asked.blob_id}.")
            _check_schema("/blob_id", found.schema_id, registered.reads)
            return msgspec.structs.replace(template, bucket_ids=found.bucket_ids)
        if asked.bucket_id is not None:
            (await self._boundaries.tree(user_id, fresh=True)).live(asked.bucket_id)
        return BackfillRequested(
            run_id="",
            processor_id=template.processor_id,
            bucket_ids=(asked.bucket_id,) if asked.bucket_id else (),
            settings=template.settings,
            secrets=template.secrets,
            bucket_id=asked.bucket_id,
            schema_id=asked.schema_id,
            per_minute=asked.per_minute,
        )

    async def _waiting(self, user_id: str, run_id: str) -> Run:
        """The run that an event asked for and of which nothing is written. Raises NotFound."""
        asked = await self._who_asked(user_id, run_id)
        stored = None if asked is None else await self._log.message(asked.seq)
        if asked is None or stored is None:
            raise NotFound(f"There is no run {run_id}.")
        record = decode(stored)
        event = record.event
        if (
            not isinstance(event, BlobContent)
            or record.owner != user_id
            or run_id_of(asked.processor_id, record.meta.id) != run_id
        ):
            raise NotFound(f"There is no run {run_id}.")
        return Run(
            run_id=run_id,
            processor_id=asked.processor_id,
            blob_id=record.entity_id,
            bucket_ids=event.bucket_ids,
            status="queued",
            attempts=0,
            seq=0,
        )


def _check_source(asked: RequestRun) -> None:
    named = [name for name in ("blob_id", "bucket_id", "schema_id") if getattr(asked, name)]
    if len(named) != 1:
        sentence = "Name what to run over: one of blob_id, bucket_id and schema_id."
        raise Invalid(
            sentence, [FieldError(f"/{name}", "oneOf", sentence) for name in named or ("blob_id",)]
        )


def _bucket_of(asked: RequestRun) -> str:
    """The bucket to run over. Raises Invalid when something else was named."""
    if asked.bucket_id is not None:
        return asked.bucket_id
    sentence = "This processor reads a bucket with all below it: name one in bucket_id."
    path = "/blob_id" if asked.blob_id is not None else "/schema_id"
    raise Invalid(sentence, [FieldError(path, "schema_id", sentence)])


def _check_schema(path: str, schema_id: str, wanted: Collection[str]) -> None:
    if schema_id not in wanted:
        sentence = f"This processor reads {' and '.join(wanted)}, not {schema_id}."
        raise Invalid(sentence, [FieldError(path, "schema_id", sentence)])
