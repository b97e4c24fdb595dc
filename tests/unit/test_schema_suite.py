"""The official JSON Schema Test Suite, through the functions behind POST schemas and validate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from reyna.judge.definitions import oversize
from reyna.judge.drafts import compiled, draft_of, errors_of
from reyna.judge.tasks import Check, Definition
from reyna.judge.worker import judge

BESIDE = Path(__file__).parents[3] / "shared" / "json-schema-test-suite"
SUITE = Path(os.environ.get("REYNA_SCHEMA_SUITE", BESIDE)) / "tests"
DRAFTS = {
    "draft4": "http://json-schema.org/draft-04/schema#",
    "draft6": "http://json-schema.org/draft-06/schema#",
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft2019-09": "https://json-schema.org/draft/2019-09/schema",
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
}
# Here formats are asserted; the suite takes them for annotations unless told otherwise.
ANNOTATION = "is only an annotation by default"

pytestmark = pytest.mark.skipif(
    not SUITE.is_dir(), reason="the official suite is not beside the checkout"
)


class Case(msgspec.Struct):
    """Data, and whether it is valid."""

    description: str
    data: object
    valid: bool


class Group(msgspec.Struct):
    """A schema with its cases."""

    description: str
    definition: object = msgspec.field(name="schema")
    tests: list[Case]


def groups(draft: str) -> Iterator[tuple[str, Group, object]]:
    """Each schema of a draft's required tests, made to name its draft."""
    for file in sorted((SUITE / draft).glob("*.json")):
        for group in msgspec.json.decode(file.read_bytes(), type=list[Group]):
            definition = group.definition
            if isinstance(definition, dict):
                definition = {"$schema": DRAFTS[draft], **definition}
            yield f"{file.name}: {group.description}", group, definition


def remote(definition: object) -> bool:
    """Whether a schema speaks of one of the suite's remote schemas or meta-schemas."""
    return b"http://localhost:1234" in msgspec.json.encode(definition)


@pytest.mark.parametrize("draft", DRAFTS)
def test_the_required_tests_pass(draft: str) -> None:
    """Every schema is taken and judges as the suite says; one that needs a remote schema is
    refused at a place of its own.
    """
    wrong: list[str] = []
    cases = refused = 0
    for name, group, definition in groups(draft):
        text = msgspec.json.encode(definition)
        assert not oversize(definition, len(text), "/definition"), name
        errors = judge(Check(Definition(text), "/definition")).errors
        if errors:
            refused += 1
            if not remote(definition) or {e.keyword for e in errors} - {"$ref", "$schema"}:
                wrong.append(f"{name}: refused: {errors}")
            assert all(error.path.startswith("/definition") for error in errors)
            continue
        assert draft_of(definition) is not None
        validator = compiled(definition, {})
        for case in group.tests:
            if case.description.endswith(ANNOTATION):
                continue
            cases += 1
            found = errors_of(validator, case.data, "/data")
            if bool(found) == case.valid:
                wrong.append(f"{name}: {case.description}: {found}")
    assert not wrong, "\n".join(wrong)
    assert cases > 500
    assert refused
