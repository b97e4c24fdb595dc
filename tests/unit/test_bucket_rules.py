"""The tree of buckets: each rule given, when and then; and all of them against a plain model."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from reyna.domain.bucket import (
    BucketBlobAdded,
    BucketBlobRemoved,
    BucketCreated,
    BucketDeleted,
    BucketDescription,
    BucketRestored,
    BucketStructureChanged,
    BucketUpdated,
    Tree,
)
from reyna.domain.event import Event, Opaque
from reyna.domain.tree_rules import TreeRules
from reyna.errors import Conflict, NotFound, Rejected
from reyna.log.record import Stored, decode
from tests.events import SCHEMA, stored

TIME = "2026-11-22T15:04:05.123456Z"
BOOK = BucketDescription(name="A book", type="book")


class Owner:
    """One owner's tree, and the events it was folded from."""

    def __init__(self, max_depth: int = 32) -> None:
        self.tree = Tree()
        self.max_depth = max_depth
        self.seq = 0

    def when(self, rule: Callable[[TreeRules], object]) -> list[Event]:
        """What the rule decides; it is folded as if it had been stored."""
        rules = TreeRules("u1", self.tree, self.max_depth)
        rule(rules)
        decided = rules.decided()
        for one in decided:
            self.seq += 1
            self.tree.fold(one.entity_id, one.event, self.seq, TIME)
        return [one.event for one in decided]

    def create(self, bucket_id: str, parent: str | None = None) -> BucketCreated:
        """A new bucket."""
        (event,) = self.when(lambda rules: rules.create(bucket_id, BOOK, parent))
        assert isinstance(event, BucketCreated)
        return event

    def describe(self, bucket_id: str, what: BucketDescription) -> list[Event]:
        """A bucket described anew."""
        return self.when(lambda rules: rules.describe(bucket_id, what))

    def move(self, bucket_id: str, parent: str | None, position: int | None = None) -> list[Event]:
        """A bucket moved."""
        return self.when(lambda rules: rules.move(bucket_id, parent, position))

    def delete(self, bucket_id: str) -> list[Event]:
        """A bucket in the trash."""
        return self.when(lambda rules: rules.delete(bucket_id))

    def restore(self, bucket_id: str) -> list[Event]:
        """A bucket back from it."""
        return self.when(lambda rules: rules.restore(bucket_id))

    def file(
        self, add: tuple[str, ...] = (), remove: tuple[str, ...] = (), made_in: tuple[str, ...] = ()
    ) -> list[Event]:
        """The blob `b1`, made in some buckets, put into others and taken out of some."""
        present = self.tree.filed("b1", made_in)
        return self.when(lambda rules: rules.file("b1", SCHEMA, present, add, remove))

    def order(self, parent: str | None = None) -> list[str]:
        """The live children's ids, in order."""
        return [bucket.bucket_id for bucket in self.tree.children(parent)]


def grown(*path: str, max_depth: int = 32) -> Owner:
    """Buckets one under the other, the first a root."""
    owner = Owner(max_depth)
    for bucket_id, parent in zip(path, [None, *path], strict=False):
        owner.create(bucket_id, parent)
    return owner


def test_a_new_bucket_is_the_last_of_its_parents_children() -> None:
    """Given two children, a third comes after them, with a rank above theirs."""
    owner = grown("top")
    ranks = [owner.create(bucket_id, "top").rank for bucket_id in ("a", "b", "c")]
    assert owner.order("top") == ["a", "b", "c"]
    assert ranks == sorted(set(ranks))


def test_a_bucket_is_made_once() -> None:
    """Given a bucket, in the trash or not, the same id is a conflict."""
    owner = grown("a")
    with pytest.raises(Conflict):
        owner.create("a")
    owner.delete("a")
    with pytest.raises(Conflict):
        owner.create("a")


