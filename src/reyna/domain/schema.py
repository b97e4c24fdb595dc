"""Schemas' events and state. How data is checked against a schema belongs to
`reyna.commands.schemas`.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from reyna.domain.event import Boundary, Event

SYSTEM = "system"


class SchemaRegistered(Event, frozen=True, kw_only=True):
    """A version of a schema was made known. `definition` is the JSON Schema itself."""

    KIND: ClassVar[str] = "schema"
    VERB: ClassVar[str] = "registered"
    TOPIC: ClassVar[str] = "schema.registered"

    name: str
    version: int
    definition: msgspec.Raw
    status: str = "active"
    description: str = ""


def boundary(owner: str, schema_id: str | None = None) -> Boundary:
    """The boundary of one schema, or of all that an owner registered."""
    return Boundary(owner, "schema", schema_id)
