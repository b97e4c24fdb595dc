"""Compatibility of two versions of a schema: the table of what breaks, and what holds for any."""

from __future__ import annotations

from typing import TypeAlias

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings

from reyna.judge.compatibility import Side, breaks, covers
from reyna.judge.dialect import Dialect
from reyna.judge.drafts import compiled
from reyna.judge.narrowing import Narrowing
from reyna.judge.sides import Schema

Definition: TypeAlias = dict[str, object]
NEWEST = "https://json-schema.org/draft/2020-12/schema"


def of(name: object, **more: object) -> Definition:
    """An object with one property, `a`."""
    return {"type": "object", "properties": {"a": name}, **more}


def broken(old: object, new: object, mode: str = "backward") -> dict[str, str]:
    """The places and keywords that break, each with its keyword."""
    return {one.path: one.keyword for one in breaks(Side(old, {}), Side(new, {}), "x-v1", mode, "")}


STRING: Definition = {"type": "string"}
CLOSED: Definition = {"additionalProperties": False}
TREE: Definition = {"type": "object", "properties": {"c": {"$ref": "#"}, "n": {"type": "integer"}}}

KEPT: dict[str, tuple[object, object]] = {
    "nothing changed": (of(STRING), of(STRING)),
    "annotations": (
        of(STRING),
        of({"type": "string", "title": "A", "default": "x", "examples": ["y"], "$comment": "z"}),
    ),
    "optional property added": (
        of(STRING), {"type": "object", "properties": {"a": STRING, "b": STRING}},
    ),
    "optional property added to a closed object": (
        of(STRING, **CLOSED),
        {"type": "object", "properties": {"a": STRING, "b": STRING}, **CLOSED},
    ),
    "required dropped": (of(STRING, required=["a"]), of(STRING)),
    "type widened": (of(STRING), of({"type": ["string", "null"]})),
    "integer to number": (of({"type": "integer"}), of({"type": "number"})),
    "enum widened": (of({"enum": ["x"]}), of({"enum": ["x", "y"]})),
    "const to enum": (of({"const": 1}), of({"enum": [1, 2]})),
    "enum to type": (of({"enum": ["x", "y"]}), of(STRING)),
    "bounds widened": (of({"minimum": 2}), of({"minimum": 1})),
    "length widened": (of({"maxLength": 2}), of({"maxLength": 3})),
    "opened": (of(STRING, **CLOSED), of(STRING)),
    "property removed from an open object": (of(STRING), {"type": "object"}),
    "items widened": (
        {"type": "array", "items": STRING},
        {"type": "array", "items": {"type": ["string", "null"]}},
    ),
    "alternative added": (of({"anyOf": [STRING]}), of({"anyOf": [{"type": "null"}, STRING]})),
    "distinct oneOf added": (of({"oneOf": [STRING]}), of({"oneOf": [STRING, {"type": "null"}]})),
    "type to anyOf": (of(STRING), of({"anyOf": [{"type": "integer"}, STRING]})),
    "format dropped": (of({"type": "string", "format": "date"}), of(STRING)),
    "format where no string can be": (of({"type": "integer"}), of({"format": "date"})),
    "inlined reference": (
        {"definitions": {"s": STRING}, "properties": {"a": {"$ref": "#/definitions/s"}}},
        {"properties": {"a": STRING}},
    ),
    "recursive": (TREE, TREE | {"description": "A tree."}),
    "recursive, by another way": (
        TREE,
        {"$ref": "#/definitions/t", "definitions": {"t": {
            "type": "object", "properties": {"c": {"$ref": "#/definitions/t"}}}}},
    ),
    "everything": ({"type": "string"}, True),
    "multiple of a half": ({"multipleOf": 1}, {"multipleOf": 0.5}),
    "conjunction of the same": (of({"allOf": [STRING, {"maxLength": 3}]}),
                                of({"type": "string", "maxLength": 3})),
    "not narrowed": ({"not": {"type": ["string", "null"]}}, {"not": STRING}),
}  # fmt: skip

