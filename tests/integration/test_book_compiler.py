"""The book compiler in a real studio: a tree of texts becomes three files that can be opened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from processors.book_compiler import BookCompiler
from processors.style_analysis import StyleAnalysis
from reyna.content import Processor
from tests.books import (
    RUNS,
    Desk,
    a_desk,
    chapter_texts,
    contents_of,
    outline_of,
    text_of,
    write_out,
)
from tests.files import held, store_of
from tests.support import (
    Json,
    events_of,
    eventually,
    make_blob,
    problem,
    read,
    running_studio,
)
from tests.writing import Writer, run_at


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A studio that expands texts and compiles books."""
    async with a_desk(tmp_path) as desk:
        yield desk


async def named(desk: Desk, top: str) -> dict[str, str]:
    """The buckets below one, by name."""
    head = int((await desk.client.get("/events")).headers["reyna-seq"])
    pending: list[Json] = (await read(desk.client, f"/buckets/{top}/tree", head))["items"]
    found: dict[str, str] = {}
    while pending:
        node = pending.pop()
        found[node["name"]] = node["bucket_id"]
        pending += node["children"]
    return found


async def test_a_book_from_a_template_opens_in_three_formats(desk: Desk) -> None:
    """Texts in a tree of parts and chapters become Markdown, EPUB and PDF in the tree's order, each
    with a table of contents, and without the notebook.
    """
    top = await desk.bucket("Die Bürde", type="book", template="book")
    buckets = await named(desk, top)
    await desk.text("Later", buckets["Chapter 2"])
    first = await desk.text("Es war Привет Ελλάδα", buckets["Chapter 1"])
    await desk.text("The end", buckets["Afterword"])
    await desk.text("Cut this", buckets["Cut passages"])
    book = await desk.book(top, author="A. Writer", language="de")
    data = book["data"]
    assert (data["title"], data["author"], data["seq"] < book["seq"]) == (
        "Die Bürde",
        "A. Writer",
        True,
    )
    chapters = [(one["title"], one["depth"]) for one in data["chapters"]]
    assert chapters == [
        ("Part One", 1),
        ("Chapter 1", 2),
        ("Chapter 2", 2),
        ("Back matter", 1),
        ("Afterword", 2),
    ]
    assert data["chapters"][1]["blob_ids"] == [first["derived_id"]]
    titles = [title for title, _ in chapters]
    epub, pdf = await desk.file(book, "epub"), await desk.file(book, "pdf")
    assert contents_of(epub) == ["Die Bürde", *titles]
    assert chapter_texts(epub)[1] == ["Chapter 1", "Es war Привет Ελλάδα, and so on."]
    assert [title for title in outline_of(pdf) if title != "Inhaltsverzeichnis"] == titles
    said = text_of(pdf)
    assert "Es war Привет Ελλάδα, and so on." in said
    assert "Cut this" not in said
    assert said.index("Es war") < said.index("Later") < said.index("The end")
    markdown = (await desk.file(book, "markdown")).decode()
    assert "  - [Chapter 1](#chapter-2)\n" in markdown
    assert "\n### Chapter 1\n\nEs war Привет Ελλάδα, and so on.\n" in markdown


async def test_a_manuscript_and_its_files_stand_in_the_bucket(desk: Desk) -> None:
    """The manuscript is filed in the bucket and names it; its files are blobs below it, in the
    lineage, and neither is stale. All appeared in one batch.
    """
    top = await desk.bucket("Book")
    await desk.text("One", top)
    book = await desk.book(top)
    assert (book["schema_id"], book["parent_id"], book["bucket_ids"]) == (
        "manuscript-v1",
        None,
        [top],
    )
    assert book["provenance"]["source_bucket_id"] == top
    assert book["provenance"]["source_seq"] == book["data"]["seq"]
    ids = [one["blob_id"] for one in book["data"]["files"]]
    assert sorted(book["derived_ids"]) == sorted(ids)
    for entry in book["data"]["files"]:
        file = await read(desk.client, f"/blobs/{entry['blob_id']}")
        assert (file["schema_id"], file["parent_id"]) == ("media-v1", book["blob_id"])
        assert (file["stale"], file["bucket_ids"]) == (False, [top])
        assert file["media"]["file_name"] == entry["file_name"]
    lineage = await read(desk.client, f"/blobs/{ids[0]}/lineage")
    assert {edge["parent_id"] for edge in lineage["links"]} == {book["blob_id"]}
    made = [one for one in await events_of(desk.client, types="blob.derived") if one["seq"] > 3]
    seqs = [one["seq"] for one in made if one["blob_id"] in {book["blob_id"], *ids}]
    assert seqs == list(range(seqs[0], seqs[0] + 4))
    run = await read(desk.client, f"/runs/{book['provenance']['run_id']}")
    assert (run["derived_id"], run["bucket_ids"], run["blob_id"]) == (book["blob_id"], [top], None)


async def test_chapters_follow_the_tree_when_it_changes(desk: Desk) -> None:
    """After a move the next book has the chapters in the new order, and nothing of the trash."""
    top = await desk.bucket("Book")
    ids = [await desk.bucket(name, top) for name in ("One", "Two", "Three")]
    for name, bucket_id in zip("abc", ids, strict=True):
        await desk.text(name, bucket_id)
    assert await desk.words(top) == "a, and so on. b, and so on. c, and so on."
    moved = await desk.client.post(
        f"/buckets/{ids[2]}/move", json={"parent_bucket_id": top, "position": 0}
    )
    assert moved.status_code == 200
    assert await desk.words(top) == "c, and so on. a, and so on. b, and so on."
    assert (await desk.client.delete(f"/buckets/{ids[0]}")).status_code < 300
    assert await desk.words(top) == "c, and so on. b, and so on."


