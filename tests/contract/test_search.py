"""The contract of `q`: full-text search in blobs, as a client sees it over HTTP."""

from __future__ import annotations

import html
import re

import httpx
import pytest

from tests.support import Json, Studio, make_blob, make_bucket, problem, read

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def found(client: httpx.AsyncClient, q: str, seq: int = 0, **params: object) -> list[str]:
    """The texts of what a search finds, the best first."""
    items = (await read(client, "/blobs", seq, q=q, **params))["items"]
    return [blob["data"]["content"] for blob in items]


async def test_the_best_answer_comes_first(client: httpx.AsyncClient) -> None:
    """A word in the title counts more, then more often in a shorter text; ties go to the newest."""
    filler = "and so on " * 40
    await make_blob(client, f"harbour {filler}")
    await make_blob(client, f"harbour harbour harbour {filler}")
    await make_blob(client, "no such word", title="The harbour")
    for _ in range(5):
        await make_blob(client, filler)
    await make_blob(client, "one lantern", title="old")
    last = await make_blob(client, "one lantern", title="new")
    assert await found(client, "harbour", last["seq"]) == [
        "no such word",
        f"harbour harbour harbour {filler}",
        f"harbour {filler}",
    ]
    page = await read(client, "/blobs", q="lantern")
    assert [blob["title"] for blob in page["items"]] == ["new", "old"]


@pytest.mark.parametrize(
    ("q", "texts"),
    [
        ("salt", {"Salt and pepper", "sea salt"}),
        ("SALT pepper", {"Salt and pepper"}),
        ("salt AND pepper", {"Salt and pepper"}),
        ('"sea salt"', {"sea salt"}),
        ('"salt sea"', set()),
        ("salt -sea", {"Salt and pepper"}),
        ('salt -"and pepper"', {"sea salt"}),
        ("pep*", {"Salt and pepper", "peppermint tea"}),
        ("pep", set()),
        ("creme brulee", {"Crème brûlée"}),
        ("CRÈME", {"Crème brûlée"}),
        ("京都", {"京都の海"}),
        ("都の", {"京都の海"}),
        ("京の", set()),
        ("data:content", set()),
        ("content", set()),
        ("salt OR tea", set()),
        ("title:salt", set()),
        ('salt" OR "1', set()),
        ("salt) OR (tea", set()),
        ("salt'; DROP TABLE blob_texts; --", set()),
        ("NEAR(salt pepper)", set()),
        ("^salt", {"Salt and pepper", "sea salt"}),
        ("salt &amp;", set()),
        ("%", None),
        ("sal_", set()),
    ],
)
async def test_what_a_question_asks(
    client: httpx.AsyncClient, q: str, texts: set[str] | None
) -> None:
    """All words, phrases, beginnings, exclusions; no case, no accents, no database's syntax."""
    written = ("Salt and pepper", "sea salt", "peppermint tea", "Crème brûlée", "京都の海")
    seq = max([(await make_blob(client, text))["seq"] for text in written])
    if texts is None:
        problem(await client.get("/blobs", params={"q": q}), 422, "/q")
    else:
        assert set(await found(client, q, seq)) == texts


async def test_an_excerpt_is_escaped_text_and_marks(client: httpx.AsyncClient) -> None:
    """Only answers to a search have an `excerpt`: the place found, in HTML with no tag but mark."""
    text = 'Before <b onclick="x">dawn</b> & "after" <mark>dusk</mark>, <script>dawn()</script>.'
    blob = await make_blob(client, text)
    (hit,) = (await read(client, "/blobs", blob["seq"], q="dawn"))["items"]
    assert hit["excerpt"].count("<mark>dawn</mark>") == 2
    rest = re.sub(r"</?mark>", "", hit["excerpt"])
    assert "<" not in rest
    assert html.unescape(rest) == text
    (listed,) = (await read(client, "/blobs"))["items"]
    alone = await read(client, f"/blobs/{blob['blob_id']}")
    assert "excerpt" not in listed
    assert listed == alone == {name: hit[name] for name in hit if name != "excerpt"}


