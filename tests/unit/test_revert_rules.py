"""Undo: each rule given, when and then; and reverting to any moment of any history."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from reyna.domain.blob import (
    Blob,
    BlobContent,
    BlobCreated,
    BlobDeleted,
    BlobRestored,
    BlobRules,
    BlobUpdated,
    fold,
)
from reyna.domain.bucket import (
    Bucket,
    BucketDescription,
    BucketStructureChanged,
    BucketUpdated,
    Tree,
)
from reyna.domain.event import Event
from reyna.domain.tree_rules import TreeRules
from reyna.errors import Conflict, NotFound, Rejected
from reyna.log.record import decode
from tests.events import SCHEMA, blob_created, blob_updated, stored

TIME = "2026-11-22T15:04:05.123456Z"
PLAIN = BucketDescription(name="n", type="book")

# ---------------------------------------------------------------- blobs


def content_of(blob: Blob) -> BlobContent:
    """What a revert gives back."""
    return BlobContent(
        schema_id=blob.schema_id,
        data=blob.data,
        title=blob.title,
        tags=blob.tags,
        metadata=blob.metadata,
    )


def reverted(blob: Blob | None, then: Blob, seq: int) -> list[Event]:
    """What the rules decide to give a blob the content of `then`."""
    rules = BlobRules("u1", "b1", blob)
    rules.update(content_of(then), seq)
    return [one.event for one in rules.decided()]


contents = st.builds(
    BlobContent,
    schema_id=st.just(SCHEMA),
    data=st.sampled_from([msgspec.Raw(b'{"content":"a"}'), msgspec.Raw(b'{"content":"b"}')]),
    title=st.sampled_from([None, "one", "two"]),
    tags=st.sampled_from([(), ("x",)]),
    metadata=st.sampled_from([msgspec.Raw(b"{}"), msgspec.Raw(b'{"k":1}')]),
)


@given(st.lists(contents, max_size=8), st.data())
def test_a_blob_reverts_to_any_of_its_states(edits: list[BlobContent], data: st.DataObject) -> None:
    """Given any edits, reverting to any seq gives exactly that content, once, and says so."""
    blob = fold(None, "b1", blob_created(), 1, TIME)
    assert blob is not None
    history = [blob]
    for seq, edit in enumerate(edits, start=2):
        rules = BlobRules("u1", "b1", blob)
        rules.update(edit)
        for one in rules.decided():
            blob = fold(blob, "b1", one.event, seq, TIME)
        assert blob is not None
        history.append(blob)
    to = data.draw(st.integers(1, len(history)))
    then = history[to - 1]
    events = reverted(blob, then, to)
    if content_of(blob) == content_of(then):
        assert events == []
        return
    (event,) = events
    assert isinstance(event, BlobUpdated)
    assert event.reverted_to == to
    assert set(event.changed) == {
        name
        for name in ("data", "title", "tags", "metadata")
        if getattr(blob, name) != getattr(then, name)
    }
    after = fold(blob, "b1", event, 99, TIME)
    assert after is not None
    assert content_of(after) == content_of(then)
    assert reverted(after, then, to) == []


def test_a_blob_in_the_trash_is_not_reverted() -> None:
    """What is in the trash now is not found, whatever it was."""
    then = fold(None, "b1", blob_created(), 1, TIME)
    gone = fold(then, "b1", BlobDeleted(schema_id=SCHEMA), 2, TIME)
    assert then is not None
    with pytest.raises(NotFound):
        reverted(gone, then, 1)
    back = fold(gone, "b1", BlobRestored(schema_id=SCHEMA), 3, TIME)
    assert reverted(back, then, 1) == []


def test_only_a_revert_says_to_what() -> None:
    """An ordinary update's JSON has no such field, and an update without it is still read."""
    update = blob_updated("new")
    message = stored(2, "u1", "b1", update)
    assert b"reverted_to" not in message.payload
    assert decode(message).event == update
    undone = msgspec.structs.replace(update, reverted_to=1)
    assert b'"reverted_to":1' in stored(2, "u1", "b1", undone).payload
    assert decode(stored(2, "u1", "b1", undone)).event == undone
    assert isinstance(decode(stored(1, "u1", "b1", blob_created())).event, BlobCreated)


# ---------------------------------------------------------------- buckets


