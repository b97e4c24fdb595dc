"""A definition in one way of speaking: what the drafts say differently is said alike.

Owns the differences between drafts that matter when two definitions of the *same* draft are
compared. Annotations and what a draft does not know are left out.
"""

from __future__ import annotations

import msgspec

from reyna.judge.definitions import Json
from reyna.judge.drafts import NAMES, draft_of

_ANNOTATIONS = frozenset(
    [
        "$comment",
        "$id",
        "$schema",
        "$vocabulary",
        "contentSchema",
        "default",
        "definitions",
        "deprecated",
        "description",
        "$defs",
        "examples",
        "id",
        "readOnly",
        "title",
        "writeOnly",
    ]
)
_SINCE_6 = frozenset(["const", "contains", "propertyNames", "contentEncoding", "contentMediaType"])
_SINCE_7 = frozenset(["if", "then", "else"])
_SINCE_2019 = frozenset(
    [
        "$anchor",
        "$dynamicAnchor",
        "$dynamicRef",
        "$recursiveAnchor",
        "$recursiveRef",
        "dependentRequired",
        "dependentSchemas",
        "maxContains",
        "minContains",
        "unevaluatedItems",
        "unevaluatedProperties",
    ]
)
_CONSTRAINTS = frozenset(
    [
        "$ref",
        "additionalItems",
        "additionalProperties",
        "allOf",
        "anyOf",
        "dependencies",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "items",
        "maximum",
        "maxItems",
        "maxLength",
        "maxProperties",
        "minimum",
        "minItems",
        "minLength",
        "minProperties",
        "multipleOf",
        "not",
        "oneOf",
        "pattern",
        "patternProperties",
        "prefixItems",
        "properties",
        "required",
        "type",
        "uniqueItems",
    ]
)
KNOWN = _CONSTRAINTS | _SINCE_6 | _SINCE_7 | _SINCE_2019


class Dialect(msgspec.Struct, frozen=True):
    """A draft by its name: 4, 6, 7, 2019-09 or 2020-12."""

    draft: str

    @classmethod
    def of(cls, definition: Json) -> Dialect:
        """The dialect that a definition is written in."""
        return cls(NAMES[draft_of(definition) or ""])

    def plain(self, schema: Json) -> dict[str, Json]:
        """The constraints of one schema object, said alike whatever the draft; {} allows all.

        `false` becomes `{"not": {}}`. Items by position are `prefixItems`, dependencies are
        `dependentRequired` and `dependentSchemas`, exclusive bounds are numbers.
        """
        if not isinstance(schema, dict):
            return {} if schema is True else {"not": {}}
        if "$ref" in schema and self.draft in {"4", "6", "7"}:
            return {"$ref": schema["$ref"]}
        plain = {k: v for k, v in schema.items() if k in KNOWN - self._unknown()}
        if self.draft == "4":
            _exclusive(plain)
        if self.draft != "2020-12":
            _positions(plain)
        _dependencies(plain)
        if not {"if"} & plain.keys():
            plain.pop("then", None)
            plain.pop("else", None)
        return plain

    def _unknown(self) -> frozenset[str]:
        match self.draft:
            case "4":
                return _SINCE_6 | _SINCE_7 | _SINCE_2019 | {"prefixItems"}
            case "6":
                return _SINCE_7 | _SINCE_2019 | {"prefixItems"}
            case "7":
                return _SINCE_2019 | {"prefixItems"}
            case "2019-09":
                return frozenset(["prefixItems", "$dynamicRef", "$dynamicAnchor"])
        return frozenset(["additionalItems", "$recursiveRef", "$recursiveAnchor"])


def stripped(definition: Json) -> Json:
    """A definition without what only describes: two that are equal so mean the same."""
    return _strip(definition, named=False)


def _strip(value: Json, *, named: bool) -> Json:
    if isinstance(value, list):
        return [_strip(one, named=False) for one in value]
    if not isinstance(value, dict):
        return value
    if named:
        return {name: _strip(inner, named=False) for name, inner in value.items()}
    dropped = _ANNOTATIONS - {"$defs", "definitions", "$id", "id", "$schema"}
    return {
        keyword: inner if keyword in {"const", "enum"} else _strip(inner, named=keyword in _NAMED)
        for keyword, inner in value.items()
        if keyword not in dropped
    }


_NAMED = frozenset(
    [
        "$defs",
        "definitions",
        "dependencies",
        "dependentSchemas",
        "patternProperties",
        "properties",
        "dependentRequired",
    ]
)


def _exclusive(plain: dict[str, Json]) -> None:
    for bound, exclusive in (
        ("minimum", "exclusiveMinimum"),
        ("maximum", "exclusiveMaximum"),
    ):
        if plain.pop(exclusive, False) is True and bound in plain:
            plain[exclusive] = plain.pop(bound)


def _positions(plain: dict[str, Json]) -> None:
    rest = plain.pop("additionalItems", True)
    if isinstance(plain.get("items"), list):
        plain["prefixItems"] = plain.pop("items")
        plain["items"] = rest


def _dependencies(plain: dict[str, Json]) -> None:
    dependencies = plain.pop("dependencies", None)
    if not isinstance(dependencies, dict):
        return
    required = {name: on for name, on in dependencies.items() if isinstance(on, list)}
    schemas = {name: on for name, on in dependencies.items() if not isinstance(on, list)}
    if required:
        plain["dependentRequired"] = required
    if schemas:
        plain["dependentSchemas"] = schemas
