"""The two sides of a comparison: schemas with the definitions they stand in, and when two agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import msgspec

from reyna.errors import FieldError
from reyna.judge.definitions import Json
from reyna.judge.dialect import stripped

Found: TypeAlias = list[FieldError]
Plain: TypeAlias = dict[str, Json]


class Schema(msgspec.Struct, frozen=True):
    """A schema and the definition it stands in, to which its references are relative."""

    value: Json
    root: Json

    def within(self, value: Json) -> Schema:
        """A schema of the same definition."""
        return Schema(value, self.root)


class Conjunct(msgspec.Struct, frozen=True):
    """One of the old schemas that all hold: `source` said plainly, its parts told apart."""

    plain: Plain
    root: Json
    source: Json

    def inner(self, value: Json) -> Schema:
        """A schema within it."""
        return Schema(value, self.root)


class Comparison(Protocol):
    """Compares what is inside of objects and lists. `strict`: a new optional property narrows,
    since an open object could have had anything under its name.
    """

    @property
    def strict(self) -> bool:
        """Whether new optional properties count."""

    def narrowed(self, olds: Sequence[Schema], new: Schema, path: str) -> Found:
        """Where `new`, at `path`, may refuse a value that all of `olds` accept."""

    def compare(self, olds: list[Conjunct], new: Schema, path: str) -> Found:
        """The same, for an old side that is told apart already."""


def same(old: Conjunct, keyword: str, new: Schema, plain: Plain) -> bool:
    """Whether a keyword is said of both sides in the same words, which mean the same."""
    if (keyword in old.plain) != (keyword in plain):
        return False
    said, says = stripped(old.plain.get(keyword)), stripped(plain.get(keyword))
    if not identical(said, says):
        return False
    refers = b"Ref" in msgspec.json.encode(says) or b'"$ref"' in msgspec.json.encode(says)
    if keyword.lower().endswith("ref"):
        refers = True
    return not refers or identical(stripped(old.root), stripped(new.root))


def identical(one: Json, other: Json) -> bool:
    """Whether two JSON values are equal; true is not 1."""
    return msgspec.json.encode(one, order="deterministic") == msgspec.json.encode(
        other, order="deterministic"
    )


def many(value: Json) -> list[Json]:
    """A list, empty for anything else."""
    return value if isinstance(value, list) else []


def named(value: Json) -> dict[str, Json]:
    """An object, empty for anything else."""
    return value if isinstance(value, dict) else {}
