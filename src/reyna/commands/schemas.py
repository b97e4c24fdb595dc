"""Schemas in use: the ones registered in the log, compiled. Owns the check of data on its way in.

What comes with the program is trusted: fastjsonschema gives the quick yes or no. What a user
registered is checked here only if its cost can be foreseen and is small, by jsonschema-rs; anything
else goes to a judge, and so do long lists of errors.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import NoReturn, Protocol, TypeVar

import fastjsonschema
import jsonschema_rs
import msgspec

from reyna.commands.boundaries import Boundaries
from reyna.domain import schema
from reyna.domain.event import Meta, type_of
from reyna.domain.schema import SYSTEM, SchemaRegistered
from reyna.errors import FieldError, Invalid, Malformed, NotFound, SetupError, WrongExpectedSeq
from reyna.ids import new_id, now
from reyna.judge import definitions, drafts
from reyna.judge.pool import Judges, TooCostly
from reyna.judge.tasks import Definition, Explain
from reyna.log import subjects
from reyna.log.record import Record, decode
from reyna.log.stream import Draft, Guard, Log

logger = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")

# Of users' schemas, and of users known to have none of an id.
KEPT = 128
ABSENT = 16_384
# The most steps that a check, or a list of errors, may take on the event loop.
QUICK_STEPS = 500_000
QUICK_ERRORS = 20_000
QUICK_BYTES = 32 * 1024
MAX_REFERENCES = 32
MAX_REFERENCED_BYTES = 256 * 1024


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


class Known:
    """A registered schema, ready to check data. `seq` and `created_at` are its registration's."""

    def __init__(self, record: Record, event: SchemaRegistered, definition: Definition) -> None:
        self.owner = record.owner
        self.schema_id = record.entity_id
        self.seq = record.seq
        self.created_at = record.time
        self.event = event
        self.definition = definition
        self._parsed: object = None
        self._resources: dict[str, object] = {}
        self._weight: definitions.Weight | None = None
        # A large one is a judge's work: its parts are not kept here.
        if len(definition.text) + sum(len(t) for _, t in definition.resources) <= QUICK_BYTES:
            self._parsed = msgspec.json.decode(definition.text)
            self._resources = {uri: msgspec.json.decode(t) for uri, t in definition.resources}
            self._weight = definitions.weight(self._parsed, self._resources)

    def quick(self, text: bytes, steps: int) -> bool:
        """Whether checking this JSON certainly takes no more than so many steps."""
        return self._weight is not None and self._weight.of(text) <= steps

    @cached_property
    def validator(self) -> jsonschema_rs.Validator:
        """Compiled at first use; only for what `quick` allows."""
        return drafts.compiled(self._parsed, self._resources)


