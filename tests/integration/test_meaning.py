"""Lists by likeness, on SQLite and PostgreSQL: what is found, at which moment, and whose it is."""

from __future__ import annotations

import asyncio
from array import array
from collections import OrderedDict
from collections.abc import AsyncIterator

import msgspec
import pytest
from sqlalchemy import text

from projections.content import meaning, projection, vectors
from projections.content.blobs import Blob, get_blob
from projections.content.lists import BlobPage, list_blobs
from reyna.api.views import CallersView, encode_cursor
from reyna.content import Embedding
from reyna.domain.blob import (
    BlobCreated,
    BlobDeleted,
    BlobDerived,
    BlobRestored,
    BlobUpdated,
    Provenance,
)
from reyna.domain.bucket import BucketCreated
from reyna.errors import Conflict, Invalid, NotFound, Unavailable
from tests.databases import on_sqlite
from tests.folding import Folded, History, folded, folding_on, time_of
from tests.support import eventually

pytestmark = pytest.mark.usefixtures("folded_on_each")

ANN, BOB = "ann", "bob"
TEXT, EMBEDDING = "text-input-v1", "embedding-v1"


class Story:
    """A history of texts and of their embeddings, whose numbers the test chooses."""

    def __init__(self, view: Folded) -> None:
        self.view = view
        self.history = History()
        self._folded = 0

    def write(self, blob_id: str, owner: str = ANN, said: str = "text", **fields: object) -> int:
        """A text; gives its seq."""
        event = BlobCreated(schema_id=TEXT, data=_raw({"content": said}), **fields)  # type: ignore[arg-type]  # a test's own fields
        return self.history.add(owner, blob_id, event).seq

    def edit(self, blob_id: str, owner: str = ANN) -> int:
        """A new text in place of the old; gives its seq."""
        event = BlobUpdated(schema_id=TEXT, data=_raw({"content": "new"}), changed=("data",))
        return self.history.add(owner, blob_id, event).seq

    def embed(
        self, blob_id: str, source_seq: int, *numbers: float, owner: str = ANN, model: str = "m"
    ) -> int:
        """An embedding of a text as it was after `source_seq`; gives its seq."""
        data = _data(*numbers, model=model)
        provenance = Provenance(
            processor_version="1",
            source_blob_id=blob_id,
            source_seq=source_seq,
            run_id="r",
            generated_at=time_of(source_seq),
        )
        event = BlobDerived(
            schema_id=EMBEDDING,
            data=data,
            parent_id=blob_id,
            processor_id="semantic-index",
            provenance=provenance,
        )
        seq = len(self.history.records) + 1
        return self.history.add(owner, f"e{seq}", event).seq

    def tell(self, blob_id: str, *numbers: float, owner: str = ANN, **fields: object) -> None:
        """A text and its embedding."""
        self.embed(blob_id, self.write(blob_id, owner, **fields), *numbers, owner=owner)  # type: ignore[arg-type]  # a test's own fields

    async def fold(self) -> None:
        """Let the view have all that has happened."""
        await self.view.apply(self.history.records[self._folded :])
        self._folded = len(self.history.records)

    async def like(
        self, blob_id: str, owner: str = ANN, at: int | None = None, **filters: object
    ) -> list[str]:
        """What is like a blob, the likest first."""
        return _ids(await self.page(owner, at, similar_to=blob_id, **filters))

    async def near(self, *numbers: float, owner: str = ANN, **filters: object) -> list[str]:
        """What is near a question in meaning, the nearest first."""
        ahead = Embedding("m", array("f", numbers).tobytes())
        asked = {"q": "text", "by": "meaning", **filters}
        return _ids(await self.page(owner, None, ahead=ahead, **asked))

    async def page(self, owner: str, at: int | None, **asked: object) -> BlobPage:
        """A page of a list."""
        await self.fold()
        async with self.view.seen_by(owner, at=at) as view:
            page: BlobPage = await list_blobs.fn(view, **asked)
            return page

    async def blob(self, blob_id: str, owner: str = ANN) -> Blob:
        """One blob."""
        await self.fold()
        async with self.view.seen_by(owner) as view:
            blob: Blob = (await get_blob.fn(view, blob_id=blob_id)).content
            return blob


def _raw(data: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(data))