class Owner:
    """One owner's tree, and how it was after each event."""

    def __init__(self, max_depth: int = 32) -> None:
        self.tree = Tree()
        self.max_depth = max_depth
        self.past: list[Tree] = [deepcopy(self.tree)]

    def when(self, decide: Callable[[TreeRules], None]) -> list[Event]:
        """What the rules decide; it is folded as if it had been stored."""
        rules = TreeRules("u1", self.tree, self.max_depth)
        decide(rules)
        decided = rules.decided()
        for one in decided:
            self.tree.fold(one.entity_id, one.event, len(self.past), TIME)
            self.past.append(deepcopy(self.tree))
        return [one.event for one in decided]

    @property
    def seq(self) -> int:
        """The last event's."""
        return len(self.past) - 1

    def create(self, *bucket_ids: str, parent: str | None = None) -> None:
        """New buckets, the last ones of their parent."""
        for bucket_id in bucket_ids:
            self.when(
                partial(TreeRules.create, bucket_id=bucket_id, description=PLAIN, parent=parent)
            )

    def move(self, bucket_id: str, parent: str | None, position: int | None = None) -> None:
        """A bucket moved."""
        self.when(lambda rules: rules.move(bucket_id, parent, position))

    def revert(self, bucket_id: str, to: int) -> list[Event]:
        """A bucket as it was after `to`."""
        then = self.past[to].live(bucket_id)
        return self.when(lambda rules: rules.revert(bucket_id, then, to))

    def order(self, parent: str | None = None) -> list[str]:
        """The live children's ids, in order."""
        return [bucket.bucket_id for bucket in self.tree.children(parent)]


def test_a_bucket_gets_description_and_place_back() -> None:
    """Given a rename and a move, one revert decides an update and a move, both saying to what."""
    owner = Owner()
    owner.create("a", "b", "c")
    seq = owner.seq
    new = BucketDescription(name="new", type="part", metadata=msgspec.Raw(b'{"k":1}'), tags=("x",))
    owner.when(lambda rules: rules.describe("a", new))
    owner.move("a", "b")
    updated, moved = owner.revert("a", seq)
    assert isinstance(updated, BucketUpdated)
    assert isinstance(moved, BucketStructureChanged)
    assert (updated.changed, updated.reverted_to) == (("name", "type", "metadata", "tags"), seq)
    assert (moved.position, moved.previous_parent_bucket_id) == (0, "b")
    assert moved.reverted_to == seq
    assert owner.order() == ["a", "b", "c"]
    assert owner.revert("a", seq) == []


def test_half_of_it_is_one_event() -> None:
    """Where only the name or only the place differs, only that is decided."""
    owner = Owner()
    owner.create("a", "b")
    seq = owner.seq
    owner.when(lambda rules: rules.describe("a", BucketDescription(name="x", type="book")))
    assert [type(event) for event in owner.revert("a", seq)] == [BucketUpdated]
    owner.move("a", None)
    assert [type(event) for event in owner.revert("a", seq)] == [BucketStructureChanged]


def test_a_taken_place_is_given_up_to_the_one_before() -> None:
    """Given another that has the rank by now, the bucket comes right before it, and stays there."""
    owner = Owner()
    owner.create("a", "b", "other")
    seq = owner.seq
    owner.move("b", "a")
    owner.move("other", "a")
    owner.create("new", "newer")
    assert owner.tree.buckets["new"].rank == owner.past[seq].buckets["b"].rank
    (event,) = owner.revert("b", seq)
    assert isinstance(event, BucketStructureChanged)
    assert event.position == 1
    assert owner.order() == ["a", "b", "new", "newer"]
    assert owner.revert("b", seq) == []
    ranks = [bucket.rank for bucket in owner.tree.children(None)]
    assert ranks == sorted(set(ranks))


def test_the_old_parent_must_be_there() -> None:
    """A parent in the trash, itself or with one above it, is a conflict that says so."""
    owner = Owner()
    owner.create("top")
    owner.create("mid", parent="top")
    owner.create("low", parent="mid")
    seq = owner.seq
    owner.move("low", None)
    for gone in ("mid", "top"):
        owner.when(partial(TreeRules.delete, bucket_id=gone))
        with pytest.raises(Conflict, match="in the trash"):
            owner.revert("low", seq)
        owner.when(partial(TreeRules.restore, bucket_id=gone))
    owner.revert("low", seq)
    assert owner.order("mid") == ["low"]