def test_a_parent_must_be_there() -> None:
    """A bucket under none that is known, or under one in the trash, is not found."""
    owner = grown("a", "b")
    owner.delete("a")
    for parent in ("nobody", "a", "b"):
        with pytest.raises(NotFound):
            owner.create("new", parent)


@pytest.mark.parametrize("max_depth", [1, 2, 5])
def test_no_path_is_longer_than_allowed(max_depth: int) -> None:
    """A path may have `max_depth` buckets, the next one is a conflict."""
    path = [f"b{level}" for level in range(max_depth)]
    owner = grown(*path, max_depth=max_depth)
    with pytest.raises(Conflict):
        owner.create("one-more", path[-1])


def test_a_move_takes_the_whole_subtree_into_account() -> None:
    """Given two levels that move under two others, a depth of three is a conflict, four is not."""
    owner = grown("a", "b", max_depth=4)
    owner.create("c")
    owner.create("d", "c")
    owner.max_depth = 3
    with pytest.raises(Conflict):
        owner.move("c", "b")
    owner.max_depth = 4
    owner.move("c", "b")
    assert [up.bucket_id for up in owner.tree.above(owner.tree.live("d"))] == ["c", "b", "a"]


def test_a_bucket_that_comes_back_must_still_fit() -> None:
    """Given a trashed bucket whose parent has moved down since, restoring it is a conflict."""
    owner = grown("a", "b", max_depth=3)
    owner.create("low", "b")
    owner.delete("low")
    owner.create("top")
    owner.move("a", "top")
    with pytest.raises(Conflict):
        owner.restore("low")
    owner.move("a", None)
    owner.restore("low")
    assert owner.order("b") == ["low"]


@pytest.mark.parametrize("target", ["a", "b", "c"])
def test_a_bucket_never_comes_under_itself(target: str) -> None:
    """Moving a bucket into itself or under one of its own is a conflict."""
    owner = grown("a", "b", "c")
    with pytest.raises(Conflict):
        owner.move("a", target)


def test_a_moved_bucket_has_one_parent() -> None:
    """After a move the bucket is under the new parent, and no longer under the old one."""
    owner = grown("a", "b")
    owner.create("c")
    (event,) = owner.move("b", "c")
    assert isinstance(event, BucketStructureChanged)
    assert (event.previous_parent_bucket_id, event.parent_bucket_id) == ("a", "c")
    assert (owner.order("a"), owner.order("c")) == ([], ["b"])


@pytest.mark.parametrize("start", range(4))
@pytest.mark.parametrize("position", [0, 1, 2, 3, 99, None])
def test_a_bucket_moves_to_any_position(start: int, position: int | None) -> None:
    """A move among brothers and sisters puts the bucket exactly there; too high means last."""
    owner = Owner()
    order = ["a", "b", "c", "d"]
    for bucket_id in order:
        owner.create(bucket_id)
    moving = order.pop(start)
    index = len(order) if position is None else min(position, len(order))
    order.insert(index, moving)
    events = owner.move(moving, None, position)
    assert owner.order() == order
    if index == start:
        assert not events
    else:
        (event,) = events
        assert isinstance(event, BucketStructureChanged)
        assert event.position == index


def test_ranks_stay_unique_when_brothers_and_sisters_are_in_the_trash() -> None:
    """However buckets come, move and go, no two of one parent share a rank, trashed or not."""
    owner = Owner()
    for bucket_id in ("a", "b", "c"):
        owner.create(bucket_id)
    owner.delete("b")
    owner.move("a", None, 1)
    owner.move("c", None, 1)
    owner.create("d")
    owner.delete("d")
    owner.create("e")
    ranks = [bucket.rank for bucket in owner.tree.buckets.values()]
    assert len(set(ranks)) == len(ranks)


