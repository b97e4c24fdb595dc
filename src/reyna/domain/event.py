"""What every event is, and what a boundary is. Owns the base types; the events stand with their
rules.

An event is a frozen msgspec Struct in the past tense and a decision of the `eventsourcing` library
at once. Its JSON is its fields; `Meta` travels beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
from eventsourcing.dcb.domain import Decision, Selector, Slice


class Event(msgspec.Struct, Decision, frozen=True, kw_only=True):
    """One immutable fact.

    `KIND` and `VERB` make its type (`blob.created`) and its subject; `QUALIFIER` names the field,
    if any, whose value closes the subject (`blob.created.text-input-v1`).
    """

    KIND: ClassVar[str] = ""
    VERB: ClassVar[str] = ""
    QUALIFIER: ClassVar[str | None] = None
    TOPIC: ClassVar[str] = ""

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, as `eventsourcing` asks for them."""
        return {name: getattr(self, name) for name in self.__struct_fields__}


def type_of(event: type[Event] | Event) -> str:
    """The event's public type, for example `bucket.structure.changed`."""
    return f"{event.KIND}.{event.VERB}"


class Opaque(msgspec.Struct, frozen=True):
    """An event of a type, or a shape, that this version does not know: carried, never
    interpreted.
    """

    raw: bytes


class Meta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What travels beside an event's own fields. Names follow CloudEvents 1.0 where one fits.

    `id` names the event itself, `actor` who caused it (`user:…` or `processor:…`), `cause` the
    event it follows from, `correlation` the first event of the chain, `hops` how many derivations
    deep it is, `lineage` the blobs it was derived from and `via` the processors, oldest first.
    `fingerprint` is the digest of the request that made it, where the request carried an
    Idempotency-Key. `batch`, on the first of several events that were appended together, is how
    many they are: their seqs follow on.
    """

    id: str
    time: str
    type: str
    actor: str
    cause: str | None = None
    correlation: str | None = None
    hops: int = 0
    lineage: tuple[str, ...] = ()
    via: tuple[str, ...] = ()
    fingerprint: str | None = None
    batch: int = 1


class Boundary(msgspec.Struct, frozen=True):
    """A consistency boundary: one thing (`entity_id`), or with None all an owner has of a kind."""

    owner: str
    kind: str
    entity_id: str | None = None


class Decided(msgspec.Struct, frozen=True):
    """An event that a rule decided, with the thing it happened to."""

    entity_id: str
    event: Event


class Rules(Slice[Event]):
    """A perspective on one boundary for the length of one command.

    The folded state is read, never changed: state changes when an event has been stored.
    """

    boundary: Boundary

    def consistency_boundary(self) -> Selector:
        """The boundary in the library's terms: owner, kind and id as tags."""
        b = self.boundary
        return Selector(tags=[b.owner, b.kind, *([b.entity_id] if b.entity_id else [])])

    def decide(self, entity_id: str, event: Event) -> None:
        """Take `event` as decided for `entity_id`."""
        self.trigger_event(lambda: event, [entity_id])

    def decided(self) -> Sequence[Decided]:
        """Hand over what was decided, in order."""
        return [Decided(tagged.tags[0], tagged.decision) for tagged in self.collect_events()]
