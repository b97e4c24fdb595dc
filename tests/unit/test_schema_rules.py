"""The rules of schemas: versions, names, status, room; and what a check can cost."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reyna.domain import schema
from reyna.domain.event import Event
from reyna.domain.schema import (
    SYSTEM,
    SchemaRegistered,
    SchemaRules,
    Schemas,
    SchemaStatusChanged,
    Status,
)
from reyna.errors import Conflict, Invalid
from reyna.judge.definitions import Weight, oversize, weight


def registered(
    name: str, version: int, status: Status = "active", size: int = 2
) -> SchemaRegistered:
    """A registration whose definition has `size` bytes."""
    definition = msgspec.Raw(b"{" + b" " * (size - 2) + b"}")
    return SchemaRegistered(name=name, version=version, definition=definition, status=status)


def given_schemas(*events: Event) -> Schemas:
    """The state after these events."""
    state = Schemas()
    for seq, event in enumerate(events, start=1):
        assert isinstance(event, SchemaRegistered | SchemaStatusChanged)
        schema_id = schema.schema_id(event.name, event.version)
        state.fold(schema_id, event, seq, f"2026-01-01T00:00:00.{seq:06}Z")
    return state


def test_versions_of_a_name_have_no_gap() -> None:
    """Only the next version of a name can be registered, whatever other names have."""
    state = given_schemas(registered("a", 1), registered("b", 1), registered("a", 2))
    rules = SchemaRules("u1", state)
    for version in (1, 2, 4):
        with pytest.raises(Conflict):
            rules.register(registered("a", version), ())
    rules.register(registered("a", 3), ())
    (decided,) = rules.decided()
    assert decided.entity_id == "a-v3"
    assert rules.boundary == schema.boundary("u1")


def test_a_taken_name_is_refused() -> None:
    """A name of the system's is a conflict at /name."""
    with pytest.raises(Conflict) as refused:
        SchemaRules("u1", Schemas()).register(registered("a", 1), {"a"})
    assert refused.value.errors[0].path == "/name"


def test_a_user_has_room_for_so_many() -> None:
    """A user's schemas are bounded in number and bytes; the system's are not."""
    many = given_schemas(*(registered(f"n{i}", 1) for i in range(schema.MAX_SCHEMAS)))
    large = given_schemas(registered("a", 1, size=schema.MAX_BYTES))
    for state in (many, large):
        with pytest.raises(Conflict):
            SchemaRules("u1", state).register(registered("new", 1), ())
        SchemaRules(SYSTEM, state).register(registered("new", 1), ())


@pytest.mark.parametrize(
    ("was", "becomes", "allowed"),
    [
        ("draft", "active", True),
        ("draft", "deprecated", True),
        ("active", "deprecated", True),
        ("deprecated", "active", True),
        ("active", "draft", False),
        ("deprecated", "draft", False),
    ],
)
def test_a_status_changes_as_it_may(was: Status, becomes: Status, allowed: bool) -> None:
    """Nothing becomes a draft again; the same status decides nothing."""
    state = given_schemas(registered("a", 1, was))
    rules = SchemaRules("u1", state)
    rules.change_status("a-v1", was)
    assert rules.decided() == []
    if not allowed:
        with pytest.raises(Conflict):
            rules.change_status("a-v1", becomes)
        return
    rules.change_status("a-v1", becomes)
    (decided,) = rules.decided()
    assert decided.event == SchemaStatusChanged(name="a", version=1, status=becomes)


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["draft", "active", "deprecated"]))))
def test_the_last_event_of_each_subject_is_enough(changes: list[tuple[int, Status]]) -> None:
    """Folding the last event of each subject equals folding all."""
    events: list[Event] = [registered("a", version) for version in (1, 2, 3)]
    events += [SchemaStatusChanged(name="a", version=v, status=status) for v, status in changes]
    state, short = given_schemas(*events), Schemas()
    last = {(type(e), getattr(e, "version")): n for n, e in enumerate(events)}  # noqa: B009
    for number in sorted(last.values()):
        event = events[number]
        time = f"2026-01-01T00:00:00.{number + 1:06}Z"
        assert isinstance(event, SchemaRegistered | SchemaStatusChanged)
        short.fold(f"a-v{event.version}", event, number + 1, time)
    assert short.by_id == state.by_id
    assert short.seq == state.seq


def test_a_candidate_is_held_against_active_versions_before_it() -> None:
    """The last active version before it, or all of them if the promise is transitive."""
    state = given_schemas(
        registered("a", 1), registered("a", 2), registered("a", 3, "draft"), registered("a", 4)
    )
    before = [one.version for one in state.before("a", 4, transitive=True)]
    assert before == [1, 2]
    assert [one.version for one in state.before("a", 4, transitive=False)] == [2]
    assert [one.version for one in state.before("a", 5, transitive=False)] == [4]


@pytest.mark.parametrize("name", ["", "A", "a_b", "a-v1", "a" * 65, "a\n"])
def test_a_name_that_reads_as_something_else_is_refused(name: str) -> None:
    """A name has its form and does not read as an id."""
    with pytest.raises(Invalid):
        schema.check_name(name)


def test_the_cost_of_a_check_is_foreseen_or_refused() -> None:
    """Shared subschemas count as often as they are reached; what depends on the data has no
    foreseeable cost.
    """
    plain = weight({"type": "object", "properties": {"a": {"type": "string"}}}, {})
    assert plain is not None
    assert plain.per_byte == 0
    assert plain.of(b'{"a":1,"b":[1,2]}') < 50
    twice = {f"d{i}": {"allOf": [{"$ref": f"#/definitions/d{i + 1}"}] * 2} for i in range(20)}
    fan = {"definitions": twice | {"d20": {}}, "$ref": "#/definitions/d0"}
    costly = weight(fan, {})
    assert costly is not None
    assert costly.per_value > 2**20
    counted = weight({"pattern": "(a{100}){100}"}, {})
    assert counted is not None
    assert counted.per_byte >= 10_000
    required = weight({"items": {"required": [str(i) for i in range(1000)]}}, {})
    assert required is not None
    assert required.per_value > 1000
    for unforeseeable in (
        {"properties": {"c": {"$ref": "#"}}},
        {"$ref": "#"},
        {"$dynamicRef": "#x"},
        {"$ref": "#anchor"},
        {"properties": {"a": {"$id": "http://x.y/z"}}},
        {"$ref": "urn:reyna:schema:absent-v1"},
    ):
        assert weight(unforeseeable, {}) is None
    there = {"urn:reyna:schema:there-v1": {"type": "string"}}
    assert isinstance(weight({"$ref": "urn:reyna:schema:there-v1"}, there), Weight)


def test_limits_hold_for_what_looks_like_data_too() -> None:
    """Depth and number are counted in constants as well."""
    deep: object = []
    for _ in range(100):
        deep = [deep]
    (error,) = oversize({"const": deep}, 300, "/definition")
    assert error.path.startswith("/definition/const/0/0")
    assert oversize({"const": [[]] * 5000}, 300, "")
    assert not oversize(True, 4, "")