def test_a_bucket_comes_back_to_its_place() -> None:
    """Given a deleted bucket between two others, it is between them again once restored."""
    owner = Owner()
    for bucket_id in ("a", "b", "c"):
        owner.create(bucket_id)
    owner.delete("b")
    assert owner.order() == ["a", "c"]
    owner.restore("b")
    assert owner.order() == ["a", "b", "c"]


def test_the_trash_takes_everything_below() -> None:
    """Deleting names the bucket and all that went with it, and none of them is live after it."""
    owner = grown("a", "b", "c")
    (event,) = owner.delete("b")
    assert event == BucketDeleted(bucket_ids=("b", "c"), parent_bucket_id="a")
    for bucket_id in ("b", "c"):
        with pytest.raises(NotFound):
            owner.tree.live(bucket_id)
        with pytest.raises(NotFound):
            owner.delete(bucket_id)
        with pytest.raises(NotFound):
            owner.move(bucket_id, None)
        with pytest.raises(NotFound):
            owner.describe(bucket_id, BOOK)


def test_what_was_in_the_trash_before_stays_there() -> None:
    """Given a bucket deleted before its parent, restoring the parent does not bring it back."""
    owner = grown("a", "b", "c")
    owner.delete("c")
    (gone,) = owner.delete("a")
    assert isinstance(gone, BucketDeleted)
    assert gone.bucket_ids == ("a", "b")
    with pytest.raises(Conflict, match="restore that one first"):
        owner.restore("c")
    with pytest.raises(Conflict, match="restore that one first"):
        owner.restore("b")
    assert owner.restore("a") == [BucketRestored(bucket_ids=("a", "b"))]
    with pytest.raises(Conflict, match="not in the trash"):
        owner.restore("b")
    owner.restore("c")
    assert owner.order("b") == ["c"]


def test_only_what_is_in_the_trash_comes_back() -> None:
    """Restoring a live bucket is a conflict, an unknown one is not found."""
    owner = grown("a")
    with pytest.raises(Conflict):
        owner.restore("a")
    with pytest.raises(NotFound):
        owner.restore("nobody")


def test_each_filing_says_where_the_blob_is_then() -> None:
    """Of several buckets, each gives an event with all that the blob is in after it."""
    owner = Owner()
    for bucket_id in "abc":
        owner.create(bucket_id)
    assert owner.file(add=("b", "c"), remove=("a",), made_in=("a",)) == [
        BucketBlobRemoved(blob_id="b1", schema_id=SCHEMA, bucket_ids=()),
        BucketBlobAdded(blob_id="b1", schema_id=SCHEMA, bucket_ids=("b",)),
        BucketBlobAdded(blob_id="b1", schema_id=SCHEMA, bucket_ids=("b", "c")),
    ]
    assert owner.tree.filed("b1", ("a",)) == ("b", "c")
    assert owner.tree.filings["b1"].seqs == [4, 5, 6]
    assert [owner.tree.buckets[bucket_id].seq for bucket_id in "abc"] == [4, 5, 6]
    assert owner.tree.filed("another", ("a",)) == ("a",)


def test_what_is_filed_so_already_decides_nothing() -> None:
    """Adding where the blob is, removing where it is not, or the same twice, is no event more."""
    owner = grown("a", "b")
    assert owner.file(add=("a",), remove=("b",), made_in=("a",)) == []
    assert len(owner.file(add=("b", "b"), made_in=("a",))) == 1
    assert len(owner.file(remove=("a", "a"))) == 1
    assert owner.tree.filed("b1", ()) == ("b",)


def test_a_blob_is_filed_only_where_a_bucket_is() -> None:
    """An unknown bucket, or one in the trash with or without its parent, is not found."""
    owner = grown("a", "b")
    owner.create("c")
    owner.delete("a")
    for bucket_id in ("nobody", "a", "b"):
        with pytest.raises(NotFound):
            owner.file(add=(bucket_id,))
        with pytest.raises(NotFound):
            owner.file(add=("c",), remove=(bucket_id,), made_in=(bucket_id,))
    assert owner.tree.filings == {}


