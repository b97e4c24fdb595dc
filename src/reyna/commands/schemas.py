"""Schemas in use: the ones registered in the log, compiled. Owns the check of data on its way in.

The quick answer (valid or not) comes from fastjsonschema; the full list of errors, needed only for
invalid data, from jsonschema-rs. Neither ever fetches a reference.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import NoReturn, Protocol

import fastjsonschema
import jsonschema_rs
import msgspec

from reyna.domain import schema
from reyna.domain.event import Meta, type_of
from reyna.domain.schema import SYSTEM, SchemaRegistered
from reyna.errors import FieldError, Invalid, NotFound, SetupError, WrongExpectedSeq
from reyna.ids import new_id, now
from reyna.log import subjects
from reyna.log.record import decode
from reyna.log.stream import Draft, Guard, Log

logger = logging.getLogger(__name__)

MAX_ERRORS = 100


class Shipped(Protocol):
    """A schema that comes with the program."""

    @property
    def schema_id(self) -> str:
        """For example text-input-v1."""

    @property
    def name(self) -> str:
        """The id without its version."""

    @property
    def version(self) -> int:
        """1, 2, 3…"""

    @property
    def description(self) -> str:
        """What it is for."""

    @property
    def definition(self) -> bytes:
        """The JSON Schema."""


class _Compiled:
    def __init__(self, definition: bytes) -> None:
        parsed = msgspec.json.decode(definition)
        self.check: Callable[[object], object] = fastjsonschema.compile(
            parsed, handlers=_NO_FETCHING, use_default=False
        )
        self.explain = jsonschema_rs.validator_for(parsed, validate_formats=True, offline=True)


class Schemas:
    """The registered schemas of the system."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._compiled: dict[str, _Compiled] = {}

    async def ship(self, shipped: Iterable[Shipped]) -> None:
        """Register what comes with the program and is not yet in the log.

        Raises SetupError when a registered version differs: a released schema is never edited.
        """
        for one in shipped:
            registered = await self._load(one.schema_id)
            if registered is None:
                registered = await self._register(one)
            if msgspec.json.decode(registered) != msgspec.json.decode(one.definition):
                raise SetupError(
                    f"Schema {one.schema_id} differs from the one in the log; make a new version."
                )

    async def check(self, schema_id: str, data: object, path: str = "/data") -> msgspec.Raw:
        """The JSON of `data`, which is valid under the schema; `path` is where it stands in the
        request.

        Raises NotFound for a schema that is not registered, Invalid with every error otherwise.
        """
        compiled = self._compiled.get(schema_id)
        if compiled is None:
            if await self._load(subjects.schema_token(schema_id)) is None:
                raise NotFound(f"There is no schema {schema_id}.")
            compiled = self._compiled[schema_id]
        try:
            compiled.check(data)
        except fastjsonschema.JsonSchemaValueException as first:
            raise Invalid(
                f"The data is not valid under {schema_id}.",
                _errors(compiled, data, path) or [FieldError(path, str(first.rule), first.message)],
            ) from None
        return msgspec.Raw(msgspec.json.encode(data))

    async def _load(self, schema_id: str) -> bytes | None:
        filter_ = subjects.guard(schema.boundary(SYSTEM, schema_id))
        for stored in await self._log.last_of_each(filter_) or ():
            event = decode(stored).event
            if isinstance(event, SchemaRegistered):
                self._compiled[schema_id] = _Compiled(bytes(event.definition))
                return bytes(event.definition)
        return None

    async def _register(self, one: Shipped) -> bytes:
        event = SchemaRegistered(
            name=one.name,
            version=one.version,
            definition=msgspec.Raw(one.definition),
            description=one.description,
        )
        meta = Meta(id=new_id(), time=now(), type=type_of(event), actor=f"user:{SYSTEM}")
        boundary = schema.boundary(SYSTEM, one.schema_id)
        try:
            await self._log.append([Draft(SYSTEM, one.schema_id, event, meta)], Guard(boundary, 0))
        except WrongExpectedSeq:
            logger.info("schema %s was registered by another process", one.schema_id)
        registered = await self._load(one.schema_id)
        if registered is None:
            raise SetupError(f"Schema {one.schema_id} cannot be read back from the log.")
        return registered


def _errors(compiled: _Compiled, data: object, path: str) -> list[FieldError]:
    found: list[FieldError] = []
    for error in compiled.explain.iter_errors(data):
        pointer = "".join(
            f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in error.instance_path
        )
        found.append(FieldError(path + pointer, error.kind.name, error.message[:500]))
        if len(found) == MAX_ERRORS:
            break
    return sorted(found, key=lambda one: (one.path, one.keyword))


def _refuse(uri: str) -> NoReturn:
    raise SetupError(f"A schema may not refer to {uri}: nothing is fetched.")


_NO_FETCHING = dict.fromkeys(("http", "https", "ftp", "file", ""), _refuse)