async def test_an_excerpt_shows_where_it_was_found(client: httpx.AsyncClient) -> None:
    """Of a long text the neighbourhood of the words is shown; of a title or tag, that, or it."""
    filler = "nothing " * 500
    await make_blob(client, f"{filler} the white whale {filler}")
    await make_blob(client, "Some text.", title="A whale")
    last = await make_blob(client, "Other text.", tags=["whale"])
    page = await read(client, "/blobs", last["seq"], q="whale")
    shown = {blob["data"]["content"][:5]: blob["excerpt"] for blob in page["items"]}
    assert "the white <mark>whale</mark> nothing" in shown["nothi"]
    assert len(shown["nothi"]) < 500
    assert (shown["nothi"][0], shown["nothi"][-1]) == ("…", "…")
    assert shown["Some "] == "A <mark>whale</mark>"
    assert shown["Other"] == "<mark>whale</mark>"


async def test_a_search_minds_all_filters(client: httpx.AsyncClient) -> None:
    """`q` with a bucket, what is below it, a tag, a schema, a parent or the trash means both."""
    top = (await make_bucket(client))["bucket_id"]
    below = (await make_bucket(client, "below", top))["bucket_id"]
    source = (await make_blob(client, "nothing"))["blob_id"]
    await make_blob(client, "fog top", bucket_ids=[top], tags=["grey"])
    await make_blob(client, "fog below", bucket_ids=[below], tags=["Grey"])
    await make_blob(client, "fog both", bucket_ids=[top, below])
    await make_blob(client, "fog nowhere", parent_id=source)
    gone = await make_blob(client, "fog trashed", bucket_ids=[top])
    await make_blob(client, "clear", bucket_ids=[top, below], tags=["grey"], parent_id=source)
    message = {"content": "fog message", "sender_id": "ann"}
    await client.post("/blobs", json={"schema_id": "message-v1", "data": message})
    last = await client.delete(f"/blobs/{gone['blob_id']}")
    seq = int(last.headers["reyna-seq"])
    for filters, texts in (
        ({}, {"fog top", "fog below", "fog both", "fog nowhere", "fog message"}),
        ({"bucket_id": top}, {"fog top", "fog both"}),
        ({"bucket_id": top, "recursive": "true"}, {"fog top", "fog below", "fog both"}),
        ({"bucket_id": below, "recursive": "true"}, {"fog below", "fog both"}),
        ({"bucket_id": top, "recursive": "true", "tag": "Grey"}, {"fog below"}),
        ({"tag": "grey"}, {"fog top"}),
        ({"schema_id": "message-v1"}, {"fog message"}),
        ({"schema_id": "message-v1", "bucket_id": top}, set()),
        ({"parent_id": source}, {"fog nowhere"}),
        ({"trashed": "true"}, {"fog trashed"}),
        ({"trashed": "true", "bucket_id": below}, set()),
        ({"bucket_id": "0" * 32}, set()),
    ):
        assert set(await found(client, "fog", seq, **filters)) == texts, filters


async def test_pages_of_a_search(client: httpx.AsyncClient) -> None:
    """Pages join to the whole, in its order, each blob once; a foreign cursor is 400."""
    made = [await make_blob(client, "wave " * (n % 5 + 1), title=str(n)) for n in range(13)]
    whole = (await read(client, "/blobs", made[-1]["seq"], q="wave"))["items"]
    pages: list[Json] = []
    cursor: dict[str, object] = {}
    for size in (5, 5, 3):
        page = await read(client, "/blobs", 0, q="wave", limit=5, **cursor)
        assert len(page["items"]) == size
        pages += page["items"]
        cursor = {"cursor": page["next_cursor"]}
    assert cursor == {"cursor": None}
    assert pages == whole
    assert len({blob["blob_id"] for blob in pages}) == 13
    listed = await read(client, "/blobs", limit=5)
    for wrong in (listed["next_cursor"], "x", "WzFlMzAwXQ", "Wy01XQ", "W10", "WyJhIl0"):
        problem(await client.get("/blobs", params={"q": "wave", "cursor": wrong}), 400)
    beyond = "Wzk5OTk5XQ"  # [99999]
    assert (await read(client, "/blobs", q="wave", cursor=beyond))["items"] == []