def test_a_trashed_bucket_keeps_its_place_in_a_filing() -> None:
    """Given a blob in a bucket in the trash, filing it elsewhere still names that bucket."""
    owner = grown("a")
    owner.create("b")
    owner.delete("a")
    (event,) = owner.file(add=("b",), made_in=("a",))
    assert event == BucketBlobAdded(blob_id="b1", schema_id=SCHEMA, bucket_ids=("a", "b"))
    assert not owner.tree.is_live("a")
    assert owner.tree.is_live("b")


def test_a_description_that_changes_nothing_decides_nothing() -> None:
    """An update says which fields differ; the same description again is no event."""
    owner = grown("a")
    new = BucketDescription(
        name="Another", type="book", metadata=msgspec.Raw(b'{"k":1}'), tags=("x",)
    )
    (event,) = owner.describe("a", new)
    assert isinstance(event, BucketUpdated)
    assert event.changed == ("name", "metadata", "tags")
    assert owner.describe("a", new) == []


def test_a_rule_changes_no_state() -> None:
    """A decision that is never stored leaves the tree as it was."""
    owner = grown("a", "b")
    before = outline(owner.tree)
    rules = TreeRules("u1", owner.tree, 32)
    rules.create("c", BOOK, "b")
    rules.move("b", None, 0)
    rules.delete("a")
    assert outline(owner.tree) == before


def test_an_unknown_event_moves_the_position_and_nothing_else() -> None:
    """An event of a type of the future leaves the tree as it is, but the boundary has moved."""
    owner = grown("a")
    owner.tree.fold("a", Opaque(b"{}"), 7, TIME)
    owner.tree.fold("nobody", Opaque(b"{}"), 8, TIME)
    assert (owner.tree.seq, owner.tree.buckets["a"].seq, owner.order()) == (8, 7, ["a"])


# ---------------------------------------------------------------- against a model

MAX_DEPTH = 4
ids = st.sampled_from("abcdefgh")
blobs = st.sampled_from(["b1", "b2"])
parents = st.none() | ids
positions = st.none() | st.integers(0, 9)
descriptions = st.builds(
    BucketDescription,
    name=st.sampled_from(["one", "two"]),
    type=st.sampled_from(["book", "part"]),
    tags=st.sampled_from([(), ("x",)]),
)


def outline(tree: Tree) -> tuple[object, ...]:
    """All there is to a tree, in a form that compares."""
    below: dict[str | None, list[str]] = {
        parent: [bucket.bucket_id for bucket in tree.children(parent)]
        for parent in (None, *tree.buckets)
    }
    buckets = {bucket_id: msgspec.structs.asdict(b) for bucket_id, b in tree.buckets.items()}
    filings = {blob_id: (one.bucket_ids, one.seqs) for blob_id, one in tree.filings.items()}
    return tree.seq, buckets, below, filings


