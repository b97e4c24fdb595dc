"""What the comparison knows of objects and lists: their members, by name and by place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reyna.errors import FieldError
from reyna.judge.definitions import pointer
from reyna.judge.sides import Comparison, Conjunct, Found, Plain, Schema, many, named, same

ANYTHING = Schema(True, True)


def properties_broken(
    context: Comparison, olds: Sequence[Conjunct], new: Schema, plain: Plain, path: str
) -> Found:
    """The properties that the new side demands or narrows."""
    found = list(_required_broken(olds, plain, path))
    found += _declared_broken(context, olds, new, plain, path)
    found += _others_broken(context, olds, new, plain, path)
    if "propertyNames" in plain:
        names = [
            old.inner(old.plain["propertyNames"]) for old in olds if "propertyNames" in old.plain
        ]
        # Names are strings: what is said of other kinds of value does not matter.
        string = Schema({"type": "string"}, {})
        found += context.narrowed(
            [*names, string], new.within(plain["propertyNames"]), f"{path}/propertyNames"
        )
    return found


def items_broken(
    context: Comparison, olds: Sequence[Conjunct], new: Schema, plain: Plain, path: str
) -> Found:
    """The items that the new side demands or narrows."""
    found: Found = []
    prefix = many(plain.get("prefixItems"))
    longest = max((len(many(old.plain.get("prefixItems"))) for old in olds), default=0)
    fixed = max(len(prefix), longest)
    for index in range(fixed + 1):
        here = [one for old in olds for one in _at(old, index)]
        if index < len(prefix):
            place = f"{path}/prefixItems/{index}"
            found += context.narrowed(here or [ANYTHING], new.within(prefix[index]), place)
        elif "items" in plain:
            rest = new.within(plain["items"])
            found += context.narrowed(here or [ANYTHING], rest, f"{path}/items")
    if plain.get("uniqueItems") is True and not any(
        old.plain.get("uniqueItems") is True for old in olds
    ):
        found.append(
            FieldError(f"{path}/uniqueItems", "uniqueItems", "equal items are no longer accepted.")
        )
    return list(dict.fromkeys(found)) + _contains_broken(context, olds, new, plain, path)


def _required_broken(olds: Sequence[Conjunct], plain: Plain, path: str) -> Iterator[FieldError]:
    demanded = {name for old in olds for name in many(old.plain.get("required"))}
    for name in many(plain.get("required")):
        if name not in demanded:
            sentence = f"the field {str(name)[:100]} is now required."
            yield FieldError(f"{path}/required", "required", sentence)
    for name, others in named(plain.get("dependentRequired")).items():
        before = demanded.union(
            *(many(named(old.plain.get("dependentRequired")).get(name)) for old in olds)
        )
        for other in many(others):
            if other not in before:
                sentence = f"with {name[:100]} the field {str(other)[:100]} is now required."
                place = f"{path}/dependentRequired{pointer(name)}"
                yield FieldError(place, "dependentRequired", sentence)


def _declared_broken(
    context: Comparison, olds: Sequence[Conjunct], new: Schema, plain: Plain, path: str
) -> Found:
    found: Found = []
    for name, schema in named(plain.get("properties")).items():
        before = [one for old in olds for one in _of_name(old, name)]
        # Nobody said anything of this name: a new optional property, which is always allowed.
        if before or context.strict:
            place = f"{path}/properties{pointer(name)}"
            found += context.narrowed(before or [ANYTHING], new.within(schema), place)
    for name, schema in named(plain.get("dependentSchemas")).items():
        held = [
            old.inner(dependent[name])
            for old in olds
            if name in (dependent := named(old.plain.get("dependentSchemas")))
        ]
        place = f"{path}/dependentSchemas{pointer(name)}"
        if not held or context.narrowed(held, new.within(schema), place):
            found += context.compare(list(olds), new.within(schema), place)
    return found


def _others_broken(
    context: Comparison, olds: Sequence[Conjunct], new: Schema, plain: Plain, path: str
) -> Found:
    """The properties that the new side does not name."""
    found: Found = []
    patterns = named(plain.get("patternProperties"))
    for pattern, schema in patterns.items():
        held = [
            old.inner(said[pattern])
            for old in olds
            if pattern in (said := named(old.plain.get("patternProperties")))
        ]
        place = f"{path}/patternProperties{pointer(pattern)}"
        found += context.narrowed(held or [ANYTHING], new.within(schema), place)
    additional = plain.get("additionalProperties", True)
    if additional is True or additional == {}:
        return found
    place, rest = f"{path}/additionalProperties", new.within(additional)
    declared = named(plain.get("properties"))
    gone = {n: 1 for old in olds for n in named(old.plain.get("properties")) if n not in declared}
    for name in gone:
        before = [one for old in olds for one in _of_name(old, name)]
        if context.narrowed(before or [ANYTHING], rest, place):
            sentence = f"the field {name[:100]} was taken away, and other fields are not accepted."
            found.append(FieldError(place, "additionalProperties", sentence))
    for old in olds:
        for pattern, schema in named(old.plain.get("patternProperties")).items():
            if pattern not in patterns:
                found += context.narrowed([old.inner(schema)], rest, place)
    before = [
        old.inner(old.plain["additionalProperties"])
        for old in olds
        if "additionalProperties" in old.plain
    ]
    if context.narrowed(before or [ANYTHING], rest, place):
        sentence = "fields that are not named are no longer accepted as they were."
        found.append(FieldError(place, "additionalProperties", sentence))
    return found


def _contains_broken(
    context: Comparison, olds: Sequence[Conjunct], new: Schema, plain: Plain, path: str
) -> Found:
    if "contains" not in plain:
        return []
    keywords = ("contains", "minContains", "maxContains")
    if any(all(same(old, keyword, new, plain) for keyword in keywords) for old in olds):
        return []
    if "maxContains" not in plain and "minContains" not in plain:
        wanted = new.within(plain["contains"])
        for old in olds:
            if "contains" in old.plain and old.plain.get("minContains", 1) != 0:
                held = [old.inner(old.plain["contains"])]
                if not context.narrowed(held, wanted, path):
                    return []
    sentence = "whether every list that was accepted contains it cannot be told."
    return [FieldError(f"{path}/contains", "contains", sentence)]


def _of_name(old: Conjunct, name: str) -> list[Schema]:
    """What one old schema says of the property `name`; nothing if that cannot be told."""
    declared = named(old.plain.get("properties"))
    if name in declared:
        return [old.inner(declared[name])]
    if "additionalProperties" in old.plain and not old.plain.get("patternProperties"):
        return [old.inner(old.plain["additionalProperties"])]
    return [ANYTHING] if old.plain.get("patternProperties") else []


def _at(old: Conjunct, index: int) -> list[Schema]:
    """What one old schema says of the item at `index`."""
    prefix = many(old.plain.get("prefixItems"))
    if index < len(prefix):
        return [old.inner(prefix[index])]
    return [old.inner(old.plain["items"])] if "items" in old.plain else []
