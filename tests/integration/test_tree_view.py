"""The view of buckets: its fold, and what its routes answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import methodcaller

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections.content import projection
from projections.content.buckets import Bucket, BucketPage, get_bucket, list_buckets
from projections.content.trees import BucketNode, BucketTree, get_forest, get_subtree
from reyna.api.views import CallersView, encode_cursor
from reyna.domain.blob import BlobCreated, BlobDeleted, BlobDerived, BlobRestored, Provenance
from reyna.domain.bucket import BucketDescription, Tree
from reyna.domain.event import Opaque
from reyna.domain.tree_rules import TreeRules
from reyna.errors import Conflict, Malformed, NotFound
from reyna.log.record import Record
from tests.folding import History, folded, time_of

pytestmark = pytest.mark.usefixtures("folded_on_each")

LEVELS = 1000
DATA = msgspec.Raw(b'{"content":"x"}')


class Forester:
    """Writes the history of one user's buckets, by the real rules."""

    def __init__(self, owner: str = "ann", history: History | None = None) -> None:
        self.history = history or History()
        self.owner = owner
        self.tree = Tree()

    @property
    def records(self) -> list[Record]:
        """What has happened."""
        return self.history.records

    def do(self, rule: Callable[[TreeRules], None]) -> None:
        """Append what a rule decides."""
        rules = TreeRules(self.owner, self.tree, LEVELS)
        rule(rules)
        for decided in rules.decided():
            record = self.history.add(self.owner, decided.entity_id, decided.event)
            self.tree.fold(decided.entity_id, decided.event, record.seq, record.time)

    def create(
        self,
        bucket_id: str,
        parent: str | None = None,
        *,
        of_type: str = "part",
        tags: tuple[str, ...] = (),
    ) -> None:
        """Make a bucket that is named like its id."""
        description = BucketDescription(name=bucket_id, type=of_type, tags=tags)
        self.do(lambda rules: rules.create(bucket_id, description, parent))

    def fill(self, blob_id: str, *bucket_ids: str) -> None:
        """Make a blob in some buckets."""
        event = BlobCreated(schema_id="note-v1", bucket_ids=bucket_ids, data=DATA)
        self.history.add(self.owner, blob_id, event)

    def living(self) -> list[tuple[str, str | None, int, int]]:
        """Id, parent, position and depth of all that is not in the trash, as the rules see it."""
        return [
            (below.bucket_id, below.parent, siblings.index(below), self.tree.depth(below))
            for root in self.tree.children(None)
            for below, _ in self.tree.subtree(root)
            if (siblings := self.tree.children(below.parent))
        ]


@st.composite
def forests(draw: st.DrawFn) -> Forester:
    """Whatever one user may do to buckets and blobs."""
    forester = Forester()
    ids = st.integers(0, 9).map(lambda number: f"k{number}")
    nowhere = st.none()
    absent: set[str] = set()
    for step in range(draw(st.integers(0, 40))):
        one, other = draw(ids), draw(ids | nowhere)
        verb = draw(st.sampled_from(["create", "describe", "move", "delete", "restore", "blob"]))
        try:
            match verb:
                case "create":
                    forester.create(one, other)
                case "describe":
                    news = BucketDescription(name=f"name {step}", type="part", tags=(one,))
                    forester.do(methodcaller("describe", one, news))
                case "move":
                    place = draw(st.integers(0, 3) | nowhere)
                    forester.do(methodcaller("move", one, other, place))
                case "delete":
                    forester.do(methodcaller("delete", one))
                case "restore":
                    forester.do(methodcaller("restore", one))
                case _:
                    _change_blob(forester, f"b{one}", {one, other} - {None}, absent)
        except (Conflict, NotFound):
            continue
    return forester


def _change_blob(forester: Forester, blob_id: str, into: set[str | None], absent: set[str]) -> None:
    """Make a blob; delete it when it is there, and bring it back when it is not."""
    made = [r for r in forester.records if r.entity_id == blob_id]
    if not made:
        forester.fill(blob_id, *sorted(b for b in into if b in forester.tree.buckets and b))
        return
    event = made[0].event
    assert isinstance(event, BlobCreated)
    change = BlobRestored if blob_id in absent else BlobDeleted
    absent ^= {blob_id}
    forester.history.add(
        "ann", blob_id, change(schema_id=event.schema_id, bucket_ids=event.bucket_ids)
    )


