"""Subjects: nothing hostile gets in, and what goes in comes out again."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reyna.domain import blob, bucket
from reyna.domain.catalog import EVENTS
from reyna.domain.event import Boundary, Event, type_of
from reyna.errors import Malformed
from reyna.log import subjects
from tests.events import blob_created, bucket_created, events, schema_ids, tokens

GOOD = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
TOPICS = {
    "blob.created.*",
    "blob.updated.*",
    "blob.derived.*",
    "blob.deleted.*",
    "blob.restored.*",
    "bucket.created",
    "bucket.updated",
    "bucket.structure.changed",
    "bucket.deleted",
    "bucket.restored",
    "bucket.blob.added",
    "bucket.blob.removed",
    "schema.registered",
    "schema.status.changed",
    "processor.registered",
    "processor.instance.changed",
    "processor.started.*",
    "processor.completed.*",
    "processor.failed.*",
    "processor.cancelled.*",
    "processor.requested.*",
    "processor.backfill.requested.*",
}

hostile = st.one_of(
    st.text().filter(lambda text: not GOOD.match(text)),
    st.builds(
        lambda good, bad, at: good[:at] + bad + good[at:],
        tokens,
        st.sampled_from([".", "*", ">", " ", "\n", "\r", "\t", "\x00", "\x7f", "é", "\u2028", "$"]),
        st.integers(0, 64),
    ),
    st.from_regex(r"[a-z]{65,80}", fullmatch=True),
    st.sampled_from(["", ".", "*", ">", "a\n", "\na", "a.b", "a..b", "\uff41"]),
)


@pytest.mark.parametrize("event_type", EVENTS.values(), ids=EVENTS)
@settings(max_examples=30)
@given(data=st.data(), owner=tokens)
def test_a_subject_comes_apart_as_it_was_put_together(
    event_type: type[Event], data: st.DataObject, owner: str
) -> None:
    """Owner, kind, id, type and qualifier of every event type can be read back from its subject."""
    event = data.draw(events(event_type))
    entity_id = data.draw(schema_ids if event_type.KIND == "schema" else tokens)
    parsed = subjects.parse(subjects.subject_of(owner, entity_id, event))
    assert (parsed.owner, parsed.kind, parsed.entity_id) == (owner, event.KIND, entity_id)
    assert parsed.type == type_of(event)
    assert parsed.qualifier == (getattr(event, event.QUALIFIER) if event.QUALIFIER else None)


@given(hostile)
def test_nothing_hostile_becomes_part_of_a_subject(text: str) -> None:
    """A string that is not one plain token is Malformed wherever it would stand in a subject."""
    uses: list[Callable[[], str]] = [
        lambda: subjects.token(text),
        lambda: subjects.schema_token(text),
        lambda: subjects.of_owner(text),
        lambda: subjects.subject_of(text, "b1", bucket_created()),
        lambda: subjects.subject_of("u1", text, bucket_created()),
        lambda: subjects.subject_of("u1", "b1", blob_created(schema_id=text)),
        lambda: subjects.guard(bucket.boundary(text)),
        lambda: subjects.guard(blob.boundary(text, "b1")),
        lambda: subjects.guard(blob.boundary("u1", text)),
        lambda: subjects.of_schema("system", text),
        lambda: subjects.of_blobs(None, text),
    ]
    for use in uses:
        with pytest.raises(Malformed):
            use()


@given(st.text())
def test_a_schema_id_is_one_plain_token(text: str) -> None:
    """Whatever passes for a schema id has a name and a version and no character of a filter's."""
    try:
        subjects.schema_token(text)
    except Malformed:
        return
    assert re.fullmatch(r"[a-z0-9-]+-v[0-9]+", text)


def test_a_boundary_has_one_filter() -> None:
    """A blob's filter ends after its id, a tree's after its kind."""
    assert subjects.guard(Boundary("u1", "blob", "b1")) == "reyna.u1.blob.b1.>"
    assert subjects.guard(Boundary("u1", "bucket")) == "reyna.u1.bucket.>"
    assert subjects.guard(Boundary("system", "schema", "a-v1")) == "reyna.system.schema.a-v1.>"


@pytest.mark.parametrize(
    "subject",
    ["", "reyna", "reyna.u1.blob.b1", "other.u1.blob.b1.created", "blob.created.text-input-v1"],
)
def test_what_is_no_subject_of_the_log_is_malformed(subject: str) -> None:
    """A subject with too few tokens, or another first one, is not taken apart."""
    with pytest.raises(Malformed):
        subjects.parse(subject)


def test_a_type_of_the_future_can_be_taken_apart() -> None:
    """An unknown verb is one word, and the rest its qualifier."""
    parsed = subjects.parse("reyna.u1.blob.b1.translated.de.formal")
    assert (parsed.type, parsed.qualifier) == ("blob.translated", "de.formal")


def test_every_event_type_has_a_topic_of_the_contract() -> None:
    """What an event's subject is republished as is one of the public topics."""
    for event in EVENTS.values():
        topic = type_of(event) + (".*" if event.QUALIFIER else "")
        assert topic in TOPICS
        assert topic.removesuffix(".*") == event.TOPIC