BROKEN: dict[str, tuple[object, object, dict[str, str]]] = {
    "type changed": (of(STRING), of({"type": "integer"}), {"/properties/a/type": "type"}),
    "required added": (of(STRING), of(STRING, required=["a"]), {"/required": "required"}),
    "enum narrowed": (of({"enum": [1, 2]}), of({"enum": [1]}), {"/properties/a/enum": "enum"}),
    "true is not 1": (of({"const": True}), of({"enum": [1]}), {"/properties/a/enum": "enum"}),
    "minimum raised": (of({"minimum": 1}), of({"minimum": 2}),
                       {"/properties/a/minimum": "minimum"}),
    "minimum excluded": (
        of({"minimum": 1}), of({"exclusiveMinimum": 1}),
        {"/properties/a/exclusiveMinimum": "exclusiveMinimum"},
    ),
    "maxLength new": (of(STRING), of(STRING | {"maxLength": 5}),
                      {"/properties/a/maxLength": "maxLength"}),
    "closed": (of(STRING), of(STRING, **CLOSED), {"/additionalProperties": "additionalProperties"}),
    "property removed from a closed object": (
        of(STRING, **CLOSED), {"type": "object", **CLOSED},
        {"/additionalProperties": "additionalProperties"},
    ),
    "pattern changed": (of({"pattern": "a"}), of({"pattern": "b"}),
                        {"/properties/a/pattern": "pattern"}),
    "format new": (of(STRING), of(STRING | {"format": "date"}), {"/properties/a/format": "format"}),
    "items narrowed": ({"items": {"type": ["string", "null"]}}, {"items": STRING},
                       {"/items/type": "type"}),
    "alternative removed": (of({"anyOf": [STRING, {"type": "null"}]}), of({"anyOf": [STRING]}),
                            {"/properties/a/anyOf": "anyOf"}),
    "overlapping oneOf": (of({"oneOf": [{"type": "integer"}]}),
                          of({"oneOf": [{"type": "integer"}, {"type": "number"}]}),
                          {"/properties/a/oneOf": "oneOf"}),
    "in a definition": (
        {"definitions": {"s": STRING}, "properties": {"a": {"$ref": "#/definitions/s"}}},
        {"definitions": {"s": {"type": "null"}}, "properties": {"a": {"$ref": "#/definitions/s"}}},
        {"/definitions/s/type": "type"},
    ),
    "deep in a recursion": (
        TREE, TREE | {"properties": {"c": {"$ref": "#"}, "n": STRING}},
        {"/properties/n/type": "type"},
    ),
    "nothing is accepted": ({"type": "string"}, False, {"/not": "not"}),
    "another draft": (STRING, {"$schema": NEWEST, "type": "integer"}, {"/$schema": "$schema"}),
    "a strange name": (
        {"properties": {"a/b~": STRING}}, {"properties": {"a/b~": {"type": "null"}}},
        {"/properties/a~1b~0/type": "type"},
    ),
    "a condition": (STRING, {"if": {"minLength": 2}, "then": {"pattern": "a"}}, {"/if": "if"}),
    "unique": ({"type": "array"}, {"uniqueItems": True}, {"/uniqueItems": "uniqueItems"}),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_what_accepts_all_that_was_accepted_is_compatible(name: str) -> None:
    """The candidate breaks nothing, and in the other direction nothing is broken forward."""
    old, new = KEPT[name]
    assert broken(old, new) == {}
    assert broken(new, old, "forward") == {}


@pytest.mark.parametrize("name", BROKEN)
def test_a_break_is_named_with_its_place(name: str) -> None:
    """Each break is at the place in the candidate that causes it, under its keyword."""
    old, new, places = BROKEN[name]
    assert broken(old, new) == places
    assert broken(old, new, "full")
    assert broken(old, new, "full_transitive")


def test_a_proof_overrules_a_doubt() -> None:
    """What the walk cannot decide is allowed when the canonical forms prove it."""
    assert broken({"type": "boolean"}, {"enum": [True, False]}) == {}
    assert broken({"const": "ab"}, {"type": "string", "maxLength": 2}) == {}


def test_two_that_cannot_be_compared_in_time_break() -> None:
    """An exponential pair is given up, and counts as a break."""
    old = {
        "definitions": {
            f"d{i}": {"anyOf": [{"$ref": f"#/definitions/d{i + 1}"}, {"minLength": i}]}
            for i in range(40)
        }
        | {"d40": {}},
        "allOf": [{"$ref": "#/definitions/d0"}] * 2,
    }
    assert broken(old, {"$ref": "#/definitions/d0", "definitions": {"d0": {"pattern": "x"}}})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "bb", 0.5, 1.0]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "zz"]), inner, max_size=3)
    ),
    max_leaves=6,
)
_PLAIN = st.one_of(
    st.fixed_dictionaries({"type": st.sampled_from(
        ["null", "boolean", "integer", "number", "string", "array", "object", ["string", "null"]]
    )}),
    st.fixed_dictionaries({}, optional={
        "minimum": st.integers(-2, 2), "exclusiveMaximum": st.integers(-2, 2),
        "multipleOf": st.sampled_from([1, 2, 0.5])}),
    st.fixed_dictionaries({}, optional={
        "minLength": st.integers(0, 2), "maxLength": st.integers(0, 2),
        "pattern": st.sampled_from(["a", "^b"])}),
    st.fixed_dictionaries({"enum": st.lists(VALUES, min_size=1, max_size=3)}),
    st.fixed_dictionaries({"const": VALUES}),
    st.booleans(),
)  # fmt: skip