async def bucket(view: CallersView, bucket_id: str) -> Bucket:
    """What GET buckets/{bucket_id} answers."""
    answer = await get_bucket.fn(view, bucket_id)
    assert isinstance(answer.content, Bucket)
    assert answer.headers["ETag"] == f'"{answer.content.seq}"'
    return answer.content


async def forest(view: CallersView) -> list[BucketNode]:
    """What GET buckets/tree answers."""
    answer = await get_forest.fn(view)
    return msgspec.json.decode(answer.content, type=BucketTree).items


async def listed(view: CallersView, **filters: object) -> list[str]:
    """The ids of all pages, of two each, that GET buckets answers."""
    found: list[str] = []
    cursor = None
    while True:
        page = await list_buckets.fn(view, limit=2, cursor=cursor, **filters)
        assert isinstance(page, BucketPage)
        found.extend(item.bucket_id for item in page.items)
        cursor = page.next_cursor
        if cursor is None:
            return found
        assert len(page.items) == 2


def walk(nodes: list[BucketNode]) -> Iterator[BucketNode]:
    """The nodes, each before those below it."""
    for node in nodes:
        yield node
        yield from walk(node.children)


def fields(node: BucketNode) -> dict[str, object]:
    """A node of the forest as the bucket that it is."""
    found: dict[str, object] = msgspec.json.decode(msgspec.json.encode(node))
    del found["children"]
    return found


@settings(max_examples=30)
@given(forests(), st.sets(st.integers(0, 60)))
async def test_batches_do_not_matter(forester: Forester, cuts: set[int]) -> None:
    """However a history is cut into batches, the rows are the same to the byte."""
    records = forester.records
    async with folded(projection) as whole, folded(projection) as cut, folded(projection) as single:
        await whole.apply(records)
        await cut.apply(records, cuts)
        await single.apply(records, range(len(records)))
        assert await whole.digests() == await cut.digests() == await single.digests()


@settings(max_examples=30)
@given(forests())
async def test_forest_is_what_the_rules_see(forester: Forester) -> None:
    """The forest has the rules' buckets, each at the rules' place; one by one they are the same."""
    async with folded(projection) as view:
        await view.apply(forester.records)
        async with view.seen_by("ann") as ann:
            nodes = list(walk(await forest(ann)))
            places = [(n.bucket_id, n.parent_bucket_id, n.position, n.depth) for n in nodes]
            assert sorted(places) == sorted(forester.living())
            for node in nodes:
                assert node.child_bucket_ids == tuple(below.bucket_id for below in node.children)
                assert [below.position for below in node.children] == [*range(len(node.children))]
                assert node.seq == forester.tree.buckets[node.bucket_id].seq
                alone = msgspec.json.encode(await bucket(ann, node.bucket_id))
                assert msgspec.json.decode(alone) == fields(node)


async def test_bucket_tells_all_its_fields() -> None:
    """A bucket's answer has every field of the contract, with the values its events gave it."""
    forester = Forester()
    forester.create("book", of_type="book")
    forester.create("two", "book")
    forester.create("one", "book")
    forester.do(lambda rules: rules.move("one", "book", 0))
    forester.do(
        lambda rules: rules.describe(
            "book",
            BucketDescription(
                name="The Sea", type="book", tags=("blue",), metadata=msgspec.Raw(b'{"a":1}')
            ),
        )
    )
    forester.fill("x", "book", "one")
    async with folded(projection) as view:
        await view.apply(forester.records)
        async with view.seen_by("ann") as ann:
            assert msgspec.json.decode(msgspec.json.encode(await bucket(ann, "book"))) == {
                "bucket_id": "book",
                "user_id": "ann",
                "name": "The Sea",
                "type": "book",
                "parent_bucket_id": None,
                "child_bucket_ids": ["one", "two"],
                "blob_count": 1,
                "metadata": {"a": 1},
                "tags": ["blue"],
                "position": 0,
                "depth": 0,
                "seq": 5,
                "created_at": time_of(1),
                "updated_at": time_of(5),
            }
            assert [(await bucket(ann, b)).position for b in ("one", "two")] == [0, 1]


