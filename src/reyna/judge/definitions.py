"""Definitions as text: their limits, the schemas they refer to, and what checking them can cost.

Everything here is one cheap walk over JSON; nothing is compiled. A definition comes from a
stranger: what these walks cannot foresee is left to the judge's own processes (`reyna.judge.pool`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import msgspec

from reyna.errors import FieldError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 64
MAX_PARTS = 5000
# A registered schema is referred to as urn:reyna:schema:text-input-v1, with a fragment or without.
URN = "urn:reyna:schema:"

Json: TypeAlias = object
Resources: TypeAlias = Mapping[str, Json]

ONE = frozenset(
    [
        "additionalItems",
        "additionalProperties",
        "contains",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
        "contentSchema",
    ]
)
MANY = frozenset(["allOf", "anyOf", "oneOf", "prefixItems", "items"])
NAMED = frozenset(
    ["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"]
)
_STORED = frozenset(["$defs", "definitions"])
_UNFORESEEABLE = frozenset(
    ["$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef"]
)
_MOST = 10**9
_HEIGHT = 150
_COUNTED = re.compile(r"\{(\d{1,6})(?:,(\d{0,6}))?\}")


class Weight(msgspec.Struct, frozen=True):
    """The most that a check can cost: steps for each JSON value, and for each byte of text."""

    per_value: int
    per_byte: int

    def of(self, encoded: bytes) -> int:
        """The most steps that checking this JSON can take."""
        values = 1 + encoded.count(b",") + encoded.count(b"[") + encoded.count(b"{")
        return self.per_value * values + self.per_byte * len(encoded)


class Unforeseeable(LookupError):
    """The walk cannot tell what a check would cost."""


def pointer(*steps: str | int) -> str:
    """The JSON Pointer (RFC 6901) of some steps."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in steps)


def oversize(definition: Json, size: int, path: str) -> list[FieldError]:
    """What of a definition of `size` bytes is over the limits; `path` is where it stands."""
    if not isinstance(definition, dict | bool):
        return [FieldError(path, "type", "A schema is an object, true or false.")]
    if size > MAX_BYTES:
        return [FieldError(path, "maxLength", f"A schema has at most {MAX_BYTES} bytes of JSON.")]
    parts = 0
    stack: list[tuple[Json, str, int]] = [(definition, path, 1)]
    while stack:
        value, place, depth = stack.pop()
        if not isinstance(value, dict | list):
            continue
        parts += 1
        if depth > MAX_DEPTH:
            return [FieldError(place, "depth", f"A schema is at most {MAX_DEPTH} levels deep.")]
        steps = value.items() if isinstance(value, dict) else enumerate(value)
        stack.extend((inner, place + pointer(step), depth + 1) for step, inner in steps)
    if parts > MAX_PARTS:
        sentence = f"A schema has at most {MAX_PARTS} objects and lists; this one has {parts}."
        return [FieldError(path, "maxItems", sentence)]
    return []


def subschemas(schema: Mapping[str, Json]) -> Iterator[tuple[str, tuple[str | int, ...], Json]]:
    """The schemas directly within one, each with its keyword and the steps to it."""
    for keyword, value in schema.items():
        if isinstance(value, list) and keyword in MANY:
            for index, inner in enumerate(value):
                yield keyword, (keyword, index), inner
        elif isinstance(value, dict) and keyword in NAMED:
            for name, inner in value.items():
                if isinstance(inner, dict | bool):
                    yield keyword, (keyword, name), inner
        elif isinstance(value, dict | bool) and keyword in ONE:
            yield keyword, (keyword,), value


def every(definition: Json, path: str = "") -> Iterator[tuple[str, dict[str, Json]]]:
    """Every object that stands where a schema stands, with its place."""
    stack: list[tuple[str, Json]] = [(path, definition)]
    while stack:
        place, schema = stack.pop()
        if isinstance(schema, dict):
            yield place, schema
            stack.extend((place + pointer(*steps), inner) for _, steps, inner in subschemas(schema))


