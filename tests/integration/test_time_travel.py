"""Time travel: for every prefix of the log, the view at that seq is what a plain model was then."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from projections.content import projection
from projections.content.blobs import Blob, get_blob
from projections.content.buckets import get_bucket, list_buckets
from projections.content.lineage import get_lineage
from projections.content.lists import list_blobs
from projections.content.trees import BucketNode, BucketTree, get_forest, get_subtree
from reyna.api.views import CallersView
from reyna.domain.blob import Blob as Folded
from reyna.domain.blob import BlobContent, BlobCreated, BlobDerived, BlobRules, Provenance, fold
from reyna.domain.bucket import BucketDescription, Tree
from reyna.domain.event import Rules
from reyna.domain.tree_rules import TreeRules
from reyna.errors import Conflict, NotFound
from tests.databases import Databases, on_sqlite
from tests.folding import History, folded, folding_on

ANN = "ann"
TAGS = ("red", "blue", "Red")
BUCKETS = st.integers(0, 4).map(lambda number: f"k{number}")
BLOBS = st.integers(0, 4).map(lambda number: f"b{number}")
PLACES = st.lists(BUCKETS, max_size=3, unique=True)


@dataclass
class Shelf:
    """A bucket of the model."""

    name: str
    tags: tuple[str, ...]
    parent: str | None
    trashed: bool = False


@dataclass
class Page:
    """A blob of the model."""

    text: str
    tags: tuple[str, ...]
    shelves: list[str]
    changed: int
    source: tuple[str, int] | None = None
    trashed: bool = False


@dataclass
class World:
    """All there is. `order` are the children of each bucket, trashed ones included."""

    shelves: dict[str, Shelf] = field(default_factory=dict)
    pages: dict[str, Page] = field(default_factory=dict)
    order: dict[str | None, list[str]] = field(default_factory=lambda: {None: []})

    def living(self, bucket_id: str | None) -> bool:
        """Whether neither the bucket nor one above it is in the trash."""
        while bucket_id is not None:
            shelf = self.shelves.get(bucket_id)
            if shelf is None or shelf.trashed:
                return False
            bucket_id = shelf.parent
        return True

    def forest(self, parent: str | None = None) -> list[tuple[str, int, object]]:
        """The living buckets with how many blobs each holds, nested."""
        return [
            (child, len(self.inside(child)), self.forest(child))
            for child in self.order[parent]
            if self.living(child)
        ]

    def inside(self, bucket_id: str) -> set[str]:
        """The living blobs in a bucket."""
        return {
            blob_id
            for blob_id, page in self.pages.items()
            if bucket_id in page.shelves and not page.trashed
        }

    def below(self, bucket_id: str) -> set[str]:
        """The living blobs in a bucket or below it."""
        found = self.inside(bucket_id)
        for child in self.order[bucket_id]:
            if self.living(child):
                found |= self.below(child)
        return found

    def stale(self, page: Page) -> bool:
        """Whether what a blob was made from has changed since."""
        if page.source is None:
            return False
        source, seq = page.source
        return self.pages[source].changed > seq


class TimeTravel(RuleBasedStateMachine):
    """Does what the rules allow, and remembers what the model was after each event."""

    def __init__(self) -> None:
        super().__init__()
        self.history = History()
        self.tree = Tree()
        self.blobs: dict[str, Folded] = {}
        self.world = World()
        self.worlds = [World()]
        self.cuts: set[int] = set()

    @property
    def seq(self) -> int:
        """The last event's."""
        return len(self.history.records)

    def decide(self, rules: Rules) -> list[int]:
        """Append what was decided; the seqs of the events."""
        seqs = []
        for decided in rules.decided():
            record = self.history.add(ANN, decided.entity_id, decided.event)
            seqs.append(record.seq)
            if record.subject.kind == "bucket":
                self.tree.fold(decided.entity_id, decided.event, record.seq, record.time)
                continue
            known = self.blobs.get(decided.entity_id)
            state = fold(known, decided.entity_id, decided.event, record.seq, record.time)
            assert state is not None
            self.blobs[decided.entity_id] = state
        return seqs

    def change_tree(self, rule: Callable[[TreeRules], object]) -> list[int]:
        """The seqs of the events of a rule of the tree; none if it refuses."""
        rules = TreeRules(ANN, self.tree, 32)
        try:
            rule(rules)
        except (Conflict, NotFound):
            return []
        return self.decide(rules)

    def keep(self) -> None:
        """Remember the world as it is now for every event since the last time."""
        while len(self.worlds) <= self.seq:
            self.worlds.append(copy.deepcopy(self.world))

    @initialize()
    def begin(self) -> None:
        """Begin with something that can be changed."""
        for bucket_id, parent in (("k0", None), ("k1", "k0"), ("k2", "k1"), ("k3", "k0")):
            self.make_bucket(bucket_id, parent, "red")
        self.make_blob("b0", ["k1", "k2"], "red")
        self.make_blob("b1", ["k3"], "blue")
        self.derive_blob("b2", "b0")

    @rule(bucket_id=BUCKETS, parent=BUCKETS | st.none(), tag=st.sampled_from(TAGS))
    def make_bucket(self, bucket_id: str, parent: str | None, tag: str) -> None:
        """Make a bucket, last among its parent's children."""
        description = BucketDescription(name=bucket_id, type="part", tags=(tag,))
        if self.change_tree(lambda rules: rules.create(bucket_id, description, parent)):
            self.world.shelves[bucket_id] = Shelf(bucket_id, (tag,), parent)
            self.world.order[parent].append(bucket_id)
            self.world.order[bucket_id] = []
            self.keep()

    @rule(bucket_id=BUCKETS, name=st.sampled_from(["one", "two"]))
    def rename_bucket(self, bucket_id: str, name: str) -> None:
        """Give a bucket another name."""
        description = BucketDescription(name=name, type="part", tags=())
        if self.change_tree(lambda rules: rules.describe(bucket_id, description)):
            self.world.shelves[bucket_id].name = name
            self.world.shelves[bucket_id].tags = ()
            self.keep()

    @rule(bucket_id=BUCKETS, parent=BUCKETS | st.none(), position=st.integers(0, 3))
    def move_bucket(self, bucket_id: str, parent: str | None, position: int) -> None:
        """Put a bucket, with all below it, somewhere else."""
        if self.change_tree(lambda rules: rules.move(bucket_id, parent, position)):
            shelf = self.world.shelves[bucket_id]
            self.world.order[shelf.parent].remove(bucket_id)
            shelf.parent = parent
            beside = self.world.order[parent]
            after = [child for child in beside if self.world.living(child)][position:]
            beside.insert(beside.index(after[0]) if after else len(beside), bucket_id)
            self.keep()

    @rule(bucket_id=BUCKETS)
    def delete_bucket(self, bucket_id: str) -> None:
        """Put a bucket, with all below it, into the trash."""
        if self.change_tree(lambda rules: rules.delete(bucket_id)):
            self.world.shelves[bucket_id].trashed = True
            self.keep()

    @rule(bucket_id=BUCKETS)
    def restore_bucket(self, bucket_id: str) -> None:
        """Bring a bucket back to where it was."""
        if self.change_tree(lambda rules: rules.restore(bucket_id)):
            self.world.shelves[bucket_id].trashed = False
            self.keep()

    @rule(blob_id=BLOBS, places=PLACES, tag=st.sampled_from(TAGS))
    def make_blob(self, blob_id: str, places: list[str], tag: str) -> None:
        """Drop a blob into some living buckets."""
        if blob_id in self.blobs or not all(self.world.living(place) for place in places):
            return
        rules = BlobRules(ANN, blob_id, None)
        rules.create(
            BlobCreated(
                schema_id="note-v1", data=_data("first"), tags=(tag,), bucket_ids=tuple(places)
            )
        )
        (seq,) = self.decide(rules)
        self.world.pages[blob_id] = Page("first", (tag,), places, seq)
        self.keep()

    @rule(blob_id=BLOBS, source_id=BLOBS)
    def derive_blob(self, blob_id: str, source_id: str) -> None:
        """Make a blob from another, beside it."""
        source = self.world.pages.get(source_id)
        if blob_id in self.blobs or source is None or source.trashed:
            return
        rules = BlobRules(ANN, blob_id, None)
        rules.create(
            BlobDerived(
                schema_id="long-v1",
                data=_data("made"),
                bucket_ids=tuple(source.shelves),
                parent_id=source_id,
                processor_id="p",
                provenance=Provenance(
                    processor_version="1",
                    source_blob_id=source_id,
                    source_seq=self.seq,
                    run_id="r",
                ),
            )
        )
        made_from = (source_id, self.seq)
        (seq,) = self.decide(rules)
        self.world.pages[blob_id] = Page("made", (), list(source.shelves), seq, made_from)
        self.keep()

    @rule(blob_id=BLOBS, text=st.sampled_from(["first", "second"]), tag=st.sampled_from(TAGS))
    def edit_blob(self, blob_id: str, text: str, tag: str) -> None:
        """Change a blob's text, its tags, or nothing."""
        page = self.world.pages.get(blob_id)
        if page is None or page.trashed:
            return
        rules = BlobRules(ANN, blob_id, self.blobs[blob_id])
        schema_id = self.blobs[blob_id].schema_id
        rules.update(BlobContent(schema_id=schema_id, data=_data(text), tags=(tag,)))
        seqs = self.decide(rules)
        if text != page.text:
            page.text, page.changed = text, seqs[0]
        page.tags = (tag,)
        self.keep()

    @rule(blob_id=BLOBS, to=st.integers(1, 40))
    def revert_blob(self, blob_id: str, to: int) -> None:
        """Give a blob the content that it had after an event of the past."""
        page = self.world.pages.get(blob_id)
        then = self.worlds[min(to, self.seq)].pages.get(blob_id)
        if page is None or page.trashed or then is None or then.trashed:
            return
        rules = BlobRules(ANN, blob_id, self.blobs[blob_id])
        schema_id = self.blobs[blob_id].schema_id
        content = BlobContent(schema_id=schema_id, data=_data(then.text), tags=then.tags)
        rules.update(content, to)
        seqs = self.decide(rules)
        if then.text != page.text:
            page.text, page.changed = then.text, seqs[0]
        page.tags = then.tags
        self.keep()

    @rule(blob_id=BLOBS)
    def trash_or_restore_blob(self, blob_id: str) -> None:
        """Put a blob into the trash, or take it out."""
        page = self.world.pages.get(blob_id)
        if page is None:
            return
        rules = BlobRules(ANN, blob_id, self.blobs[blob_id])
        if page.trashed:
            rules.restore()
        else:
            rules.delete()
        self.decide(rules)
        page.trashed = not page.trashed
        self.keep()

    @rule(blob_id=BLOBS, add=PLACES, remove=PLACES)
    def file_blob(self, blob_id: str, add: list[str], remove: list[str]) -> None:
        """Put a blob, trashed or not, into some buckets and take it out of others."""
        page = self.world.pages.get(blob_id)
        if page is None:
            return
        schema_id, places = self.blobs[blob_id].schema_id, tuple(page.shelves)
        seqs = self.change_tree(lambda rules: rules.file(blob_id, schema_id, places, add, remove))
        for seq in seqs:
            record = self.history.records[seq - 1]
            if record.type == "bucket.blob.added":
                page.shelves.append(record.entity_id)
            else:
                page.shelves.remove(record.entity_id)
            self.worlds.append(copy.deepcopy(self.world))

    @rule(cuts=st.sets(st.integers(0, 60), max_size=4))
    def cut(self, cuts: set[int]) -> None:
        """Fold the history in other batches."""
        self.cuts = cuts

    def teardown(self) -> None:
        """Fold the history, and look at each moment of it."""
        asyncio.run(self._look_back())

    async def _look_back(self) -> None:
        async with folded(projection) as view:
            await view.apply(self.history.records, self.cuts)
            for seq, world in enumerate(self.worlds):
                async with view.seen_by(ANN, at=seq) as then:
                    await check(then, world, closely=seq % 4 == 0)
            async with view.seen_by(ANN) as now:
                await check(now, self.world, closely=True)
            async with view.seen_by("bob") as stranger:
                await check(stranger, World(), closely=True)