def _nested(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    several = st.lists(inner, min_size=1, max_size=2)
    names = st.sampled_from(["a", "b"])
    return st.one_of(
        st.fixed_dictionaries(
            {"properties": st.fixed_dictionaries({"a": inner, "b": inner})},
            optional={
                "required": st.lists(names, unique=True),
                "additionalProperties": inner,
                "propertyNames": inner,
                "dependentRequired": st.dictionaries(names, st.lists(names, unique=True)),
                "dependentSchemas": st.dictionaries(names, inner),
                "patternProperties": st.dictionaries(st.sampled_from(["z", "b"]), inner),
            },
        ),
        st.fixed_dictionaries(
            {},
            optional={
                "items": inner,
                "prefixItems": several,
                "minItems": st.integers(0, 2),
                "contains": inner,
                "uniqueItems": st.booleans(),
            },
        ),
        st.fixed_dictionaries({"anyOf": several}),
        st.fixed_dictionaries({"oneOf": several}),
        st.fixed_dictionaries({"allOf": several}),
        st.fixed_dictionaries({"not": inner}),
        st.fixed_dictionaries({"if": inner, "then": inner, "else": inner}),
    )


SCHEMAS = st.recursive(_PLAIN, _nested, max_leaves=6)


def _of_newest(schema: object) -> object:
    return {"$schema": NEWEST, "allOf": [schema]} if isinstance(schema, bool) else (
        {"$schema": NEWEST, **msgspec.convert(schema, dict[str, object])}
    )  # fmt: skip


def _near(schema: object, data: st.DataObject) -> object:
    """A schema near another: with a keyword more or less, or widened into alternatives."""
    other = data.draw(SCHEMAS)
    if not isinstance(schema, dict) or not isinstance(other, dict):
        return other
    gone = data.draw(st.sampled_from([*sorted(schema), ""]))
    near: list[object] = [
        {**schema, **other},
        {k: v for k, v in schema.items() if k != gone},
        {"anyOf": [other, schema]},
        {"oneOf": [schema, other]},
        {"allOf": [schema]},
        other,
    ]
    return data.draw(st.sampled_from(near))


@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@given(schema=SCHEMAS, values=st.lists(VALUES, min_size=1, max_size=12), data=st.data())
def test_what_is_valid_stays_valid_under_a_compatible_version(
    schema: object, values: list[object], data: st.DataObject
) -> None:
    """If nothing breaks backward, and no property is new, all data valid under the old version is
    valid under the new.
    """
    old, new = _of_newest(schema), _of_newest(_near(schema, data))
    narrowing = Narrowing(Dialect.of(new), {}, {}, "", strict=True)
    found = narrowing.narrowed([Schema(old, old)], Schema(new, new), "")
    assume(not found or covers(Side(new, {}), Side(old, {})))
    before, after = compiled(old, {}), compiled(new, {})
    for value in values:
        if before.is_valid(value):
            assert after.is_valid(value), (old, new, value)
