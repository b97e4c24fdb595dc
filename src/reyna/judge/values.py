"""What the comparison knows of plain values: kinds, fixed values, bounds, patterns, formats.

Each function answers the keywords of the new side that no schema of the old side implies, with a
sentence. Schemas come plain (see `reyna.judge.dialect`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import msgspec

from reyna.judge.definitions import Json

Plain = dict[str, Json]
Broken = tuple[str, str]

# `number` stands for numbers that are not whole: a schema's "number" is both.
ALL_KINDS = frozenset(["null", "boolean", "object", "array", "string", "number", "integer"])
_NUMBERS = frozenset(["number", "integer"])

_LEAST = {"minLength": "string", "minItems": "array", "minProperties": "object"}
_MOST = {"maxLength": "string", "maxItems": "array", "maxProperties": "object"}
_EQUAL = {
    "pattern": "string",
    "format": "string",
    "contentEncoding": "string",
    "contentMediaType": "string",
}


def kinds_named(plain: Plain) -> frozenset[str]:
    """The kinds of value that one schema's `type`, `const` and `enum` let through."""
    kinds = ALL_KINDS
    named = plain.get("type")
    if named is not None:
        names = named if isinstance(named, list) else [named]
        kinds = frozenset().union(*(_NUMBERS if n == "number" else {str(n)} for n in names))
    values = finite(plain)
    if values is not None:
        kinds &= frozenset().union(*map(_kinds_of, values))
    return frozenset() if plain.get("not") in ({}, True) and "not" in plain else kinds


def kinds_possible(schemas: Sequence[Plain]) -> frozenset[str]:
    """The kinds of value that all schemas let through."""
    return ALL_KINDS.intersection(*map(kinds_named, schemas))


def finite(plain: Plain) -> list[Json] | None:
    """The values that `const` or `enum` list, None without them."""
    if "const" in plain:
        return [plain["const"]]
    values = plain.get("enum")
    return values if isinstance(values, list) else None


def values_broken(olds: Sequence[Plain], new: Plain, possible: frozenset[str]) -> Iterator[Broken]:
    """`type`, `enum`, `const`, patterns and formats."""
    if "type" in new:
        refused = possible - kinds_named({"type": new["type"]})
        if refused:
            names = ", ".join(sorted("number" if k == "number" else k for k in refused))
            yield "type", f"the type {names} is no longer accepted."
    for keyword in ("enum", "const"):
        values = finite({keyword: new[keyword]}) if keyword in new else None
        if values is not None:
            yield from _finite_broken(olds, keyword, {_key(value) for value in values})
    for keyword, kind in _EQUAL.items():
        if keyword in new and kind in possible:
            said = [old[keyword] for old in olds if keyword in old]
            if new[keyword] not in said:
                how = "is new" if not said else "is another one"
                yield keyword, f"the {keyword} {how}; whether it accepts the same cannot be told."


def bounds_broken(olds: Sequence[Plain], new: Plain, possible: frozenset[str]) -> Iterator[Broken]:
    """Lengths, counts, numbers and multiples."""
    for keyword, kind in _LEAST.items():
        if kind in possible and _number(new, keyword, 0) > max(
            (_number(old, keyword, 0) for old in olds), default=0
        ):
            yield keyword, f"{keyword} was raised, or is new."
    for keyword, kind in _MOST.items():
        if kind in possible and keyword in new:
            bounds = [_number(old, keyword, 0) for old in olds if keyword in old]
            if not bounds or _number(new, keyword, 0) < min(bounds):
                yield keyword, f"{keyword} was lowered, or is new."
    if possible & _NUMBERS:
        yield from _range_broken(olds, new, "minimum", "exclusiveMinimum", lambda v: v)
        yield from _range_broken(olds, new, "maximum", "exclusiveMaximum", lambda v: -v)
        if "multipleOf" in new and not _multiples(olds, new, possible):
            yield "multipleOf", "numbers that were accepted are not multiples of it."


def _range_broken(
    olds: Sequence[Plain],
    new: Plain,
    inclusive: str,
    exclusive: str,
    turned: Callable[[Fraction], Fraction],
) -> Iterator[Broken]:
    """Lower bounds; `turned` makes upper ones of them. A bound is its value and whether it is
    excluded.
    """

    def bounds(plain: Plain) -> dict[str, tuple[Fraction, bool]]:
        return {
            keyword: (turned(_number(plain, keyword, 0)), keyword == exclusive)
            for keyword in (inclusive, exclusive)
            if isinstance(plain.get(keyword), int | float)
        }

    held = max((bound for old in olds for bound in bounds(old).values()), default=None)
    for keyword, bound in bounds(new).items():
        if held is None or bound > held:
            yield keyword, f"{keyword} is narrower, or is new."


def _multiples(olds: Sequence[Plain], new: Plain, possible: frozenset[str]) -> bool:
    step = _number(new, "multipleOf", 1)
    steps = [_number(old, "multipleOf", 1) for old in olds if "multipleOf" in old]
    if not possible & {"number"}:
        steps.append(Fraction(1))
    return any(one % step == 0 for one in steps)


def _finite_broken(olds: Sequence[Plain], keyword: str, allowed: set[bytes]) -> Iterator[Broken]:
    listed = [values for old in olds if (values := finite(old)) is not None]
    if not listed:
        yield keyword, f"{keyword} is new: any other value is no longer accepted."
        return
    # A value must be in every list of the old side to have been accepted.
    held = set.intersection(*({_key(value) for value in values} for values in listed))
    gone = [value for value in listed[0] if _key(value) in held - allowed]
    if gone:
        names = ", ".join(msgspec.json.encode(value).decode()[:50] for value in gone[:10])
        yield keyword, f"no longer accepted: {names}."


def _number(plain: Plain, keyword: str, default: int) -> Fraction:
    value = plain.get(keyword)
    return Fraction(str(value)) if isinstance(value, int | float) else Fraction(default)


def _key(value: Json) -> bytes:
    """Equal for values that JSON Schema takes for equal: 1 is 1.0, but not true."""
    return msgspec.json.encode(_whole(value), order="deterministic")


def _whole(value: Json) -> Json:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(one) for one in value]
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    return value


def _kinds_of(value: Json) -> frozenset[str]:
    if isinstance(value, float):
        return _NUMBERS if value.is_integer() else frozenset(["number"])
    return frozenset([_KINDS[type(value)]])


_KINDS: dict[type, str] = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    str: "string",
    list: "array",
    dict: "object",
}