async def check(view: CallersView, world: World, *, closely: bool) -> None:
    """The view shows exactly the world: forest and lists; looking closely, each thing alone."""
    tree = msgspec.json.decode((await get_forest.fn(view)).content, type=BucketTree)
    assert [_nested(node) for node in tree.items] == world.forest()
    page = await list_blobs.fn(view, limit=200)
    assert {blob.blob_id for blob in page.items} == {
        blob_id for blob_id, page in world.pages.items() if not page.trashed
    }
    trash = await list_blobs.fn(view, limit=200, trashed=True)
    assert {b.blob_id for b in trash.items} == {b for b, p in world.pages.items() if p.trashed}
    for blob in page.items if closely else ():
        await _check_blob(view, world, blob)
    shelves = await list_buckets.fn(view, limit=200)
    assert {b.bucket_id for b in shelves.items} == {b for b in world.shelves if world.living(b)}
    for bucket in shelves.items if closely else ():
        shelf = world.shelves[bucket.bucket_id]
        assert (bucket.name, bucket.tags, bucket.parent_bucket_id) == (
            shelf.name,
            shelf.tags,
            shelf.parent,
        )
        assert (await get_bucket.fn(view, bucket.bucket_id)).content == bucket
        subtree = (await get_subtree.fn(view, bucket.bucket_id)).content
        (top,) = msgspec.json.decode(subtree, type=BucketTree).items
        assert (top.bucket_id, top.position, top.depth, top.seq) == (
            bucket.bucket_id,
            bucket.position,
            bucket.depth,
            bucket.seq,
        )
    for bucket_id in world.shelves:
        there = world.living(bucket_id)
        found = await list_blobs.fn(view, bucket_id=bucket_id, limit=200)
        assert {b.blob_id for b in found.items} == (world.inside(bucket_id) if there else set())
        found = await list_blobs.fn(view, bucket_id=bucket_id, recursive=True, limit=200)
        assert {b.blob_id for b in found.items} == (world.below(bucket_id) if there else set())
    for text in ("first", "second", "made"):
        found = await list_blobs.fn(view, q=text, limit=200)
        assert {b.blob_id: b.excerpt for b in found.items} == {
            blob_id: f"<mark>{text}</mark>"
            for blob_id, p in world.pages.items()
            if p.text == text and not p.trashed
        }
    for tag in TAGS:
        found = await list_blobs.fn(view, tag=tag, limit=200)
        assert {b.blob_id for b in found.items} == {
            blob_id for blob_id, p in world.pages.items() if tag in p.tags and not p.trashed
        }