class Model:
    """The tree as plain lists: what each parent holds, what is in the trash still in its place."""

    def __init__(self) -> None:
        self.parent: dict[str, str | None] = {}
        self.described: dict[str, BucketDescription] = {}
        self.held: dict[str | None, list[str]] = {None: []}
        self.trash: set[str] = set()
        self.filed: dict[str, list[str]] = {}

    def line(self, bucket_id: str | None) -> list[str]:
        """The bucket and those above it."""
        found: list[str] = []
        while bucket_id is not None:
            found.append(bucket_id)
            bucket_id = self.parent[bucket_id]
        return found

    def live(self, bucket_id: str) -> bool:
        return bucket_id in self.parent and not self.trash.intersection(self.line(bucket_id))

    def children(self, parent: str | None) -> list[str]:
        return [child for child in self.held[parent] if child not in self.trash]

    def height(self, bucket_id: str) -> int:
        return 1 + max((self.height(child) for child in self.children(bucket_id)), default=0)

    def create(self, bucket_id: str, what: BucketDescription, parent: str | None) -> None:
        if bucket_id in self.parent:
            raise Conflict("exists")
        self.need(parent)
        self.fit(len(self.line(parent)) + 1)
        self.parent[bucket_id] = parent
        self.described[bucket_id] = what
        self.held[bucket_id] = []
        self.held[parent].append(bucket_id)

    def describe(self, bucket_id: str, what: BucketDescription) -> None:
        self.need(bucket_id)
        self.described[bucket_id] = what

    def move(self, bucket_id: str, parent: str | None, position: int | None) -> None:
        self.need(bucket_id)
        self.need(parent)
        if bucket_id in self.line(parent):
            raise Conflict("cycle")
        self.fit(len(self.line(parent)) + self.height(bucket_id))
        others = [child for child in self.children(parent) if child != bucket_id]
        behind = others[position] if position is not None and position < len(others) else None
        if parent == self.parent[bucket_id]:
            there = self.children(parent)
            if [*there, None][there.index(bucket_id) + 1] == behind:
                return
        self.held[self.parent[bucket_id]].remove(bucket_id)
        held = self.held[parent]
        held.insert(len(held) if behind is None else held.index(behind), bucket_id)
        self.parent[bucket_id] = parent

    def delete(self, bucket_id: str) -> None:
        self.need(bucket_id)
        self.trash.add(bucket_id)

    def restore(self, bucket_id: str) -> None:
        if bucket_id not in self.parent:
            raise NotFound("never was")
        if bucket_id not in self.trash or self.trash.intersection(self.line(bucket_id)[1:]):
            raise Conflict("not there, or under what is there")
        self.fit(len(self.line(self.parent[bucket_id])) + self.height(bucket_id))
        self.trash.remove(bucket_id)

    def file(self, blob_id: str, add: list[str], remove: list[str]) -> None:
        for bucket_id in (*add, *remove):
            self.need(bucket_id)
        held = [one for one in self.filed.get(blob_id, []) if one not in remove]
        self.filed[blob_id] = held + [one for one in add if one not in held]

    def need(self, bucket_id: str | None) -> None:
        if bucket_id is not None and not self.live(bucket_id):
            raise NotFound("not live")

    def fit(self, levels: int) -> None:
        if levels > MAX_DEPTH:
            raise Conflict("too deep")


