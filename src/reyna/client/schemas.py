"""Schemas: versions of a name, their status, and the two dry runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Literal, TypeAlias, TypedDict, TypeVar, Unpack

import msgspec

from reyna.client.model import CompatibilityReport, Page, Schema, Validity
from reyna.client.pages import walk
from reyna.client.transport import Call, Transport, encode, segment

_Verdict = TypeVar("_Verdict", Validity, CompatibilityReport)

Status: TypeAlias = Literal["draft", "active", "deprecated"]
Compatibility: TypeAlias = Literal[
    "none",
    "backward",
    "backward_transitive",
    "forward",
    "forward_transitive",
    "full",
    "full_transitive",
]


class SchemaFilters(TypedDict, total=False):
    """Which schemas."""

    name: str
    processor_id: str
    status: Status


class _Register(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    definition: object
    processor_id: str | None = None
    description: str = ""
    examples: tuple[object, ...] = ()
    compatibility: Compatibility | None = None
    status: Status | None = None


class _ChangeStatus(msgspec.Struct, frozen=True):
    status: Status


class _Validate(msgspec.Struct, frozen=True):
    data: object


class _Compare(msgspec.Struct, frozen=True):
    definition: object


class Schemas:
    """`studio.schemas`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def register(
        self,
        name: str,
        definition: object,
        *,
        processor_id: str | None = None,
        description: str = "",
        examples: Iterable[object] = (),
        compatibility: Compatibility | None = None,
        status: Status | None = None,
        idempotency_key: str | None = None,
    ) -> Schema:
        """The next version of a name.

        Raises Invalid for what is no schema, Conflict where it breaks the name's promise; both
        name the places.
        """
        body = _Register(
            name=name,
            definition=definition,
            processor_id=processor_id,
            description=description,
            examples=tuple(examples),
            compatibility=compatibility,
            status=status,
        )
        return (await self._transport.post("/schemas", body, idempotency_key)).read(Schema)

    async def get(self, schema_id: str, *, min_seq: int | None = None) -> Schema:
        """One version. Raises NotFound."""
        return await self._transport.get(_path(schema_id), Schema, min_seq=min_seq)

    async def latest(self, name: str, *, min_seq: int | None = None) -> Schema:
        """The latest active version of a name. Raises NotFound."""
        return await self._transport.get(_path(name), Schema, min_seq=min_seq)

    def list(
        self, *, min_seq: int | None = None, **filters: Unpack[SchemaFilters]
    ) -> AsyncIterator[Schema]:
        """All schemas of the caller's and the system's that the filters let through."""
        return walk(self._transport, "/schemas", Page[Schema], filters, min_seq)

    async def page(
        self,
        *,
        limit: int = 50,
        cursor: str | None = None,
        min_seq: int | None = None,
        **filters: Unpack[SchemaFilters],
    ) -> Page[Schema]:
        """One page of them; `cursor` is the `next_cursor` of the page before."""
        query = {**filters, "limit": limit, "cursor": cursor}
        return await self._transport.get("/schemas", Page[Schema], query, min_seq)

    async def status(
        self, schema_id: str, status: Status, *, if_match: int | None = None
    ) -> Schema:
        """Make a version a draft, active or deprecated. Raises Conflict."""
        body = _ChangeStatus(status)
        answer = await self._transport.change("PATCH", _path(schema_id), body, if_match)
        return answer.read(Schema)

    async def validate(self, schema_id: str, data: object) -> Validity:
        """Everything that is wrong with some data under a schema or the latest of a name."""
        return await self._try(schema_id, "validate", _Validate(data), Validity)

    async def compatibility(self, schema_id: str, definition: object) -> CompatibilityReport:
        """What a definition would break as the next version of a name."""
        return await self._try(
            schema_id, "compatibility", _Compare(definition), CompatibilityReport
        )

    async def _try(
        self, schema_id: str, verb: str, body: msgspec.Struct, into: type[_Verdict]
    ) -> _Verdict:
        call = Call(method="POST", path=f"{_path(schema_id)}/{verb}", body=encode(body))
        return (await self._transport.send(call)).read(into)


def _path(schema_id: str) -> str:
    return f"/schemas/{segment(schema_id)}"