def test_no_cycle_and_no_depth_by_undo() -> None:
    """A place under one's own, or too deep by now, is a conflict, and nothing else is decided."""
    owner = Owner(max_depth=3)
    owner.create("a")
    owner.create("b", parent="a")
    seq = owner.seq
    owner.move("b", None)
    owner.move("a", "b")
    with pytest.raises(Conflict, match="under one of its own"):
        owner.revert("b", seq)
    owner.move("a", None)
    owner.create("c", parent="b")
    owner.create("top")
    owner.move("a", "top")
    with pytest.raises(Conflict, match="4 deep"):
        owner.revert("b", seq)
    assert owner.order() == ["b", "top"]


ids = st.sampled_from("abcdef")
descriptions = st.builds(
    BucketDescription,
    name=st.sampled_from(["one", "two"]),
    type=st.sampled_from(["book", "part"]),
    metadata=st.sampled_from([msgspec.Raw(b"{}"), msgspec.Raw(b'{"k":1}')]),
    tags=st.sampled_from([(), ("x",)]),
)


def described(bucket: Bucket) -> tuple[object, ...]:
    """What describes a bucket."""
    return bucket.name, bucket.type, bytes(bucket.metadata), bucket.tags


class UndoMachine(RuleBasedStateMachine):
    """Any commands, then any revert: exactly what was, or refused for a reason that holds."""

    @initialize()
    def begin(self) -> None:
        self.owner = Owner(max_depth=3)

    @rule(bucket_id=ids, what=descriptions, parent=st.none() | ids)
    def create(self, bucket_id: str, what: BucketDescription, parent: str | None) -> None:
        self.ask(lambda rules: rules.create(bucket_id, what, parent))

    @rule(bucket_id=ids, what=descriptions)
    def describe(self, bucket_id: str, what: BucketDescription) -> None:
        self.ask(lambda rules: rules.describe(bucket_id, what))

    @rule(bucket_id=ids, parent=st.none() | ids, position=st.none() | st.integers(0, 4))
    def move(self, bucket_id: str, parent: str | None, position: int | None) -> None:
        self.ask(lambda rules: rules.move(bucket_id, parent, position))

    @rule(bucket_id=ids, back=st.booleans())
    def trash(self, bucket_id: str, *, back: bool) -> None:
        self.ask(lambda rules: rules.restore(bucket_id) if back else rules.delete(bucket_id))

    @rule(bucket_id=ids, data=st.data())
    def revert(self, bucket_id: str, data: st.DataObject) -> None:
        owner = self.owner
        to = data.draw(st.integers(0, owner.seq))
        try:
            then = owner.past[to].live(bucket_id)
        except NotFound:
            return
        before = owner.seq
        if not self.ask(lambda rules: rules.revert(bucket_id, then, to)):
            assert owner.seq == before
            return
        now = owner.tree.buckets[bucket_id]
        assert owner.seq - before <= 2
        assert (described(now), now.parent) == (described(then), then.parent)
        brothers = [b for b in owner.tree.buckets.values() if b.parent == now.parent]
        if now.rank != then.rank:
            ranks = sorted(b.rank for b in brothers)
            assert ranks[ranks.index(now.rank) + 1] == then.rank
        assert owner.revert(bucket_id, to) == []

    def ask(self, decide: Callable[[TreeRules], None]) -> bool:
        """Whether the rules did not refuse."""
        try:
            self.owner.when(decide)
        except Rejected:
            return False
        return True

    @invariant()
    def ranks_are_unique(self) -> None:
        places = [(b.parent, b.rank) for b in self.owner.tree.buckets.values()]
        assert len(places) == len(set(places))

    @invariant()
    def no_path_is_too_long_or_a_circle(self) -> None:
        tree = self.owner.tree
        for bucket in tree.buckets.values():
            above = [up.bucket_id for up in tree.above(bucket)]
            assert bucket.bucket_id not in above
            if not any(tree.buckets[one].trashed for one in (bucket.bucket_id, *above)):
                assert len(above) < 3


TestUndo = UndoMachine.TestCase
TestUndo.settings = settings(max_examples=80, stateful_step_count=40)
