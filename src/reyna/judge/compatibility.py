"""Compatibility: where a candidate refuses what an older version of a schema accepts, or may.

Owns the comparison and its sentences. What cannot be decided counts as a break, with one exception:
a new optional property is always allowed, though an open object might have held another value under
that name. A break found here is dropped when the canonical forms of both definitions prove that
the candidate accepts everything (`jsonschema_rs.canonicalize`).
"""

from __future__ import annotations

import jsonschema_rs
from jsonschema_rs import RegexOptions
from jsonschema_rs.canonical import CanonicalizationError, Containment

from reyna.errors import FieldError
from reyna.judge.definitions import Json, Resources
from reyna.judge.dialect import Dialect, stripped
from reyna.judge.drafts import checked, draft_of, number_of
from reyna.judge.narrowing import Narrowing, TooComplex
from reyna.judge.sides import Schema, identical

MODES = ("backward", "forward", "full")
_TRANSITIVE = "_transitive"
ALL_MODES = ("none", *MODES, *(mode + _TRANSITIVE for mode in MODES))


class Side:
    """One definition of a comparison, with the registered schemas that it refers to."""

    def __init__(self, definition: Json, resources: Resources) -> None:
        self.definition = definition
        self.resources = resources


def is_transitive(mode: str) -> bool:
    """Whether a mode looks at all earlier active versions, not only at the last."""
    return mode.endswith(_TRANSITIVE)


def breaks(older: Side, candidate: Side, schema_id: str, mode: str, path: str) -> list[FieldError]:
    """Where the candidate breaks the promise of `mode` to the older version, `schema_id`.

    backward: what was valid stays valid. forward: what becomes valid was valid before. full: both.
    `path` is where the candidate stands in the request.
    """
    direction = mode.removesuffix(_TRANSITIVE)
    found: list[FieldError] = []
    if direction in {"backward", "full"}:
        found += _one_way(older, candidate, path, f"Data valid under {schema_id} may break: ")
    if direction in {"forward", "full"}:
        lead = f"Data valid under the new version may break readers of {schema_id}: "
        found += _one_way(candidate, older, path, lead)
    return found


def _one_way(old: Side, new: Side, path: str, lead: str) -> list[FieldError]:
    if identical(stripped(old.definition), stripped(new.definition)):
        return []
    if draft_of(old.definition) != draft_of(new.definition):
        sentence = "it is of another draft; whether both mean the same cannot be told."
        found = [FieldError(f"{path}/$schema", "$schema", sentence)]
    else:
        found = _walk(old, new, path)
    if found and covers(new, old):
        return []
    return [FieldError(one.path, one.keyword, lead + one.message) for one in found]


def _walk(old: Side, new: Side, path: str) -> list[FieldError]:
    narrowing = Narrowing(Dialect.of(new.definition), old.resources, new.resources, path)
    before, after = (Schema(side.definition, side.definition) for side in (old, new))
    try:
        return list(dict.fromkeys(narrowing.narrowed([before], after, path)))
    except (TooComplex, RecursionError):
        sentence = "the two are too complex to be compared; whether they agree cannot be told."
        return [FieldError(path, "$ref", sentence)]


def covers(new: Side, old: Side) -> bool:
    """Whether it is proven that the new definition accepts all that the old one does."""
    if new.resources or old.resources:
        return False
    try:
        wide, narrow = (
            jsonschema_rs.canonicalize(
                checked(side.definition),
                draft=number_of(side.definition),
                validate_formats=True,
                pattern_options=RegexOptions(),
                offline=True,
            )
            for side in (new, old)
        )
        return wide.covers(narrow) is Containment.YES
    except (CanonicalizationError, ValueError):
        return False
