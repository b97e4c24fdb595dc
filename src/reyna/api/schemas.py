"""Schemas over HTTP: registering, status, and the two dry runs. Lists and single ones are read from
the view, `projections.schemas`; what a schema looks like to a client is said here for both.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from litestar import patch, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Response

from reyna.api.requests import Req, caller_of, documents, if_match, read
from reyna.api.security import ADMIN
from reyna.commands.idempotency import Answer
from reyna.commands.registry import Registry
from reyna.commands.requests import (
    ChangeSchemaStatus,
    CompareDefinition,
    RegisterSchema,
    ValidateData,
)
from reyna.commands.schemas import Known
from reyna.domain.schema import SYSTEM, Compatibility, Status
from reyna.errors import FieldError
from reyna.log.subjects import schema_token


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a schema. Its definition never changes."""

    schema_id: str
    processor_id: str | None
    name: str
    version: int
    definition: object
    status: Status
    compatibility: Compatibility
    description: str
    examples: list[object]
    created_at: str


class Validity(msgspec.Struct, frozen=True):
    """Whether data is valid, and everything that is wrong with it."""

    valid: bool
    errors: list[FieldError]


class CompatibilityReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate would break: `breaks` of the promise `mode`, and stored blobs that would not
    be valid, the first of which are named.
    """

    compatible: bool
    mode: Compatibility
    breaks: list[FieldError]
    blobs_checked: int
    blobs_broken: int
    broken_blob_ids: list[str]


def routes(registry: Registry) -> list[HTTPRouteHandler]:
    """The routes that write schemas, or try what would be written."""
    return [*_commands(registry), *_dry_runs(registry)]


def _owner(request: Req) -> str:
    """For whom the caller registers: an admin for everyone, a user for itself."""
    return SYSTEM if ADMIN in request.user.roles else request.user.user_id


def _answer(
    known: Known, answer: Answer, status: Status, code: Literal[200, 201]
) -> Response[Schema]:
    event = known.event
    body = Schema(
        schema_id=known.schema_id,
        processor_id=event.processor_id,
        name=event.name,
        version=event.version,
        definition=event.definition,
        status=status,
        compatibility=event.compatibility,
        description=event.description,
        examples=list(event.examples),
        created_at=known.created_at,
    )
    headers = {"Reyna-Seq": str(answer.seq), "ETag": f'"{answer.seq}"'}
    if code == 201:
        headers["Location"] = f"/api/v1/schemas/{known.schema_id}"
    return Response(body, status_code=code, headers=headers)


def _commands(registry: Registry) -> list[HTTPRouteHandler]:
    @post("/schemas", operation_class=documents(RegisterSchema), tags=["schemas"])
    async def register_schema(request: Req) -> Response[Schema]:
        """Register the next version of a schema."""
        owner = _owner(request)
        asked = await read(request, RegisterSchema)
        answer = await registry.register(await caller_of(request), owner, asked)
        known = await registry.find(owner, answer.entity_id)
        return _answer(known, answer, known.event.status, 201)

    @patch(
        "/schemas/{schema_id:str}", operation_class=documents(ChangeSchemaStatus), tags=["schemas"]
    )
    async def change_schema_status(request: Req, schema_id: FromPath[str]) -> Response[Schema]:
        """Make a version a draft, active or deprecated."""
        owner, schema_id = _owner(request), schema_token(schema_id)
        asked = await read(request, ChangeSchemaStatus)
        answer = await registry.change_status(
            await caller_of(request), owner, schema_id, asked.status, if_match(request)
        )
        return _answer(await registry.find(owner, schema_id), answer, asked.status, 200)

    return [register_schema, change_schema_status]


def _dry_runs(registry: Registry) -> list[HTTPRouteHandler]:
    @post(
        "/schemas/{schema_id:str}/validate",
        status_code=200,
        operation_class=documents(ValidateData),
        tags=["schemas"],
    )
    async def validate_data(request: Req, schema_id: FromPath[str]) -> Response[Validity]:
        """Everything that is wrong with some data under a schema. Writes nothing."""
        asked = await read(request, ValidateData)
        known, errors = await registry.validate(request.user.user_id, schema_id, asked.data)
        headers = {"Reyna-Seq": str(known.seq)}
        return Response(Validity(not errors, errors), headers=headers)

    @post(
        "/schemas/{schema_id:str}/compatibility",
        status_code=200,
        operation_class=documents(CompareDefinition),
        tags=["schemas"],
    )
    async def compare_definition(
        request: Req, schema_id: FromPath[str]
    ) -> Response[CompatibilityReport]:
        """What a definition would break as the next version. Writes nothing."""
        asked = await read(request, CompareDefinition)
        verdict = await registry.dry_run(
            request.user.user_id,
            schema_id,
            asked.definition,
            admin=ADMIN in request.user.roles,
        )
        body = CompatibilityReport(
            compatible=not verdict.breaks,
            mode=verdict.mode,
            breaks=list(verdict.breaks),
            blobs_checked=verdict.blobs.checked,
            blobs_broken=verdict.blobs.broken,
            broken_blob_ids=list(verdict.blobs.broken_blob_ids),
        )
        return Response(body, headers={"Reyna-Seq": str(verdict.seq)})

    return [validate_data, compare_definition]