def _data(*numbers: float, model: str = "m") -> msgspec.Raw:
    vector = array("f", numbers).tobytes()
    return _raw(
        {"model": model, "dimensions": len(numbers), "vector": vector, "text_sha256": "0" * 64}
    )


def _ids(page: BlobPage) -> list[str]:
    return [blob.blob_id for blob in page.items]


@pytest.fixture
async def story() -> AsyncIterator[Story]:
    """An empty history, on either database."""
    async with folded(projection) as view:
        yield Story(view)


async def test_the_likest_come_first(story: Story) -> None:
    """All that has an embedding of the same model is found by cosine, the blob itself left out."""
    story.tell("here", 1, 0)
    story.tell("far", -1, 0.1)
    story.tell("near", 5, 1)
    story.tell("beside", 0, 2)
    story.write("unread")
    story.embed("else", story.write("else"), 1, 0, model="another")
    page = await story.page(ANN, None, similar_to="here")
    assert _ids(page) == ["near", "beside", "far"]
    assert [blob.similarity for blob in page.items] == pytest.approx([0.981, 0, -0.995], abs=0.02)
    assert all(blob.excerpt is msgspec.UNSET for blob in page.items)


async def test_nobody_finds_what_is_anothers(story: Story) -> None:
    """Neither texts nor embeddings of others count, also when they claim to be of one's blobs."""
    story.tell("mine", 1, 0)
    story.tell("also", 0, 1)
    story.tell("theirs", 1, 0, owner=BOB)
    story.embed("also", 1, 1, 0, owner=BOB)
    assert await story.like("mine") == ["also"]
    page = await story.page(ANN, None, similar_to="mine")
    assert page.items[0].similarity == pytest.approx(0, abs=0.02)
    assert await story.near(1, 0, owner=BOB) == ["theirs"]
    with pytest.raises(NotFound):
        await story.like("theirs")


async def test_the_latest_text_speaks(story: Story) -> None:
    """After an edit the new embedding counts, in whichever order the two were made."""
    first = story.write("a")
    second = story.edit("a")
    story.embed("a", second, 0, 1)
    story.embed("a", first, 1, 0)
    story.tell("north", 0, 1)
    story.tell("east", 1, 0)
    assert await story.like("a") == ["north", "east"]


async def test_the_past_is_found_as_it_was(story: Story) -> None:
    """With `at` the embeddings of that moment count, and the blobs that were there."""
    story.tell("north", 0, 1)
    story.tell("east", 1, 0)
    story.embed("a", story.write("a"), 0, 1)
    then = len(story.history.records)
    story.embed("a", story.edit("a"), 1, 0)
    story.tell("later", 0, 1)
    assert await story.like("a") == ["east", "north", "later"]
    assert await story.like("a", at=then) == ["north", "east"]
    with pytest.raises(Conflict):
        await story.like("a", at=then - 1)
    with pytest.raises(NotFound):
        await story.like("a", at=then - 2)


async def test_what_is_in_the_trash_is_not_found(story: Story) -> None:
    """A blob in the trash is found there alone, and again when it is back."""
    story.tell("a", 1, 0)
    story.tell("b", 1, 0)
    story.history.add(ANN, "b", BlobDeleted(schema_id=TEXT))
    assert await story.like("a") == []
    assert await story.like("a", trashed=True) == ["b"]
    story.history.add(ANN, "b", BlobRestored(schema_id=TEXT))
    assert await story.like("a") == ["b"]


async def test_an_embedding_in_the_trash_does_not_count(story: Story) -> None:
    """Deleting a blob's embedding leaves the one before it, or none; restoring brings it back."""
    first = story.write("a")
    story.embed("a", first, 1, 0)
    latest = f"e{story.embed('a', story.edit('a'), 0, 1)}"
    story.tell("north", 0, 1)
    story.tell("east", 1, 0)
    assert await story.like("a") == ["north", "east"]
    story.history.add(ANN, latest, BlobDeleted(schema_id=EMBEDDING))
    assert await story.like("a") == ["east", "north"]
    story.history.add(ANN, latest, BlobRestored(schema_id=EMBEDDING))
    assert await story.like("a") == ["north", "east"]


