"""Files that a processor of blobs makes beside its derived blob."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from reyna.content import Derived, DerivedFile, Progress, Source
from reyna.runtime import journal
from tests.files import held, store_of
from tests.support import events_of, make_blob, make_bucket, read
from tests.writing import Step, Writer, a_scene, expanded, the_run


def making(*files: DerivedFile) -> Step:
    """A step that makes files beside its text."""

    async def step(source: Source, progress: Progress) -> Derived:
        return replace(expanded(source), files=files)

    return step


def file(key: str, content: bytes = b"bytes") -> DerivedFile:
    """A file of a name that must not become a path."""
    return DerivedFile(
        key=key, file_name=f"../{key}.txt", content_type="text/plain", content=content
    )


async def test_files_stand_below_what_was_derived(tmp_path: Path) -> None:
    """Each file is a media blob below the derived one, in its source's buckets and its lineage, and
    stale only once that one's data have changed. The same bytes are stored once.
    """
    async with a_scene(tmp_path, Writer(making(file("a"), file("b")))) as scene:
        client = scene.client
        bucket_id = (await make_bucket(client))["bucket_id"]
        source = await make_blob(client, bucket_ids=[bucket_id])
        run = await the_run(client, source, "completed")
        derived = await read(client, f"/blobs/{run['derived_id']}", run["seq"])
        assert len(derived["derived_ids"]) == 2
        for blob_id in derived["derived_ids"]:
            made = await read(client, f"/blobs/{blob_id}")
            assert (made["parent_id"], made["bucket_ids"]) == (derived["blob_id"], [bucket_id])
            assert made["media"]["file_name"] in {"a.txt", "b.txt"}
            assert made["stale"] is False
            assert (await client.get(f"/blobs/{blob_id}/media")).content == b"bytes"
        async with store_of(scene.studio) as store:
            assert len((await held(store)).objects) == 1
        edited = {"data": {"expanded": "by hand"}}
        changed = await client.patch(f"/blobs/{derived['blob_id']}", json=edited)
        last = await read(client, f"/blobs/{derived['derived_ids'][0]}", changed.json()["seq"])
        assert last["stale"] is True


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ((file("a"), file("a")), "the same key"),
        (tuple(file(f"{number}") for number in range(3)), "at most 2"),
        ((file("a", b"x" * 11),), "10 bytes together"),
    ],
)
async def test_files_that_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: tuple[DerivedFile, ...], reason: str
) -> None:
    """Too many files, too large ones, and two of one key fail the run for good; nothing appears."""
    monkeypatch.setattr(journal, "MAX_FILES", 2)
    monkeypatch.setattr(journal, "MAX_FILE_BYTES", 10)
    async with a_scene(tmp_path, Writer(making(*files))) as scene:
        run = await the_run(scene.client, await make_blob(scene.client), "failed")
        assert run["permanent"] is True
        assert reason in run["error"]
        assert await events_of(scene.client, types="blob.derived") == []