class TreeMachine(RuleBasedStateMachine):
    """Any commands in any order: the tree and the model decide, refuse and end up alike."""

    @initialize()
    def begin(self) -> None:
        self.tree, self.model = Tree(), Model()
        self.log: list[Stored] = []

    @rule(bucket_id=ids, what=descriptions, parent=parents)
    def create(self, bucket_id: str, what: BucketDescription, parent: str | None) -> None:
        self.both(
            lambda rules: rules.create(bucket_id, what, parent),
            lambda: self.model.create(bucket_id, what, parent),
        )

    @rule(bucket_id=ids, what=descriptions)
    def describe(self, bucket_id: str, what: BucketDescription) -> None:
        self.both(
            lambda rules: rules.describe(bucket_id, what),
            lambda: self.model.describe(bucket_id, what),
        )

    @rule(bucket_id=ids, parent=parents, position=positions)
    def move(self, bucket_id: str, parent: str | None, position: int | None) -> None:
        self.both(
            lambda rules: rules.move(bucket_id, parent, position),
            lambda: self.model.move(bucket_id, parent, position),
        )

    @rule(bucket_id=ids)
    def delete(self, bucket_id: str) -> None:
        self.both(lambda rules: rules.delete(bucket_id), lambda: self.model.delete(bucket_id))

    @rule(bucket_id=ids)
    def restore(self, bucket_id: str) -> None:
        self.both(lambda rules: rules.restore(bucket_id), lambda: self.model.restore(bucket_id))

    @rule(blob_id=blobs, chosen=st.lists(ids, max_size=4, unique=True), cut=st.integers(0, 4))
    def file(self, blob_id: str, chosen: list[str], cut: int) -> None:
        add, remove = chosen[:cut], chosen[cut:]
        present = self.tree.filed(blob_id, ())
        self.both(
            lambda rules: self.expect_file(rules, blob_id, present, add, remove),
            lambda: self.model.file(blob_id, add, remove),
        )

    def expect_file(
        self,
        rules: TreeRules,
        blob_id: str,
        present: tuple[str, ...],
        add: list[str],
        remove: list[str],
    ) -> None:
        """File, and hold the answer against what is then so."""
        after = rules.file(blob_id, SCHEMA, present, add, remove)
        assert set(after) == (set(present) - set(remove)) | set(add)

    def both(self, decide: Callable[[TreeRules], None], model: Callable[[], None]) -> None:
        """Ask the rules and the model; what is decided is stored as bytes and folded from them."""
        rules = TreeRules("u1", self.tree, MAX_DEPTH)
        refused = refusal(lambda: decide(rules))
        assert refused is refusal(model)
        for one in rules.decided():
            message = stored(len(self.log) + 1, "u1", one.entity_id, one.event)
            self.log.append(message)
            fold(self.tree, [message])

    @invariant()
    def it_is_the_models_tree(self) -> None:
        assert {b.bucket_id: b.parent for b in self.tree.buckets.values()} == self.model.parent
        assert {b.bucket_id for b in self.tree.buckets.values() if b.trashed} == self.model.trash
        for parent, held in self.model.held.items():
            assert [b.bucket_id for b in self.tree.children(parent)] == self.model.children(parent)
            ranks = [self.tree.buckets[child].rank for child in held]
            assert ranks == sorted(set(ranks))
        for bucket_id, what in self.model.described.items():
            bucket = self.tree.buckets[bucket_id]
            assert (bucket.name, bucket.type, bucket.tags) == (what.name, what.type, what.tags)

    @invariant()
    def the_blobs_are_where_the_model_has_them(self) -> None:
        for blob_id, buckets in self.model.filed.items():
            assert self.tree.filed(blob_id, ()) == tuple(buckets)
        seqs = [seq for filing in self.tree.filings.values() for seq in filing.seqs]
        assert sorted(seqs) == [m.seq for m in self.log if ".blob." in m.subject]

    @invariant()
    def it_is_a_tree(self) -> None:
        held = [b.bucket_id for p in (None, *self.tree.buckets) for b in self.tree.children(p)]
        assert len(held) == len(set(held)), "a bucket has two parents"
        for bucket in self.tree.buckets.values():
            path = [bucket.bucket_id]
            while (parent := self.tree.buckets[path[-1]].parent) is not None:
                assert parent in self.tree.buckets, "a parent is missing"
                assert parent not in path, "a bucket is above itself"
                path.append(parent)
            if not any(self.tree.buckets[one].trashed for one in path):
                assert len(path) <= MAX_DEPTH, "a path is too long"

    @invariant()
    def the_last_event_of_each_subject_and_all_filings_are_enough(self) -> None:
        last = {message.subject: message.seq for message in self.log}
        short = Tree()
        fold(
            short,
            [m for m in self.log if m.seq == last[m.subject] or ".blob." in m.subject],
        )
        assert outline(short) == outline(self.tree)


def fold(tree: Tree, messages: list[Stored]) -> None:
    """Fold stored messages."""
    for record in map(decode, messages):
        tree.fold(record.entity_id, record.event, record.seq, record.time)


def refusal(command: Callable[[], None]) -> type[Rejected] | None:
    """How a command is refused, None if it is not."""
    try:
        command()
    except Rejected as rejected:
        return type(rejected)
    return None


TestTree = TreeMachine.TestCase
TestTree.settings = settings(max_examples=80, stateful_step_count=40)