async def test_likeness_goes_with_every_filter(story: Story) -> None:
    """Bucket, what is below it, tag, source and schema let through what they let through in other
    lists.
    """
    for bucket_id, parent in (("k1", None), ("k2", "k1")):
        event = BucketCreated(name="Notes", type="folder", parent_bucket_id=parent, rank="a0")
        story.history.add(ANN, bucket_id, event)
    story.tell("here", 1, 0)
    story.tell("one", 1, 0.1, bucket_ids=("k1",), tags=("t",))
    story.tell("two", 1, 0.2, bucket_ids=("k2",), parent_id="here")
    story.tell("three", 1, 0.3, tags=("t",))
    assert await story.like("here") == ["one", "two", "three"]
    assert await story.like("here", bucket_id="k1") == ["one"]
    assert await story.like("here", bucket_id="k1", recursive=True) == ["one", "two"]
    assert await story.like("here", tag="t") == ["one", "three"]
    assert await story.like("here", bucket_id="k1", tag="t") == ["one"]
    assert await story.like("here", parent_id="here") == ["two"]
    assert await story.like("here", schema_id="message-v1") == []
    assert await story.near(1, 0, tag="t") == ["one", "three"]


async def test_pages_go_on_where_the_one_before_ended(story: Story) -> None:
    """Page by page, everything is met once and in order."""
    story.tell("here", 1, 0)
    for number in range(7):
        story.tell(f"b{number}", 1, number)
    met: list[str] = []
    cursor: str | None = None
    while True:
        page = await story.page(ANN, None, similar_to="here", limit=3, cursor=cursor)
        met += _ids(page)
        cursor = page.next_cursor
        if cursor is None:
            break
    assert met == [f"b{number}" for number in range(7)]


