"""What can be asked of the judge and what it answers: the messages between a server and its judges.

A definition and the schemas it refers to travel as JSON text.
"""

from __future__ import annotations

import msgspec

from reyna.errors import FieldError


class Definition(msgspec.Struct, frozen=True):
    """A definition, as JSON, with the registered ones it refers to, by URN."""

    text: bytes
    resources: tuple[tuple[str, bytes], ...] = ()


class Older(msgspec.Struct, frozen=True):
    """A version that a candidate is held against."""

    schema_id: str
    definition: Definition


class Check(msgspec.Struct, frozen=True, tag=True):
    """Is this a schema? The answer's `errors` say why not."""

    definition: Definition
    path: str


class Compare(msgspec.Struct, frozen=True, tag=True):
    """May this follow those? `mode` without its `_transitive`. The answer's `errors` are breaks."""

    definition: Definition
    older: tuple[Older, ...]
    mode: str
    path: str


class Explain(msgspec.Struct, frozen=True, tag=True):
    """What is wrong with this JSON? Nothing: it is valid."""

    definition: Definition
    data: bytes
    path: str


class Sift(msgspec.Struct, frozen=True, tag=True):
    """Which of these are valid?"""

    definition: Definition
    data: tuple[bytes, ...]


class Answer(msgspec.Struct, frozen=True):
    """What a judge found."""

    errors: tuple[FieldError, ...] = ()
    valid: tuple[bool, ...] = ()


Task = Check | Compare | Explain | Sift