async def test_the_text_that_counts(desk: Desk) -> None:
    """The chosen variant counts, else the newest that is not stale, else the text itself."""
    top = await desk.bucket("Book")
    source = await desk.text("First", top)
    path = f"/blobs/{source['blob_id']}"
    assert await desk.words(top, use="original") == "First"
    assert await desk.words(top) == "First, and so on."
    renamed = await desk.client.patch(path, json={"title": "A title is not the text"})
    assert renamed.status_code == 200
    assert await desk.words(top) == "First, and so on."
    await desk.client.patch(path, json={"data": {"content": "Second"}})
    assert await desk.words(top) == "Second"
    again = await desk.client.post("/processors/writer/runs", json={"blob_id": source["blob_id"]})
    await run_at(desk.client, again.json()["run_id"], "completed")
    assert await desk.words(top) == "Second, and so on."
    chosen = {"chosen": {"expanded-text-v1": source["derived_id"]}}
    await desk.client.patch(path, json={"metadata": chosen})
    assert await desk.words(top) == "First, and so on."
    await desk.client.delete(f"/blobs/{source['derived_id']}")
    assert await desk.words(top) == "Second, and so on."


async def test_a_variant_counts_wherever_it_is_filed(desk: Desk) -> None:
    """A text that moved to another chapter takes its expansion along; an expansion that is filed
    without its source stands for itself.
    """
    top, other = await desk.bucket("Book"), await desk.bucket("Elsewhere")
    source = await desk.text("Moved", other)
    moved = {"add": [top], "remove": [other]}
    await desk.client.put(f"/blobs/{source['blob_id']}/buckets", json=moved)
    assert await desk.words(top) == "Moved, and so on."
    assert await desk.words(other) == "Moved, and so on."
    await desk.client.put(f"/blobs/{source['derived_id']}/buckets", json={"remove": [other]})
    assert (await desk.run(other))["status"] == "failed"


@pytest.mark.parametrize("named_", [{"blob_id": "b"}, {"schema_id": "text-input-v1"}])
async def test_only_a_bucket_can_be_compiled(desk: Desk, named_: Json) -> None:
    """A run of a processor that reads buckets names a bucket; nothing else is taken."""
    problem(await desk.client.post(RUNS, json=named_), 422, f"/{next(iter(named_))}")
    assert await events_of(desk.client) == []


async def test_what_cannot_be_asked_for(desk: Desk) -> None:
    """Another's bucket, one in the trash and settings that do not fit are refused."""
    top = await desk.bucket("Book")
    async with desk.studio.client(desk.studio.user().token) as stranger:
        problem(await stranger.post(RUNS, json={"bucket_id": top}), 404)
    asked = {"bucket_id": top, "settings": {"page_size": "napkin"}}
    problem(await desk.client.post(RUNS, json=asked), 422, "/settings/page_size")
    await desk.client.delete(f"/buckets/{top}")
    problem(await desk.client.post(RUNS, json={"bucket_id": top}), 404)


async def test_an_empty_book_says_so(desk: Desk) -> None:
    """Without any text the run fails for good, and makes nothing."""
    top = await desk.bucket("Book")
    await make_blob(desk.client, "  \n ", bucket_ids=[top])
    run = await desk.run(top, use="original")
    assert (run["status"], run["permanent"]) == ("failed", True)
    assert run["error"].startswith("There is no text")


async def test_no_event_asks_for_a_book(desk: Desk) -> None:
    """A blob of `bucket-v1` starts nothing, however the instance is set."""
    on = {"active": True, "rerun_on_update": True}
    await desk.client.put("/processors/book-compiler/instance", json=on)
    data = {"bucket_id": "b", "user_id": "u", "name": "n", "type": "book"}
    asked = {"schema_id": "bucket-v1", "data": data}
    made = (await desk.client.post("/blobs", json=asked)).json()
    changed = await desk.client.patch(f"/blobs/{made['blob_id']}", json={"data": {"name": "m"}})
    assert (await read(desk.client, RUNS, changed.json()["seq"]))["items"] == []


async def test_the_same_book_is_stored_once(desk: Desk) -> None:
    """What is compiled again without a change has the same bytes, which are stored once."""
    top = await desk.bucket("Book")
    await desk.text("One", top)
    first = await desk.book(top)
    async with store_of(desk.studio) as store:
        before = await held(store)
        second = await desk.book(top)
        assert await held(store) == before
    assert first["blob_id"] != second["blob_id"]
    hashes = [{one["sha256"] for one in book["data"]["files"]} for book in (first, second)]
    assert hashes[0] == hashes[1]
    assert len(before.objects) == 3


async def test_a_chain_of_three(tmp_path: Path) -> None:
    """A text is expanded, its expansion analysed, and both processors' work ends in one book: the
    expansion's text, and nothing of the analysis.
    """
    processors: list[Processor] = [BookCompiler(), Writer(write_out), StyleAnalysis()]
    async with (
        running_studio(tmp_path, processors=processors) as studio,
        studio.client(studio.user().token) as client,
    ):
        desk = Desk(studio, client)
        on = await client.put("/processors/style-analysis/instance", json={"active": True})
        assert on.status_code == 200
        top = await desk.bucket("Book")
        source = await desk.text("The harbour lay quiet", top)
        analyses: list[Json] = []

        async def analysed() -> bool:
            page = await read(client, "/blobs", parent_id=source["derived_id"])
            analyses[:] = page["items"]
            return bool(analyses)

        await eventually(analysed)
        assert analyses[0]["schema_id"] == "style-analysis-v1"
        assert await desk.words(top) == "The harbour lay quiet, and so on."
