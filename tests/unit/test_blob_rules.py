"""Blobs: each rule given, when and then; and what of their events is needed to know them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reyna.domain.blob import (
    Blob,
    BlobContent,
    BlobCreated,
    BlobDeleted,
    BlobDerived,
    BlobRestored,
    BlobRules,
    BlobUpdated,
    Media,
    Provenance,
    chosen_variant,
    fold,
)
from reyna.domain.event import Event, Opaque
from reyna.errors import Conflict, Invalid, NotFound, Rejected
from reyna.log.record import Stored, decode
from tests.events import blob_created, stored

TIME = "2026-11-22T15:04:05.123456Z"
CREATED = BlobCreated(
    schema_id="text-input-v1",
    data=msgspec.Raw(b'{"content":"a"}'),
    title="A title",
    tags=("x",),
    metadata=msgspec.Raw(b'{"k":1}'),
    bucket_ids=("k1", "k2"),
    parent_id="b0",
)
DERIVED = BlobDerived(
    schema_id="expanded-text-v1",
    data=msgspec.Raw(b'{"expanded":"aa"}'),
    parent_id="b1",
    processor_id="text-expansion",
    provenance=Provenance(
        processor_version="1", source_blob_id="b1", source_seq=1, run_id="r1", model="m"
    ),
)
MEDIA = Media(file_name="a.png", content_type="image/png", bytes=3, sha256="0" * 64)
UPLOADED = BlobCreated(
    schema_id="media-v1", data=msgspec.Raw(msgspec.json.encode(MEDIA)), media=MEDIA
)
DELETED = BlobDeleted(schema_id="text-input-v1", bucket_ids=("k1", "k2"))
RESTORED = BlobRestored(schema_id="text-input-v1", bucket_ids=("k1", "k2"))


def given_(*events: Event | Opaque) -> Blob | None:
    """The blob `b1` after some events."""
    blob: Blob | None = None
    for seq, event in enumerate(events, start=1):
        blob = fold(blob, "b1", event, seq, TIME)
    return blob


def when(blob: Blob | None, rule: Callable[[BlobRules], None]) -> list[Event]:
    """What the rule decides for the blob."""
    rules = BlobRules("u1", "b1", blob)
    rule(rules)
    return [one.event for one in rules.decided()]


def content(**changes: object) -> BlobContent:
    """The created content with changes."""
    fields = {name: getattr(CREATED, name) for name in BlobContent.__struct_fields__}
    return BlobContent(**(fields | changes))


@pytest.mark.parametrize("event", [CREATED, DERIVED])
def test_a_blob_comes_into_being_once(event: BlobCreated | BlobDerived) -> None:
    """Given nothing, a blob is created as asked; given the blob, live or not, it is a conflict."""
    assert when(None, lambda rules: rules.create(event)) == [event]
    for blob in (given_(event), given_(event, DELETED)):
        with pytest.raises(Conflict):
            when(blob, lambda rules: rules.create(event))


def test_a_created_blob_has_what_was_asked_for() -> None:
    """The state after creation is the event's content, with its seq and time."""
    blob = given_(CREATED)
    assert blob is not None
    assert (blob.blob_id, blob.seq, blob.created_at, blob.deleted) == ("b1", 1, TIME, False)
    for name in ("schema_id", "data", "title", "tags", "metadata", "bucket_ids", "parent_id"):
        assert getattr(blob, name) == getattr(CREATED, name)


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({"title": None}, ("title",)),
        ({"data": msgspec.Raw(b'{"content":"b"}')}, ("data",)),
        ({"tags": ("y",), "metadata": msgspec.Raw(b"{}")}, ("tags", "metadata")),
    ],
)
def test_an_update_carries_the_whole_content_and_names_what_changed(
    changes: dict[str, object], changed: tuple[str, ...]
) -> None:
    """The event has all fields, also those as before; buckets and schema are the blob's."""
    (event,) = when(given_(CREATED), lambda rules: rules.update(content(**changes)))
    assert isinstance(event, BlobUpdated)
    assert event.changed == changed
    assert (event.schema_id, event.bucket_ids) == (CREATED.schema_id, CREATED.bucket_ids)
    assert content(**changes) == content(
        **{name: getattr(event, name) for name in ("data", "title", "tags", "metadata")}
    )


def test_an_update_that_changes_nothing_decides_nothing() -> None:
    """The same content again is no event."""
    assert when(given_(CREATED), lambda rules: rules.update(content())) == []