async def test_what_is_many_is_found_like_what_is_few(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going down the ranking, in ever larger steps, finds the same as gathering first."""
    story.tell("here", 1, 0)
    for number in range(40):
        story.tell(f"b{number}", 1, number, tags=("odd",) if number % 2 else ())
        story.embed(f"b{number}", 2 * number, 1, -number - 1)
    few = await story.like("here", tag="odd", limit=10)
    all_ = await story.like("here", limit=200)
    monkeypatch.setattr(meaning, "FEW", 0)
    monkeypatch.setattr(meaning, "_STEP", 3)
    assert await story.like("here", tag="odd", limit=10) == few
    assert await story.like("here", limit=200) == all_
    assert len(all_) == 40
    far = encode_cursor(100_000)
    page = await story.page(ANN, None, similar_to="here", cursor=far)
    assert (page.items, page.next_cursor) == ([], None)


async def test_both_puts_together_words_and_meaning(story: Story) -> None:
    """What words and meaning both find comes first; each alone finds its own."""
    story.tell("said", 0, 1, said="the sea at night")
    story.tell("meant", 1, 0.1, said="dark water")
    story.tell("either", 1, 0, said="a sea of dark water")
    ahead = Embedding("m", array("f", [1, 0]).tobytes())

    assert _ids(await story.page(ANN, None, q="sea")) == ["said", "either"]
    assert await story.near(1, 0, q="sea") == ["either", "meant", "said"]
    page = await story.page(ANN, None, q="sea", by="both", ahead=ahead)
    assert _ids(page) == ["either", "said", "meant"]
    assert {blob.blob_id: blob.excerpt for blob in page.items} == {
        "said": "the <mark>sea</mark> at night",
        "meant": "dark water",
        "either": "a <mark>sea</mark> of dark water",
    }


async def test_embeddings_are_in_no_list_that_does_not_ask_for_them(story: Story) -> None:
    """An embedding is an index, not content: lists, sources and words pass it by, but it is there
    by its id and its schema.
    """
    seq = story.embed("a", story.write("a"), 1, 0)
    found = await story.page(ANN, None)
    assert _ids(found) == ["a"]
    assert found.items[0].derived_ids == ()
    assert _ids(await story.page(ANN, None, sort="updated_at")) == ["a"]
    assert _ids(await story.page(ANN, None, parent_id="a")) == []
    assert _ids(await story.page(ANN, None, q="m")) == []
    assert _ids(await story.page(ANN, None, schema_id=EMBEDDING)) == [f"e{seq}"]
    assert (await story.blob(f"e{seq}")).parent_id == "a"


async def test_what_cannot_be_answered_says_why(story: Story) -> None:
    """No blob, no embedding, no texts of that model, and two questions at once are told apart."""
    story.write("bare")
    with pytest.raises(NotFound):
        await story.like("nothing")
    with pytest.raises(Conflict, match="semantic-index"):
        await story.like("bare")
    with pytest.raises(Conflict, match="semantic-index"):
        await story.near(1, 0)
    with pytest.raises(Invalid) as refused:
        await story.like("bare", q="text")
    assert {error.path for error in refused.value.errors} == {"/q", "/similar_to"}


async def test_a_damaged_embedding_spoils_nothing(story: Story) -> None:
    """A user may patch an embedding into anything: it is not found, and everything else is."""
    story.tell("a", 1, 0)
    story.tell("b", 1, 1)
    for number, data in enumerate(
        [_raw({"model": "m"}), _data(float("inf"), 1), _data(0, 0), _raw([1])]
    ):
        seq = story.embed(f"x{number}", story.write(f"x{number}"), 1, 0)
        event = BlobUpdated(schema_id=EMBEDDING, data=data, changed=("data",))
        story.history.add(ANN, f"e{seq}", event)
    assert await story.like("a") == ["b"]
    for number in range(4):
        with pytest.raises(Conflict):
            await story.like(f"x{number}")


async def test_an_embedding_that_was_applied_late_is_found(story: Story) -> None:
    """What had been set aside and was applied behind later records counts from then on."""
    story.tell("a", 1, 0)
    story.tell("b", 1, 1)
    story.tell("c", 0, 1)
    assert await story.like("a") == ["b", "c"]
    late = story.embed("c", 5, 1, 0.1)
    story.write("d")
    # The embedding is set aside, what came after it is applied.
    await story.view.apply([story.history.records[-1]])
    story._folded = len(story.history.records)
    assert await story.like("a") == ["b", "c"]
    await story.view.apply([story.history.records[late - 1]])
    story.tell("e", -1, 0)
    assert await story.like("a") == ["c", "b", "e"]


async def test_what_is_kept_has_a_bound(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vectors of those who asked longest ago are let go of; their owners find them again."""
    monkeypatch.setattr(vectors, "MAX_BYTES", 60)
    for owner in (ANN, BOB, "cid"):
        story.tell(f"{owner}-1", 1, 0, owner=owner)
        story.tell(f"{owner}-2", 1, 1, owner=owner)
    for owner in (ANN, BOB, "cid", ANN):
        assert await story.like(f"{owner}-1", owner=owner) == [f"{owner}-2"]
    async with story.view.seen_by(ANN) as view:
        kept = vectors._users[view.connection.engine.sync_engine]
    assert list(kept) == ["cid", ANN]


async def test_one_user_does_not_take_all_connections(story: Story) -> None:
    """While somebody's vectors are read for the first time, few of their questions wait for it."""
    story.tell("a", 1, 0)
    story.tell("b", 1, 1)
    await story.fold()
    async with story.view.seen_by(ANN) as view:
        user = vectors._User()
        vectors._users[view.connection.engine.sync_engine] = OrderedDict({ANN: user})

    async def waiting() -> bool:
        return user.waiting == vectors._WAITING

    async with asyncio.TaskGroup() as tasks, user.turn:
        patient = [
            tasks.create_task(story.page(ANN, None, similar_to="a"))
            for _ in range(vectors._WAITING)
        ]
        await eventually(waiting)
        with pytest.raises(Unavailable):
            await story.like("a")
    assert [_ids(task.result()) for task in patient] == [["b"]] * vectors._WAITING
    assert user.waiting == 0


async def test_lists_walk_along_indexes() -> None:
    """Neither a list nor a question goes through embeddings that it does not want."""
    plans: list[str] = []
    with folding_on(on_sqlite):
        async with folded(projection) as view, view.seen_by(ANN) as caller:
            plans += await _plan(caller, "created_at")
            plans += await _plan(caller, "updated_at")
    assert any("blob_versions_by_age" in step for step in plans)
    assert any("blob_versions_by_change" in step for step in plans)
    assert not any("TEMP B-TREE" in step for step in plans)


async def _plan(view: CallersView, by: str) -> list[str]:
    query = (
        "SELECT since FROM blob_versions WHERE user_id = 'ann' AND until = 9 AND deleted IS 0"
        f" AND schema_id != 'embedding-v1' ORDER BY {by} DESC, blob_id DESC LIMIT 9"
    )
    rows = await view.connection.execute(text(f"EXPLAIN QUERY PLAN {query}"))
    return [str(row[3]) for row in rows]
