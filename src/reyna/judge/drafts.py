"""Drafts: which there are, how a definition is compiled, and what is wrong with data, in sentences.

Formats are asserted, patterns are matched in linear time or refused, nothing is ever fetched. How
long compiling and checking may take is the caller's care: see `reyna.judge.definitions.weight` and
`reyna.judge.pool`.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import jsonschema_rs
from jsonschema_rs import RegexOptions, Registry, ValidationError, Validator

from reyna.errors import FieldError
from reyna.judge.definitions import URN, Json, Resources, every, pointer

MAX_ERRORS = 100
_MAX_MESSAGE = 500
_MASK = "the value"
_PATTERNS = RegexOptions(size_limit=1024 * 1024, dfa_size_limit=2 * 1024 * 1024)

DEFAULT = "http://json-schema.org/draft-07/schema"
_DRAFTS: dict[str, type[Validator]] = {
    "http://json-schema.org/draft-04/schema": jsonschema_rs.Draft4Validator,
    "http://json-schema.org/draft-06/schema": jsonschema_rs.Draft6Validator,
    DEFAULT: jsonschema_rs.Draft7Validator,
    "https://json-schema.org/draft/2019-09/schema": jsonschema_rs.Draft201909Validator,
    "https://json-schema.org/draft/2020-12/schema": jsonschema_rs.Draft202012Validator,
}
NAMES = dict(zip(_DRAFTS, ("4", "6", "7", "2019-09", "2020-12"), strict=True))
_NUMBERS = dict(
    zip(
        _DRAFTS,
        (
            jsonschema_rs.Draft4,
            jsonschema_rs.Draft6,
            jsonschema_rs.Draft7,
            jsonschema_rs.Draft201909,
            jsonschema_rs.Draft202012,
        ),
        strict=True,
    )
)
_META = {
    uri: validator({"$ref": uri}, validate_formats=True, offline=True, mask=_MASK)
    for uri, validator in _DRAFTS.items()
}
_KINDS = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}


def draft_of(definition: Json) -> str | None:
    """The URI of the draft that a definition names, draft-07 without one; None if it is unknown."""
    if not isinstance(definition, dict) or "$schema" not in definition:
        return DEFAULT
    named = definition["$schema"]
    uri = named.removesuffix("#") if isinstance(named, str) else ""
    return uri if uri in _DRAFTS else None


def number_of(definition: Json) -> int:
    """The library's number of the draft that a definition names."""
    return _NUMBERS[draft_of(definition) or DEFAULT]


def compiled(definition: Json, resources: Resources) -> Validator:
    """A validator. Raises ValidationError for what is no schema, or refers to what is not there.

    `definition` must name a known draft. `resources` are the registered schemas that it, and they,
    refer to, by URN.
    """
    draft = draft_of(definition)
    assert draft is not None, "the draft is checked before"
    registry = None
    if resources:
        registry = Registry(
            [(uri, _of_draft(resource)) for uri, resource in resources.items()],
            draft=jsonschema_rs.Draft7,
        )
    return _DRAFTS[draft](
        checked(definition),
        validate_formats=True,
        registry=registry,
        pattern_options=_PATTERNS,
        mask=_MASK,
        offline=True,
    )


def faults(definition: Json, resources: Resources, path: str) -> list[FieldError]:
    """Why a definition is no schema that can be registered; `path` is where it stands."""
    draft = draft_of(definition)
    if draft is None:
        sentence = f"It is none of the drafts {', '.join(NAMES.values())}."
        return [FieldError(f"{path}/$schema", "$schema", sentence)]
    found = [
        FieldError(path + pointer(*error.instance_path), *_sentence(error))
        for error in islice(_META[draft].iter_errors(definition), MAX_ERRORS)
    ]
    if found:
        return _in_order(found)
    try:
        compiled(definition, resources)
    except ValidationError as error:
        return [_uncompilable(error, definition, path)]
    return []


def errors_of(validator: Validator, data: Json, path: str) -> list[FieldError]:
    """What is wrong with data, by place, at most MAX_ERRORS; `path` is where the data stands."""
    return _in_order(
        [
            FieldError(path + pointer(*error.instance_path), *_sentence(error))
            for error in islice(validator.iter_errors(data), MAX_ERRORS)
        ]
    )


def checked(definition: Json) -> dict[str, Any] | bool:
    """A definition as the library's types ask for it."""
    assert isinstance(definition, dict | bool), "the shape is checked before"
    return definition


def _of_draft(definition: Json) -> dict[str, Any] | bool:
    if isinstance(definition, dict) and "$schema" not in definition:
        return {"$schema": DEFAULT + "#", **definition}
    return checked(definition)


def _in_order(errors: list[FieldError]) -> list[FieldError]:
    unique = dict.fromkeys((e.path, e.keyword, e.message) for e in errors)
    return [FieldError(*one) for one in sorted(unique)]


def _uncompilable(error: ValidationError, definition: Json, path: str) -> FieldError:
    if error.kind.name == "format":
        sentence = (
            "Not a pattern that can be matched in linear time: no look-around, no back-references,"
            " no huge repetitions."
        )
        return FieldError(path + pointer(*error.instance_path), "pattern", sentence)
    if error.kind.name == "$ref":
        place = _reference_in(error.message, definition, path)
        sentence = (
            f"It refers to nothing here. A schema refers to itself or to a registered one as"
            f" {URN}name-v1; nothing is fetched."
        )
        return FieldError(place, "$ref", sentence)
    return FieldError(path + pointer(*error.instance_path), *_sentence(error))


def _reference_in(message: str, definition: Json, path: str) -> str:
    """Where the reference stands that a message speaks of, as well as can be told."""
    for place, schema in every(definition, path):
        for keyword in ("$schema", "$ref", "$dynamicRef", "$recursiveRef"):
            target = schema.get(keyword)
            if isinstance(target, str) and (target.strip("#") or "\0") in message:
                return f"{place}/{keyword}"
    return path


def _sentence(error: ValidationError) -> tuple[str, str]:
    """The keyword that refuses a value, and why in words."""
    name, about = error.kind.name, error.kind.as_dict()
    message = error.message
    match name:
        case "falseSchema":
            steps = [step for step in error.schema_path if isinstance(step, str)]
            name = "additionalProperties" if "additionalProperties" in steps[-1:] else "false"
            message = "Nothing is allowed here."
        case "type":
            kinds = " or ".join(_KINDS.get(kind, kind) for kind in about["types"])
            message = f"It must be {kinds}."
        case "required":
            message = f"The field {about['property'][:100]} is missing."
        case "additionalProperties" | "unevaluatedProperties":
            unexpected = ", ".join(str(one)[:100] for one in about["unexpected"][:10])
            message = f"Not a field of this schema: {unexpected}."
        case "minLength" | "maxLength":
            bound = "least" if name == "minLength" else "most"
            message = f"It must have at {bound} {about['limit']} characters."
        case "format":
            message = f"It must be of the format {about['format']}."
        case "pattern":
            message = f"It must match {about['pattern']}."
        case "uniqueItems":
            message = "Its items must all be different."
        case _:
            message = f"{message[:1].upper()}{message[1:]}."
    return name, message[:_MAX_MESSAGE]
