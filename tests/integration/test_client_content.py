"""The client and content: filing, search, undo, histories, the past; against a running studio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone

import pytest
import pytest_asyncio

from reyna.client import (
    BadRequest,
    Bucket,
    Client,
    Conflict,
    Invalid,
    NotFound,
    PreconditionFailed,
    pages,
)
from tests.support import Studio, running_studio

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def studio(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Studio]:
    """One studio without processors for all tests here: each brings users of its own."""
    async with running_studio(tmp_path_factory.mktemp("client")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(studio: Studio) -> AsyncIterator[Client]:
    """A fresh user's client."""
    async with studio.connect(studio.user().token) as client:
        yield client


async def drop(client: Client, content: str, *buckets: Bucket, title: str | None = None) -> str:
    """The id of a new blob."""
    ids = [bucket.bucket_id for bucket in buckets]
    made = await client.blobs.create(
        "text-input-v1", {"content": content}, bucket_ids=ids, title=title
    )
    return made.blob_id


async def bucket(client: Client, name: str) -> Bucket:
    """A new bucket."""
    return await client.buckets.get((await client.buckets.create(name)).bucket_id)


async def test_filing_from_both_sides(client: Client) -> None:
    """A blob is filed in buckets, a bucket filled with blobs; seqs are ETags that hold once."""
    a, b = await bucket(client, "a"), await bucket(client, "b")
    blob_id = await drop(client, "x", a)
    seq = await client.blobs.file(blob_id, add=[b.bucket_id], remove=[a.bucket_id])
    blob = await client.blobs.get(blob_id)
    assert (blob.bucket_ids, blob.seq) == ((b.bucket_id,), seq)
    a = await client.buckets.get(a.bucket_id)
    seq = await client.buckets.file(a.bucket_id, add=[blob_id], if_match=a.seq)
    found = await client.buckets.get(a.bucket_id)
    assert (found.blob_count, found.seq) == (1, seq)
    with pytest.raises(PreconditionFailed):
        await client.buckets.file(a.bucket_id, remove=[blob_id], if_match=a.seq)
    with pytest.raises(PreconditionFailed):
        await client.blobs.file(blob_id, remove=[a.bucket_id], if_match=blob.seq)
    with pytest.raises(Invalid) as refused:
        await client.blobs.file(blob_id, add=[a.bucket_id], remove=[a.bucket_id])
    assert [error.path for error in refused.value.errors] == ["/remove/0"]
    with pytest.raises(NotFound):
        await client.blobs.file(blob_id, add=["0" * 32])


