"""Schemas' events and rules: versions 1, 2, 3… of a name, and their status. Pure.

What a definition may be and whether one may follow another is judged by `reyna.judge`; here it is
only asked that it was. How data is checked belongs to `reyna.commands.schemas`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar, Literal

import msgspec

from reyna.domain.event import Boundary, Event, Opaque, Rules
from reyna.errors import Conflict, FieldError, Invalid, NotFound

SYSTEM = "system"

Status = Literal["draft", "active", "deprecated"]
Compatibility = Literal[
    "none",
    "backward",
    "backward_transitive",
    "forward",
    "forward_transitive",
    "full",
    "full_transitive",
]
DEFAULT_COMPATIBILITY: Compatibility = "backward"

# What one user may register; the system may register whatever it needs.
MAX_SCHEMAS = 500
MAX_BYTES = 4 * 1024 * 1024

_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}\Z")
_LIKE_AN_ID = re.compile(r".*-v[0-9]+\Z")
_CHANGES: frozenset[tuple[str, str]] = frozenset(
    {
        ("draft", "active"),
        ("draft", "deprecated"),
        ("active", "deprecated"),
        ("deprecated", "active"),
    }
)


class SchemaRegistered(Event, frozen=True, kw_only=True):
    """A version of a schema was made known. `definition` is the JSON Schema itself."""

    KIND: ClassVar[str] = "schema"
    VERB: ClassVar[str] = "registered"
    TOPIC: ClassVar[str] = "schema.registered"

    name: str
    version: int
    definition: msgspec.Raw
    status: Status = "active"
    description: str = ""
    compatibility: Compatibility = DEFAULT_COMPATIBILITY
    examples: tuple[msgspec.Raw, ...] = ()
    processor_id: str | None = None


class SchemaStatusChanged(Event, frozen=True, kw_only=True):
    """A version is now a draft, active or deprecated."""

    KIND: ClassVar[str] = "schema"
    VERB: ClassVar[str] = "status.changed"
    TOPIC: ClassVar[str] = "schema.status.changed"

    name: str
    version: int
    status: Status


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """A registered version as it is now. `seq` is its last event's."""

    schema_id: str
    registered: SchemaRegistered
    status: Status
    created_at: str
    seq: int

    @property
    def name(self) -> str:
        """The id without its version."""
        return self.registered.name

    @property
    def version(self) -> int:
        """1, 2, 3…"""
        return self.registered.version


class Schemas:
    """All that one owner has registered. `seq` is that of the last event folded."""

    def __init__(self) -> None:
        self.seq = 0
        self.by_id: dict[str, Schema] = {}

    def fold(self, schema_id: str, event: Event | Opaque, seq: int, time: str) -> None:
        """Take in what happened next."""
        self.seq = seq
        known = self.by_id.get(schema_id)
        if isinstance(event, SchemaRegistered):
            self.by_id[schema_id] = Schema(
                schema_id=schema_id,
                registered=event,
                status=event.status,
                created_at=time,
                seq=seq,
            )
        elif isinstance(event, SchemaStatusChanged) and known is not None:
            self.by_id[schema_id] = msgspec.structs.replace(known, status=event.status, seq=seq)

    def versions(self, name: str) -> list[Schema]:
        """The versions of a name, the first one first."""
        named = (schema for schema in self.by_id.values() if schema.name == name)
        return sorted(named, key=lambda schema: schema.version)

    def latest(self, name: str) -> Schema | None:
        """The latest active version of a name."""
        active = [schema for schema in self.versions(name) if schema.status == "active"]
        return active[-1] if active else None

    def get(self, schema_id: str) -> Schema:
        """A version. Raises NotFound."""
        found = self.by_id.get(schema_id)
        if found is None:
            raise NotFound(f"There is no schema {schema_id}.")
        return found

    def before(self, name: str, version: int, *, transitive: bool) -> list[Schema]:
        """The active versions that version `version` must be held against: the last one before
        it, or all.
        """
        active = [s for s in self.versions(name) if s.status == "active" and s.version < version]
        return active if transitive else active[-1:]


class SchemaRules(Rules):
    """What may happen to the schemas of one owner."""

    def __init__(self, owner: str, schemas: Schemas) -> None:
        self.owner = owner
        self.schemas = schemas
        self.boundary = boundary(owner)

    def register(self, event: SchemaRegistered, taken: Iterable[str]) -> None:
        """Register the next version of a name; `taken` are the names that are the system's.

        Raises Conflict for a taken name, a gap in the versions, or too many schemas.
        """
        if event.name in taken:
            raise Conflict(
                f"{event.name} is a schema of the system's.",
                [FieldError("/name", "name", "This name is the system's; choose another.")],
            )
        expected = next_version(self.schemas, event.name)
        if event.version != expected:
            raise Conflict(f"The next version of {event.name} is {expected}.")
        if self.owner != SYSTEM:
            self._check_room(event)
        self.decide(schema_id(event.name, event.version), event)

    def change_status(self, schema_id_: str, status: Status) -> None:
        """Change a version's status. Raises Conflict where that cannot be."""
        schema = self.schemas.get(schema_id_)
        if schema.status == status:
            return
        if (schema.status, status) not in _CHANGES:
            raise Conflict(f"{schema_id_} is {schema.status} and cannot become {status} again.")
        event = SchemaStatusChanged(name=schema.name, version=schema.version, status=status)
        self.decide(schema_id_, event)

    def _check_room(self, event: SchemaRegistered) -> None:
        held = [schema.registered for schema in self.schemas.by_id.values()]
        size = sum(len(bytes(one.definition)) for one in (*held, event))
        if len(held) >= MAX_SCHEMAS or size > MAX_BYTES:
            raise Conflict(
                f"A user has at most {MAX_SCHEMAS} schemas and {MAX_BYTES} bytes of definitions."
            )


def next_version(schemas: Schemas, name: str) -> int:
    """The version that a name gets next."""
    versions = schemas.versions(name)
    return versions[-1].version + 1 if versions else 1


def check_name(name: str) -> str:
    """`name` if a schema may have it. Raises Invalid."""
    if not _NAME.match(name) or _LIKE_AN_ID.match(name):
        sentence = (
            "A name has 1 to 64 small letters, digits and '-', begins with a letter, and does not"
            " end like a version (-v1)."
        )
        raise Invalid(sentence, [FieldError("/name", "pattern", sentence)])
    return name


def schema_id(name: str, version: int) -> str:
    """The id of a version, for example text-input-v1."""
    return f"{name}-v{version}"


def boundary(owner: str) -> Boundary:
    """The boundary of all that an owner registered: versions follow each other without a gap."""
    return Boundary(owner, "schema")