class Schemas:
    """The registered schemas of the system and of users."""

    def __init__(self, log: Log, boundaries: Boundaries, judges: Judges) -> None:
        self._log = log
        self._boundaries = boundaries
        self._judges = judges
        self._system: dict[str, Known] = {}
        self._trusted: dict[str, Callable[[object], object]] = {}
        self._users: OrderedDict[tuple[str, str], Known] = OrderedDict()
        self._absent: OrderedDict[tuple[str, str], None] = OrderedDict()
        self.shipped_names: frozenset[str] = frozenset()

    async def ship(self, shipped: Iterable[Shipped]) -> None:
        """Register what comes with the program and is not yet in the log.

        Raises SetupError for one that is no draft-07 schema, and when a registered version differs:
        a released schema is never edited.
        """
        ordered = sorted(shipped, key=lambda one: (one.name, one.version))
        self.shipped_names = frozenset(one.name for one in ordered)
        for one in ordered:
            _check_shipped(one)
            await self._ship(one)
            self._trusted[one.schema_id] = fastjsonschema.compile(
                msgspec.json.decode(one.definition), handlers=_NO_FETCHING, use_default=False
            )

    async def load(self, owner: str) -> schema.Schemas:
        """All that an owner has registered, as the log has it now."""
        state = schema.Schemas()
        for record in await self._boundaries.records(schema.boundary(owner)):
            state.fold(record.entity_id, record.event, record.seq, record.time)
        return state

    async def find(self, user_id: str, schema_id: str) -> Known:
        """A schema as a user sees it: the user's own, or else the system's. Raises NotFound."""
        key = (user_id, subjects.schema_token(schema_id))
        own = self._users.get(key)
        if own is not None:
            self._users.move_to_end(key)
            return own
        system = self._system.get(schema_id) or await self._read(SYSTEM, schema_id)
        # A name of the system's can be no user's any more: then "none" stays true.
        if user_id != SYSTEM and (system is None or key not in self._absent):
            own = await self._read(user_id, schema_id)
            if own is not None:
                return own
            if system is not None:
                _keep(self._absent, key, None, ABSENT)
        if system is None:
            raise NotFound(f"There is no schema {schema_id}.")
        return system

    async def latest(self, user_id: str, name: str) -> Known:
        """The latest active version of a name as a user sees it. Raises NotFound."""
        for owner in dict.fromkeys((user_id, SYSTEM)):
            found = (await self.load(owner)).latest(name)
            if found is not None:
                return await self.find(owner, found.schema_id)
        raise NotFound(f"There is no schema {name} with an active version.")

    async def check(
        self, schema_id: str, data: object, path: str = "/data", *, user_id: str = SYSTEM
    ) -> msgspec.Raw:
        """The JSON of `data`, which is valid under the schema; `path` is where it stands in the
        request.

        Raises NotFound for a schema that is not registered, Invalid with every error otherwise.
        """
        known = await self.find(user_id, schema_id)
        text = msgspec.json.encode(data)
        errors = await self.errors(user_id, known, data, text, path)
        if errors:
            raise Invalid(f"The data is not valid under {schema_id}.", errors)
        return msgspec.Raw(text)

    async def errors(
        self, user_id: str, known: Known, data: object, text: bytes, path: str
    ) -> list[FieldError]:
        """What is wrong with data, whose JSON is `text`. Raises TooCostly."""
        first: FieldError | None = None
        trusted = self._trusted.get(known.schema_id) if known.owner == SYSTEM else None
        if trusted is not None:
            try:
                trusted(data)
            except fastjsonschema.JsonSchemaValueException as error:
                first = FieldError(path, str(error.rule), error.message)
            else:
                return []
        elif known.quick(text, QUICK_STEPS) and known.validator.is_valid(data):
            return []
        if known.quick(text, QUICK_ERRORS):
            found = drafts.errors_of(known.validator, data, path)
        else:
            try:
                task = Explain(known.definition, text, path)
                found = list((await self._judges.ask(user_id, task)).errors)
            except TooCostly:
                if first is None:
                    raise
                found = [first]
        return found or ([first] if first is not None else [])

    async def definition(self, user_id: str, parsed: object, text: bytes, path: str) -> Definition:
        """A definition with all the registered ones that it and they refer to.

        Raises Invalid naming each reference to what is not there, or if they are too many.
        """
        resources: dict[str, bytes] = {}
        missing: list[FieldError] = []
        for schema_id, place in definitions.references(parsed).items():
            try:
                known = await self.find(user_id, schema_id)
            except (NotFound, Malformed):
                sentence = f"There is no schema {schema_id[:80]}."
                missing.append(FieldError(path + place, "$ref", sentence))
                continue
            resources[definitions.URN + schema_id] = known.definition.text
            resources.update(known.definition.resources)
        if missing:
            raise Invalid("The schema refers to what is not registered.", missing)
        size = sum(map(len, resources.values()))
        if len(resources) > MAX_REFERENCES or size > MAX_REFERENCED_BYTES:
            sentence = f"It refers to more than {MAX_REFERENCES} schemas, or to too large ones."
            raise Invalid(sentence, [FieldError(path, "$ref", sentence)])
        return Definition(text, tuple(sorted(resources.items())))

    async def _read(self, owner: str, schema_id: str) -> Known | None:
        """A schema from the log, where another process may have put it."""
        for stored in await self._log.last_of_each(subjects.of_schema(owner, schema_id)) or ():
            record = decode(stored)
            event = record.event
            if not isinstance(event, SchemaRegistered):
                continue
            text = bytes(event.definition)
            definition = await self.definition(owner, msgspec.json.decode(text), text, "")
            known = Known(record, event, definition)
            if owner == SYSTEM:
                self._system[schema_id] = known
            else:
                _keep(self._users, (owner, schema_id), known, KEPT)
            return known
        return None

    async def _ship(self, one: Shipped) -> None:
        while True:
            state = await self.load(SYSTEM)
            registered = state.by_id.get(one.schema_id)
            if registered is not None:
                break
            event = SchemaRegistered(
                name=one.name,
                version=one.version,
                definition=msgspec.Raw(one.definition),
                description=one.description,
            )
            meta = Meta(id=new_id(), time=now(), type=type_of(event), actor=f"user:{SYSTEM}")
            guard = Guard(schema.boundary(SYSTEM), state.seq)
            try:
                await self._log.append([Draft(SYSTEM, one.schema_id, event, meta)], guard)
            except WrongExpectedSeq:
                logger.info("schemas were registered by another process meanwhile")
        definition = bytes(registered.registered.definition)
        if msgspec.json.decode(definition) != msgspec.json.decode(one.definition):
            raise SetupError(
                f"Schema {one.schema_id} differs from the one in the log; make a new version."
            )


def _check_shipped(one: Shipped) -> None:
    definition = msgspec.json.decode(one.definition)
    named = drafts.draft_of(definition)
    if named not in (drafts.DEFAULT, None):
        raise SetupError(f"Schema {one.schema_id} is not of draft-07, as those that ship are.")
    for fault in drafts.faults(definition, {}, ""):
        raise SetupError(f"Schema {one.schema_id} is none: {fault.message} ({fault.path or '/'})")


def _keep(kept: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)


def _refuse(uri: str) -> NoReturn:
    raise SetupError(f"A schema may not refer to {uri}: nothing is fetched.")


_NO_FETCHING = dict.fromkeys(("http", "https", "ftp", "file", ""), _refuse)