async def test_blobs_are_counted_where_they_are() -> None:
    """A blob counts in each of its buckets while it is there, a derived one like any other."""
    forester = Forester()
    for bucket_id in ("a", "b"):
        forester.create(bucket_id)
    counts: list[tuple[int, int]] = []
    source = Provenance(processor_version="1", source_blob_id="x", source_seq=3, run_id="r")
    async with folded(projection) as view:
        forester.fill("x", "a", "b")
        derived = BlobDerived(
            schema_id="note-v1",
            bucket_ids=("a",),
            data=DATA,
            parent_id="x",
            processor_id="p",
            provenance=source,
        )
        forester.history.add("ann", "y", derived)
        gone = BlobDeleted(schema_id="note-v1", bucket_ids=("a", "b"))
        forester.history.add("ann", "x", gone)
        back = BlobRestored(schema_id="note-v1", bucket_ids=("a", "b"))
        forester.history.add("ann", "x", back)
        for record in forester.records:
            await view.apply([record])
            async with view.seen_by("ann") as ann:
                found = {item.bucket_id: item.blob_count for item in await forest(ann)}
                counts.append((found.get("a", 0), found.get("b", 0)))
    assert counts == [(0, 0), (0, 0), (1, 1), (2, 1), (1, 0), (2, 1)]


async def test_trash_is_seen_by_nobody() -> None:
    """A bucket in the trash is nowhere, with all below it; restored, it is back where it was."""
    forester = Forester()
    for bucket_id, parent in (("a", None), ("b", None), ("b1", "b"), ("c", None)):
        forester.create(bucket_id, parent)
    forester.do(lambda rules: rules.delete("b"))
    async with folded(projection) as view:
        await view.apply(forester.records)
        async with view.seen_by("ann") as ann:
            for bucket_id in ("b", "b1"):
                with pytest.raises(NotFound):
                    await bucket(ann, bucket_id)
                with pytest.raises(NotFound):
                    await get_subtree.fn(ann, bucket_id)
            assert [node.bucket_id for node in walk(await forest(ann))] == ["a", "c"]
            assert await listed(ann) == ["a", "c"]
            assert await listed(ann, parent_bucket_id="b") == []
            assert (await bucket(ann, "c")).position == 1
        done = len(forester.records)
        forester.do(lambda rules: rules.restore("b"))
        await view.apply(forester.records[done:])
        async with view.seen_by("ann") as ann:
            assert [node.bucket_id for node in walk(await forest(ann))] == ["a", "b", "b1", "c"]


async def test_others_see_nothing() -> None:
    """Another user's buckets are in no answer."""
    forester = Forester()
    forester.create("a")
    async with folded(projection) as view:
        await view.apply(forester.records)
        async with view.seen_by("eve") as eve:
            assert await forest(eve) == []
            assert await listed(eve) == []
            for route in (get_bucket, get_subtree):
                with pytest.raises(NotFound):
                    await route.fn(eve, "a")


@pytest.mark.parametrize("wrong", ["a.b", "*", ">", "", "a" * 65, "a\0"])
async def test_wrong_ids_are_malformed(wrong: str) -> None:
    """What cannot be an id is refused as such, in a path and in a query."""
    async with folded(projection) as view, view.seen_by("ann") as ann:
        for route in (get_bucket, get_subtree):
            with pytest.raises(Malformed):
                await route.fn(ann, wrong)
        with pytest.raises(Malformed):
            await list_buckets.fn(ann, parent_bucket_id=wrong)


