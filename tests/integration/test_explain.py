"""Explaining a view: the events behind a source and what was derived from it, runs included."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support import Json, events_of, make_blob, make_bucket, read
from tests.writing import Scene, a_scene, derived_of, the_run


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A studio with one writer, and a user of it."""
    async with a_scene(tmp_path) as scene:
        yield scene


async def history(scene: Scene, blob_id: str) -> list[Json]:
    """A blob's history, the oldest first."""
    items: list[Json] = (await read(scene.client, f"/blobs/{blob_id}/history"))["items"]
    return items[::-1]


async def test_what_is_behind_a_derived_blob(scene: Scene) -> None:
    """Its history is its own event, with the provenance that the view shows, and its filings."""
    client = scene.client
    a, b = [(await make_bucket(client, name))["bucket_id"] for name in "ab"]
    source = await make_blob(client, bucket_ids=[a])
    run = await the_run(client, source, "completed")
    (derived,) = await derived_of(client, source["blob_id"])
    path = f"/blobs/{derived['blob_id']}"
    filed = await client.put(f"{path}/buckets", json={"add": [b], "remove": [a]})
    shown = await read(client, path, filed.json()["seq"])
    made, removed, added = await history(scene, derived["blob_id"])
    assert [made["type"], removed["type"], added["type"]] == [
        "blob.derived",
        "bucket.blob.removed",
        "bucket.blob.added",
    ]
    assert made["data"]["data"] == shown["data"]
    assert made["data"]["provenance"] == shown["provenance"]
    assert (made["parent_id"], made["processor_id"]) == (source["blob_id"], "writer")
    provenance = shown["provenance"]
    assert provenance["run_id"] == run["run_id"]
    assert (provenance["source_blob_id"], provenance["source_seq"]) == (
        source["blob_id"],
        source["seq"],
    )
    assert (shown["bucket_ids"], shown["seq"]) == (added["data"]["bucket_ids"], added["seq"])
    assert await events_of(client, blob_id=derived["blob_id"]) == [made, removed, added]


async def test_what_is_behind_a_source(scene: Scene) -> None:
    """Its own history is its events; `GET events?blob_id=` also has its runs and what they made."""
    client = scene.client
    source = await make_blob(client)
    blob_id = source["blob_id"]
    await the_run(client, source, "completed")
    (derived,) = await derived_of(client, blob_id)
    assert [event["type"] for event in await history(scene, blob_id)] == ["blob.created"]
    events = await events_of(client, blob_id=blob_id)
    assert [event["type"] for event in events] == [
        "blob.created",
        "processor.started",
        "blob.derived",
        "processor.completed",
    ]
    # Each of them is a moment at which exactly what it says has become so.
    made = events[2]["seq"]
    for seq in (event["seq"] for event in events):
        then = await read(client, f"/blobs/{blob_id}", at=seq)
        assert then["derived_ids"] == ([derived["blob_id"]] if seq >= made else [])


async def test_what_made_a_derived_blob_stale(scene: Scene) -> None:
    """A blob is stale from the event on that changed its source's data, and not for a title."""
    client = scene.client
    source = await make_blob(client)
    path = f"/blobs/{source['blob_id']}"
    await the_run(client, source, "completed")
    (derived,) = await derived_of(client, source["blob_id"])
    titled = (await client.patch(path, json={"title": "only a title"})).json()["seq"]
    changed = (await client.patch(path, json={"data": {"content": "anew"}})).json()["seq"]
    one = f"/blobs/{derived['blob_id']}"
    for seq, stale in ((derived["seq"], False), (titled, False), (changed, True)):
        assert (await read(client, one, seq, at=seq))["stale"] is stale
        listed = await read(client, "/blobs", 0, parent_id=source["blob_id"], at=seq)
        assert [blob["stale"] for blob in listed["items"]] == [stale]
        nodes = (await read(client, f"{one}/lineage", at=seq))["nodes"]
        assert [node["stale"] for node in nodes] == [False, stale]

    # The words that it was made from, brought back, are new ones all the same.
    back = (await client.post(f"{path}/revert", json={"to": titled})).json()["seq"]
    assert (await read(client, one, back))["stale"] is True
    assert (await read(client, one, at=titled))["stale"] is False