@pytest.mark.parametrize("blob", [None, given_(CREATED, DELETED)])
def test_a_blob_that_is_not_there_is_not_found(blob: Blob | None) -> None:
    """What never was, or is in the trash, is neither updated nor deleted."""
    with pytest.raises(NotFound):
        when(blob, lambda rules: rules.update(content(title="new")))
    with pytest.raises(NotFound):
        when(blob, lambda rules: rules.delete())


def test_a_blob_goes_to_the_trash_and_comes_back() -> None:
    """Deleting and restoring are one event each, and the content is as it was."""
    assert when(given_(CREATED), lambda rules: rules.delete()) == [DELETED]
    assert when(given_(CREATED, DELETED), lambda rules: rules.restore()) == [RESTORED]
    back = given_(CREATED, DELETED, RESTORED)
    assert back is not None
    assert msgspec.structs.replace(back, seq=1, boundary_seq=1) == given_(CREATED)


def test_only_what_is_in_the_trash_comes_back() -> None:
    """Restoring a live blob is a conflict, an unknown one is not found."""
    with pytest.raises(Conflict):
        when(given_(CREATED), lambda rules: rules.restore())
    with pytest.raises(NotFound):
        when(None, lambda rules: rules.restore())


def test_an_unknown_event_moves_the_seq_and_nothing_else() -> None:
    """An event of a type of the future is counted, and otherwise ignored; before the first, too."""
    known, more = given_(CREATED), given_(CREATED, Opaque(b"{}"))
    assert known is not None
    assert more == msgspec.structs.replace(known, seq=2, boundary_seq=2)
    assert given_(Opaque(b"{}")) is None


def test_a_file_stays_what_it_is() -> None:
    """A media blob's title may change, and the event has the file still; its data may not."""
    blob = given_(UPLOADED)
    assert blob is not None
    assert blob.media == MEDIA
    described = BlobContent(schema_id="media-v1", data=UPLOADED.data, title="A picture")
    (event,) = when(blob, lambda rules: rules.update(described))
    assert isinstance(event, BlobUpdated)
    assert (event.media, event.changed) == (MEDIA, ("title",))
    after = given_(UPLOADED, event)
    assert after is not None
    assert after.media == MEDIA
    lie = msgspec.Raw(bytes(UPLOADED.data).replace(b"image/png", b"text/html"))
    with pytest.raises(Invalid) as refused:
        when(blob, lambda rules: rules.update(BlobContent(schema_id="media-v1", data=lie)))
    assert [error.path for error in refused.value.errors] == ["/data"]


def test_a_blob_without_a_file_says_nothing_of_one() -> None:
    """The JSON of an event without a file has no field for it: older events stay as they are."""
    assert b"media" not in msgspec.json.encode(CREATED)
    assert b'"media":{' in msgspec.json.encode(UPLOADED)


COMMANDS: dict[str, Callable[[BlobRules, str], None]] = {
    "create": lambda rules, text: rules.create(blob_created(text)),
    "update": lambda rules, text: rules.update(content(title=text, tags=())),
    "delete": lambda rules, _: rules.delete(),
    "restore": lambda rules, _: rules.restore(),
}


@given(st.lists(st.tuples(st.sampled_from(sorted(COMMANDS)), st.sampled_from("abc"))))
def test_the_last_event_of_each_subject_is_enough(commands: list[tuple[str, str]]) -> None:
    """After any commands, folding only the last of each subject gives the same blob as all."""
    log: list[Stored] = []
    blob: Blob | None = None
    for name, text in commands:
        rules = BlobRules("u1", "b1", blob)
        try:
            COMMANDS[name](rules, text)
        except Rejected:
            continue
        log.extend(stored(len(log) + 1, "u1", "b1", one.event) for one in rules.decided())
        blob = folded(log)
        assert blob is not None
        assert blob.seq == len(log)
    last = {message.subject: message for message in log}
    assert folded(sorted(last.values(), key=lambda message: message.seq)) == blob


def folded(messages: list[Stored]) -> Blob | None:
    """The blob `b1` in stored messages."""
    blob: Blob | None = None
    for record in map(decode, messages):
        blob = fold(blob, "b1", record.event, record.seq, record.time)
    return blob


@pytest.mark.parametrize(
    ("metadata", "chosen"),
    [
        (b'{"chosen": {"expanded-text-v1": "v2"}}', "v2"),
        (b'{"chosen": {"other-v1": "v2"}}', None),
        (b'{"chosen": {"expanded-text-v1": 2}}', None),
        (b'{"chosen": "v2"}', None),
        (b"{}", None),
    ],
)
def test_a_source_names_the_variant_that_counts(metadata: bytes, chosen: str | None) -> None:
    """A source's metadata choose a variant by its schema; anything else chooses none."""
    assert chosen_variant(msgspec.Raw(metadata), "expanded-text-v1") == chosen