async def test_histories_newest_first(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob's and a bucket's history are their events, over as many pages as it takes."""
    a = await bucket(client, "a")
    blob_id = await drop(client, "x")
    for number in range(5):
        await client.blobs.update(blob_id, title=str(number))
    await client.blobs.file(blob_id, add=[a.bucket_id])
    monkeypatch.setattr(pages, "PER_REQUEST", 2)
    history = [event async for event in client.blobs.history(blob_id)]
    assert [event.type for event in history] == [
        "bucket.blob.added",
        *["blob.updated"] * 5,
        "blob.created",
    ]
    assert history[::-1] == [event async for event in client.events(blob_id=blob_id)]
    of_bucket = [event.type async for event in client.buckets.history(a.bucket_id)]
    assert of_bucket == ["bucket.blob.added", "bucket.created"]


async def test_undo(client: Client) -> None:
    """Blobs and buckets are again what they were after a seq; what cannot be is an exception."""
    a, b = await bucket(client, "a"), await bucket(client, "b")
    blob_id = await drop(client, "first")
    first = await client.blobs.get(blob_id)
    await client.blobs.update(blob_id, data={"content": "second"}, title="t")
    seq = await client.blobs.revert(blob_id, first.seq)
    blob = await client.blobs.get(blob_id)
    assert (blob.data, blob.title, blob.seq) == (first.data, None, seq)
    await client.buckets.update(a.bucket_id, name="A")
    await client.buckets.move(a.bucket_id, b.bucket_id)
    await client.buckets.revert(a.bucket_id, a.seq)
    assert [root.name for root in await client.buckets.tree()] == ["a", "b"]
    with pytest.raises(Invalid):
        await client.blobs.revert(blob_id, 10**12)
    await client.buckets.move(a.bucket_id, b.bucket_id)
    inside = client.last_seq
    await client.buckets.move(a.bucket_id, None)
    await client.buckets.delete(b.bucket_id)
    with pytest.raises(Conflict):
        await client.buckets.revert(a.bucket_id, inside)


async def test_the_past(client: Client) -> None:
    """Every query takes `at` as a seq, a time as text or a datetime in any zone."""
    a = await bucket(client, "a")
    blob_id = await drop(client, "x", a)
    seq = client.last_seq
    await client.blobs.update(blob_id, title="later")
    await client.buckets.update(a.bucket_id, name="later")
    time = (await client.blobs.get(blob_id, at=seq)).updated_at
    moment = datetime.fromisoformat(time).astimezone(timezone(timedelta(hours=-7)))
    await client.blobs.delete(blob_id)
    await client.buckets.delete(a.bucket_id)
    for at in (seq, time, moment):
        blob = await client.blobs.get(blob_id, at=at)
        assert (blob.title, blob.bucket_ids, blob.seq) == (None, (a.bucket_id,), seq)
        inside = client.blobs.list(bucket_id=a.bucket_id, recursive=True, at=at)
        assert [found async for found in inside] == [blob]
        assert (await client.blobs.page(sort="updated_at", at=at)).items == (blob,)
        assert [node.blob_id for node in (await client.blobs.lineage(blob_id, at=at)).nodes] == [
            blob_id
        ]
        then = await client.buckets.get(a.bucket_id, at=at)
        assert (then.name, then.blob_count) == ("a", 1)
        assert [found async for found in client.buckets.list(at=at)] == [then]
        assert [root.name for root in await client.buckets.tree(at=at)] == ["a"]
        assert (await client.buckets.subtree(a.bucket_id, at=at)).bucket_id == a.bucket_id
    assert [found async for found in client.blobs.list()] == []
    trash = [found.blob_id async for found in client.blobs.list(trashed=True)]
    assert trash == [blob_id]
    with pytest.raises(BadRequest):
        await client.blobs.page(at="yesterday")
    with pytest.raises(Invalid):
        await client.blobs.page(at=10**12)


async def test_searching(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search gives the best first with excerpts, page by page; lists have no excerpts."""
    for number in range(5):
        await drop(client, "the sea " * (number + 1))
    best = await drop(client, "a letter", title="Sea & <sand>")
    monkeypatch.setattr(pages, "PER_REQUEST", 2)
    found = [blob async for blob in client.blobs.list(q="sea")]
    assert len({blob.blob_id for blob in found}) == 6
    assert found[0].blob_id == best
    assert found[0].excerpt == "<mark>Sea</mark> &amp; &lt;sand&gt;"
    assert (await client.blobs.get(best)).excerpt is None
    with pytest.raises(Invalid):
        await client.blobs.page(q="-sea")


async def test_lineage(client: Client) -> None:
    """What was made from a blob by hand is in the graph of both."""
    source = await drop(client, "source")
    made = await client.blobs.create("text-input-v1", {"content": "made"}, parent_id=source)
    graph = await client.blobs.lineage(made.blob_id)
    assert [node.blob_id for node in graph.nodes] == [source, made.blob_id]
    assert [(link.parent_id, link.child_id, link.processor_id) for link in graph.links] == [
        (source, made.blob_id, None)
    ]
    assert graph.complete
    assert (await client.blobs.lineage(source)).links == graph.links


async def test_templates(client: Client) -> None:
    """What a template announces is what `create` with it makes."""
    offered = {template.name: template async for template in client.buckets.templates()}
    assert {"book", "conversation"} <= set(offered)
    book = offered["book"]
    made = await client.buckets.create("Mine", book.type, template=book.name)
    tree = await client.buckets.subtree(made.bucket_id)
    assert [child.name for child in tree.children] == [child.name for child in book.children]
    assert [child.type for child in tree.children] == [child.type for child in book.children]
    assert tree.children[1].children
    with pytest.raises(Invalid):
        await client.buckets.create("Mine", "book", template="novel")
