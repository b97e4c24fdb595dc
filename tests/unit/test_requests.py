"""Requests: what a body may say, and what a merge patch does."""

from __future__ import annotations

import copy

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reyna.commands.requests import (
    MAX_BUCKETS,
    MAX_NAME,
    MAX_TAG,
    MAX_TAGS,
    MAX_TITLE,
    CreateBlob,
    CreateBucket,
    MoveBucket,
    UpdateBlob,
    UpdateBucket,
    check_blob,
    check_bucket,
    merge_patch,
)
from reyna.errors import Invalid

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_examples_of_rfc_7396(target: object, patch: object, result: object) -> None:
    """Every test case of the RFC's appendix A comes out as printed there."""
    assert merge_patch(target, patch) == result


@given(json_values, json_values)
def test_a_merge_patch_changes_neither_of_its_two_sides(target: object, patch: object) -> None:
    """Patching leaves target and patch as they were, and patching twice is patching once."""
    before = copy.deepcopy((target, patch))
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once
    assert (target, patch) == before


@pytest.mark.parametrize("title", [None, "", "t" * MAX_TITLE], ids=["none", "empty", "the longest"])
def test_a_blob_within_its_limits_is_taken(title: str | None) -> None:
    """The longest title, the most and longest tags and the most buckets are still allowed."""
    check_blob(title, ["t" * MAX_TAG] * MAX_TAGS, ["k"] * MAX_BUCKETS)


def test_every_broken_limit_of_a_blob_is_named() -> None:
    """All that is too long or too many is listed at once, each with its place."""
    with pytest.raises(Invalid) as refused:
        check_blob(
            "t" * (MAX_TITLE + 1),
            ["", "t" * (MAX_TAG + 1), *["ok"] * MAX_TAGS],
            ["k"] * (MAX_BUCKETS + 1),
        )
    assert [error.path for error in refused.value.errors] == [
        "/tags/0",
        "/tags/1",
        "/tags",
        "/title",
        "/bucket_ids",
    ]


@pytest.mark.parametrize("name", ["", "  ", "\n", "n" * (MAX_NAME + 1)])
def test_a_bucket_has_a_name(name: str) -> None:
    """A blank name, or one that is too long, is refused with its place."""
    with pytest.raises(Invalid) as refused:
        check_bucket(name, [])
    assert [error.path for error in refused.value.errors] == ["/name"]
    check_bucket("n" * MAX_NAME, [])


def test_what_is_no_text_for_every_database_is_refused() -> None:
    """U+0000 in a title, a tag or a name is refused with its place."""
    with pytest.raises(Invalid) as refused:
        check_blob("a\0", ["b", "\0c"])
    assert {error.path for error in refused.value.errors} == {"/title", "/tags/1"}
    with pytest.raises(Invalid) as refused:
        check_bucket("\0", [])
    assert [error.path for error in refused.value.errors] == ["/name"]


HOSTILE_IDS = ["", "a.b", "a*", ">", "a b", "a\n", "a\x00", "é", "a" * 65]


@pytest.mark.parametrize("hostile", HOSTILE_IDS)
@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (CreateBlob, {"schema_id": "s-v1", "data": {}, "bucket_ids": ["HERE"]}),
        (CreateBlob, {"schema_id": "s-v1", "data": {}, "parent_id": "HERE"}),
        (CreateBlob, {"schema_id": "s-v1", "data": {}, "processor_id": "HERE"}),
        (CreateBucket, {"name": "n", "type": "book", "parent_bucket_id": "HERE"}),
        (CreateBucket, {"name": "n", "type": "HERE"}),
        (UpdateBucket, {"type": "HERE"}),
        (MoveBucket, {"parent_bucket_id": "HERE"}),
    ],
)
def test_an_impossible_id_is_refused_while_decoding(
    body: type[msgspec.Struct], fields: dict[str, object], hostile: str
) -> None:
    """No id of a request, nor a bucket's type, has a character that could widen a filter."""
    text = msgspec.json.encode(fields).replace(b'"HERE"', msgspec.json.encode(hostile))
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=body)


def test_what_is_left_out_of_a_patch_is_not_null() -> None:
    """An absent field is unset; null, where it is allowed, says to remove."""
    absent = msgspec.json.decode(b"{}", type=UpdateBlob)
    assert absent.data is absent.title is absent.tags is absent.metadata is msgspec.UNSET
    null = msgspec.json.decode(
        b'{"data":null,"title":null,"tags":null,"metadata":null}', type=UpdateBlob
    )
    assert null.data is null.title is null.tags is null.metadata is None


@pytest.mark.parametrize("position", [b"-1", b"1.5", b'"1"', b"true"])
def test_a_position_is_a_whole_number_from_0(position: bytes) -> None:
    """Any other position is refused while decoding."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(
            b'{"parent_bucket_id":null,"position":' + position + b"}", type=MoveBucket
        )