async def test_nobody_finds_anothers_texts(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    """A search finds the caller's own blobs alone, in whatever bucket or below what it looks."""
    theirs = (await make_bucket(stranger))["bucket_id"]
    source = await make_blob(stranger, "secret", bucket_ids=[theirs], tags=["s"], title="secret")
    last = await make_blob(client, "secret of mine")
    for filters in ({}, {"tag": "s"}, {"bucket_id": theirs}, {"parent_id": source["blob_id"]}):
        texts = await found(client, "secret", last["seq"], **filters)
        assert texts == ([] if filters else ["secret of mine"])
    assert await found(stranger, "secret", last["seq"]) == ["secret"]


@pytest.mark.parametrize(
    "q",
    [
        "",
        " ",
        "-",
        '"',
        '""',
        "*",
        "-harbour",
        '-"the harbour"',
        "!?.,;",
        "a*",
        "\x00",
        "\u202e",
        "😀",
        "x" * 201,
        " ".join(f"w{number}" for number in range(21)),
    ],
)
async def test_what_is_no_question_is_422(client: httpx.AsyncClient, q: str) -> None:
    """A question without a word to look for, too long or of too many words is 422 at `/q`."""
    body = problem(await client.get("/blobs", params={"q": q}), 422, "/q")
    assert len(body["errors"]) == 1


async def test_words_found_are_those_of_the_last_command(client: httpx.AsyncClient) -> None:
    """With Reyna-Min-Seq a blob is found by what it says now: made, updated, trashed, restored."""
    for number in range(5):
        made = await make_blob(client, f"first{number}", title=f"title{number}", tags=["tag"])
        path = f"/blobs/{made['blob_id']}"
        assert await found(client, f"first{number}", made["seq"]) == [f"first{number}"]
        change = {"data": {"content": f"second{number}"}, "title": None}
        seq = (await client.patch(path, json=change)).json()["seq"]
        assert await found(client, f"second{number}", seq) == [f"second{number}"]
        assert await found(client, f"title{number}") == []
        assert await found(client, f"first{number}") == []
        seq = int((await client.delete(path)).headers["reyna-seq"])
        assert await found(client, f"second{number}", seq) == []
        assert await found(client, f"second{number}", trashed="true") == [f"second{number}"]
        seq = (await client.post(f"{path}/restore")).json()["seq"]
        assert await found(client, f"second{number}", seq) == [f"second{number}"]
        seq = (await client.post(f"{path}/revert", json={"to": made["seq"]})).json()["seq"]
        assert await found(client, f"first{number} title{number}", seq) == [f"first{number}"]
        assert await found(client, f"second{number}") == []
        assert await found(client, f"second{number}", at=seq - 1) == [f"second{number}"]


async def test_long_texts_and_deep_data_are_found(client: httpx.AsyncClient) -> None:
    """Every string in the data is searched, wherever it stands; names of fields are not."""
    data = {"content": "x", "parts": [{"said": ["low tide", 5]}, {"deep": {"er": "high water"}}]}
    body = {"schema_id": "text-input-v1", "data": data}
    made = (await client.post("/blobs", json=body)).json()
    for q, hits in (("low", 1), ('"high water"', 1), ("said", 0), ("deep", 0), ("5", 0)):
        page = await read(client, "/blobs", made["seq"], q=q)
        assert len(page["items"]) == hits, q
    long = await make_blob(client, "word " * 40_000 + "needle")
    (hit,) = (await read(client, "/blobs", long["seq"], q="needle"))["items"]
    assert hit["excerpt"].endswith("<mark>needle</mark>")


async def test_the_openapi_document_names_q(studio: Studio) -> None:
    """`q` is documented on GET blobs, with the 422 it may be answered with."""
    async with httpx.AsyncClient(base_url=studio.url) as bare:
        operation = (await bare.get("/openapi/openapi.json")).json()["paths"]["/api/v1/blobs"][
            "get"
        ]
    (q,) = [one for one in operation["parameters"] if one["name"] == "q"]
    assert "search" in q["description"]
    assert "422" in operation["responses"]