def references(definition: Json) -> dict[str, str]:
    """The ids of the registered schemas that a definition refers to, each with one place."""
    found: dict[str, str] = {}
    for place, schema in every(definition):
        target = schema.get("$ref")
        if isinstance(target, str) and target.startswith(URN):
            found.setdefault(target.removeprefix(URN).partition("#")[0], place + "/$ref")
    return found


def weight(definition: Json, resources: Resources) -> Weight | None:
    """What checking can cost, None if that depends on the data or cannot be told."""
    try:
        walk = _Weighing(resources)
        per_value = walk.weigh(definition, definition, 0)
    except Unforeseeable:
        return None
    return Weight(per_value, min(walk.per_byte, _MOST))


class _Weighing:
    """Counts, for one JSON value, how many steps its check can take: through every reference, as
    often as it is taken. A cycle, or a reference by anything but a pointer, is unforeseeable.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._known: dict[int, int | None] = {}
        self.per_byte = 0

    def weigh(self, schema: Json, root: Json, height: int) -> int:
        if not isinstance(schema, dict):
            return 1
        if height > _HEIGHT:
            raise Unforeseeable
        known = self._known.get(id(schema), 0)
        if known is None:
            raise Unforeseeable
        if known:
            return known
        self._known[id(schema)] = None
        total = min(self._own(schema, root) + self._inner(schema, root, height), _MOST)
        self._known[id(schema)] = total
        return total

    def _own(self, schema: dict[str, Json], root: Json) -> int:
        if _UNFORESEEABLE & schema.keys():
            raise Unforeseeable
        if schema is not root and any(isinstance(schema.get(k), str) for k in ("$id", "id")):
            raise Unforeseeable
        pattern = schema.get("pattern")
        patterns = [pattern] if isinstance(pattern, str) else []
        named = schema.get("patternProperties")
        patterns += list(named) if isinstance(named, dict) else []
        self.per_byte += sum(map(_pattern_weight, patterns))
        plain = (v for k, v in schema.items() if k not in ONE | MANY | NAMED)
        return 1 + sum(map(_values, plain)) + 10 * ("uniqueItems" in schema)

    def _inner(self, schema: dict[str, Json], root: Json, height: int) -> int:
        total, most = 0, 0
        for keyword, _, inner in subschemas(schema):
            if keyword in _STORED:
                continue
            cost = self.weigh(inner, root, height + 1)
            if keyword in {"properties", "prefixItems"}:
                most = max(most, cost)
            else:
                total += cost
        target = schema.get("$ref")
        if target is not None:
            found, found_root = resolve(target, root, self._resources)
            total += self.weigh(found, found_root, height + 1)
        return total + most


def resolve(target: Json, root: Json, resources: Resources) -> tuple[Json, Json]:
    """The schema that a reference by pointer names, and the definition it stands in.

    Raises Unforeseeable for one that is not a pointer into `root` or into one of `resources`.
    """
    if not isinstance(target, str):
        raise Unforeseeable
    base, _, fragment = target.partition("#")
    if base:
        if base not in resources:
            raise Unforeseeable
        root = resources[base]
    found = root
    if fragment and not fragment.startswith("/"):
        raise Unforeseeable
    for step in fragment.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isascii() and name.isdigit():
            found = found[int(name)] if int(name) < len(found) else None
        else:
            raise Unforeseeable
    return found, root


def _values(value: Json) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(_values, value.values()))
    if isinstance(value, list):
        return 1 + sum(map(_values, value))
    return 1


def _pattern_weight(pattern: str) -> int:
    """Matching is linear in the text; a counted repetition multiplies what each byte costs."""
    counted = 1
    for low, high in _COUNTED.findall(pattern):
        counted = min(counted * max(int(high or low), 1), _MOST)
    return counted + len(pattern) // 50