async def test_list_filters_and_pages() -> None:
    """Pages give each bucket that fits once: oldest first, and below one parent in their order."""
    forester = Forester()
    for number in range(5):
        forester.create(f"k{number}", of_type="book" if number % 2 else "part")
    for number in range(5):
        forester.create(f"c{number}", "k0")
    forester.do(lambda rules: rules.move("c4", "k0", 0))
    async with folded(projection) as view:
        await view.apply(forester.records)
        async with view.seen_by("ann") as ann:
            assert await listed(ann) == [f"{k}{number}" for k in "kc" for number in range(5)]
            assert await listed(ann, bucket_type="book") == ["k1", "k3"]
            assert await listed(ann, parent_bucket_id="k0") == ["c4", "c0", "c1", "c2", "c3"]
            assert await listed(ann, parent_bucket_id="k0", bucket_type="book") == []


@pytest.mark.parametrize("tag", ["a", "A", ",", '"', "\\", "b,c", '","', "é", " ", "\n", "\0"])
async def test_tag_is_found_whole(tag: str) -> None:
    """A tag finds the buckets that have it, letter by letter, and no other's parts."""
    forester = Forester()
    forester.create("with", tags=("first", tag, "last"))
    forester.create("without", tags=("aa", "b", "c", 'b","c', f"{tag}x", f"x{tag}", f"\n {tag}!"))
    async with folded(projection) as view:
        await view.apply(forester.records)
        async with view.seen_by("ann") as ann:
            assert await listed(ann, tag=tag) == ["with"]
            assert await listed(ann, tag="fir") == []


@pytest.mark.parametrize(
    "cursor",
    ["", "!", "bm8", encode_cursor(1), encode_cursor("\0", "a"), encode_cursor("a", "b", "c")],
)
async def test_foreign_cursor_is_malformed(cursor: str) -> None:
    """A cursor that was not made here is refused."""
    async with folded(projection) as view, view.seen_by("ann") as ann:
        with pytest.raises(Malformed):
            await list_buckets.fn(ann, cursor=cursor)


async def test_unknown_event_counts_as_the_last() -> None:
    """An event of a newer program changes a bucket's seq, so that If-Match and ETag agree."""
    forester = Forester()
    forester.create("a")
    record = forester.records[0]
    newer = msgspec.structs.replace(record, seq=7, event=Opaque(b"{}"))
    async with folded(projection) as view:
        await view.apply([record])
        await view.apply([newer])
        async with view.seen_by("ann") as ann:
            assert (await bucket(ann, "a")).seq == 7


async def test_subtree_is_cut_out_of_the_forest() -> None:
    """A subtree is one bucket with all below it, each at its depth and position, and no other."""
    forester = Forester()
    for bucket_id, parent in (
        ("a", None),
        ("b", "a"),
        ("c", "a"),
        ("c1", "c"),
        ("c2", "c"),
        ("d", "a"),
    ):
        forester.create(bucket_id, parent)
    async with folded(projection) as view:
        await view.apply(forester.records)
        async with view.seen_by("ann") as ann:
            answer = await get_subtree.fn(ann, "c")
    (top,) = msgspec.json.decode(answer.content, type=BucketTree).items
    assert [(n.bucket_id, n.depth, n.position) for n in walk([top])] == [
        ("c", 1, 1),
        ("c1", 2, 0),
        ("c2", 2, 1),
    ]


async def test_deep_trees_are_whole() -> None:
    """A tree as deep as trees may be is answered in full, from the top and from half-way down."""
    forester = Forester()
    for level in range(LEVELS):
        forester.create(f"k{level}", f"k{level - 1}" if level else None)
    async with folded(projection) as view:
        await view.apply(forester.records)
        async with view.seen_by("ann") as ann:
            whole = (await get_forest.fn(ann)).content
            half = (await get_subtree.fn(ann, f"k{LEVELS // 2}")).content
            assert (await bucket(ann, f"k{LEVELS - 1}")).depth == LEVELS - 1
    for body, top in ((whole, 0), (half, LEVELS // 2)):
        levels = LEVELS - top
        assert body.endswith(b'"children":[' + b"]}" * (levels + 1))
        # No parser here goes so deep: taken apart at its levels, each one is an object of its own.
        parts = body.removeprefix(b'{"items":[').split(b',"children":[')[:levels]
        nodes = [msgspec.json.decode(part + b"}", type=Bucket) for part in parts]
        assert [(n.bucket_id, n.depth) for n in nodes] == [
            (f"k{level}", level) for level in range(top, LEVELS)
        ]