async def _check_blob(view: CallersView, world: World, blob: Blob) -> None:
    page = world.pages[blob.blob_id]
    assert (blob.data, blob.tags, blob.stale) == (_data(page.text), page.tags, world.stale(page))
    assert list(blob.bucket_ids) == [place for place in page.shelves if world.living(place)]
    assert set(blob.derived_ids) == {
        derived
        for derived, p in world.pages.items()
        if p.source and p.source[0] == blob.blob_id and not p.trashed
    }
    assert (await get_blob.fn(view, blob.blob_id)).content == blob
    line = {blob.blob_id}
    source = page.source
    while source is not None:
        line.add(source[0])
        source = world.pages[source[0]].source
    graph = await get_lineage.fn(view, blob.blob_id)
    nodes = {node.blob_id: node for node in graph.nodes}
    assert line <= set(nodes)
    for node in nodes.values():
        known = world.pages[node.blob_id]
        assert (node.stale, node.trashed) == (world.stale(known), known.trashed)
        assert node.blob_id in line or known.source


def _nested(node: BucketNode) -> tuple[str, int, object]:
    return (node.bucket_id, node.blob_count, [_nested(child) for child in node.children])


def _data(text: str) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode({"content": text}))


def test_every_moment_of_the_past_is_what_it_was(databases: Databases) -> None:
    """Whatever was done, the view as of each event shows the world as it was after that event."""
    with folding_on(databases):
        run_state_machine_as_test(
            TimeTravel,
            settings=settings(
                # Both databases are asked by the same queries; SQLite is asked more quickly.
                max_examples=25 if databases is on_sqlite else 8,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
