"""The subject grammar: `reyna.{owner}.{kind}.{id}.{verb…}[.{qualifier}]`.

Nothing becomes part of a subject without passing `token` or `schema_token`, so no dot, star or `>`
of a caller's can widen a filter. Every boundary has exactly one filter string, made by `guard`
(two filters that overlap do not see each other on a cluster).
"""

from __future__ import annotations

import re

import msgspec

from reyna.domain.event import Boundary, Event
from reyna.errors import Malformed

PREFIX = "reyna"
ALL = f"{PREFIX}.>"
# What the stream takes: nothing that cannot be taken apart again.
STORED = f"{PREFIX}.*.*.*.>"
REPUBLISH_TO = "{{wildcard(2)}}.>"

# `$` alone also matches before a newline at the end, and JSON Schema knows no `\Z`.
END = r"$(?!\n)"
ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}" + END
SCHEMA_ID_PATTERN = r"^[a-z][a-z0-9-]{0,63}-v[1-9][0-9]{0,5}" + END
_TOKEN = re.compile(ID_PATTERN)
_SCHEMA = re.compile(SCHEMA_ID_PATTERN)
_TWO_WORD_VERBS = frozenset(
    {
        "structure.changed",
        "blob.added",
        "blob.removed",
        "status.changed",
        "instance.changed",
        "backfill.requested",
    }
)
_MIN_TOKENS = 5


class Subject(msgspec.Struct, frozen=True):
    """A stored message's subject, taken apart."""

    owner: str
    kind: str
    entity_id: str
    verb: str
    qualifier: str | None = None

    @property
    def type(self) -> str:
        """The event's public type, for example `blob.created`."""
        return f"{self.kind}.{self.verb}"


def token(value: str) -> str:
    """`value` if it may stand in a subject as one token; Malformed otherwise."""
    if not _TOKEN.match(value):
        raise Malformed(
            f"{value[:80]!r} is not an id: use letters, digits, '-' and '_', at most 64."
        )
    return value


def schema_token(value: str) -> str:
    """`value` if it is a schema id such as `text-input-v1`; Malformed otherwise."""
    if not _SCHEMA.match(value):
        raise Malformed(f"{value[:80]!r} is not a schema id: it looks like text-input-v1.")
    return value


def subject_of(owner: str, entity_id: str, event: Event) -> str:
    """The subject that `event` is stored under."""
    parts = [PREFIX, token(owner), event.KIND, _entity_token(event.KIND, entity_id), event.VERB]
    if event.QUALIFIER:
        check = schema_token if event.QUALIFIER == "schema_id" else token
        parts.append(check(getattr(event, event.QUALIFIER)))
    return ".".join(parts)


def guard(boundary: Boundary) -> str:
    """The one filter of a boundary."""
    owner = token(boundary.owner)
    if boundary.entity_id is None:
        return f"{PREFIX}.{owner}.{boundary.kind}.>"
    return f"{PREFIX}.{owner}.{boundary.kind}.{_entity_token(boundary.kind, boundary.entity_id)}.>"


def of_owner(owner: str) -> str:
    """The filter of everything an owner has."""
    return f"{PREFIX}.{token(owner)}.>"


def of_filings(owner: str) -> str:
    """The filter of all filings of an owner."""
    return f"{PREFIX}.{token(owner)}.bucket.*.blob.*"


def of_filings_in(owner: str, bucket_id: str) -> tuple[str, str]:
    """The two subjects of a bucket's filings."""
    place = f"{PREFIX}.{token(owner)}.bucket.{token(bucket_id)}.blob"
    return f"{place}.added", f"{place}.removed"


def of_schema(owner: str, schema_id: str) -> str:
    """The one subject of a schema's registration."""
    return f"{PREFIX}.{token(owner)}.schema.{schema_token(schema_id)}.registered"


def of_blobs(owner: str | None, schema_id: str) -> str:
    """The filter of all events of the blobs of one schema: an owner's, or with None everybody's."""
    whose = "*" if owner is None else token(owner)
    return f"{PREFIX}.{whose}.blob.*.*.{schema_token(schema_id)}"


def of_instance(owner: str, processor_id: str) -> str:
    """The one subject of a user's instance of a processor."""
    return f"{PREFIX}.{token(owner)}.processor.{token(processor_id)}.instance.changed"


def of_runs(owner: str | None, verb: str, processor_id: str | None = None) -> str:
    """The filter of what runs say by one verb: an owner's, or with None everybody's; of one
    processor or of all.
    """
    whose = "*" if owner is None else token(owner)
    which = "*" if processor_id is None else token(processor_id)
    return f"{PREFIX}.{whose}.processor.*.{verb}.{which}"


def of_content(verb: str, schema_id: str) -> str:
    """The filter of everybody's blob events of one verb and schema."""
    return f"{PREFIX}.*.blob.*.{verb}.{schema_token(schema_id)}"


def parse(subject: str) -> Subject:
    """Take a stored subject apart; the verb is one word or one of the known pairs."""
    parts = subject.split(".")
    if len(parts) < _MIN_TOKENS or parts[0] != PREFIX:
        raise Malformed(f"{subject!r} is not a subject of this log.")
    pair = ".".join(parts[4:6])
    words = 2 if pair in _TWO_WORD_VERBS else 1
    rest = parts[4 + words :]
    return Subject(
        owner=parts[1],
        kind=parts[2],
        entity_id=parts[3],
        verb=".".join(parts[4 : 4 + words]),
        qualifier=".".join(rest) or None,
    )


def _entity_token(kind: str, value: str) -> str:
    return schema_token(value) if kind == "schema" else token(value)
