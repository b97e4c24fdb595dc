"""What HTTP answers while nats-server is down or silent, and after the program was restarted."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from reyna.settings import Settings
from tests.support import (
    Json,
    Studio,
    User,
    events_of,
    eventually,
    make_blob,
    make_bucket,
    problem,
    read,
    running_studio,
)

BLOB = {"schema_id": "text-input-v1", "data": {"content": "rough"}}


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    """A studio without processors."""
    async with running_studio(tmp_path) as running:
        yield running


@pytest.fixture
def user(studio: Studio) -> User:
    """A fresh user."""
    return studio.user()


@pytest.fixture
async def client(studio: Studio, user: User) -> AsyncIterator[httpx.AsyncClient]:
    """The fresh user's client."""
    async with studio.client(user.token) as client:
        yield client


async def test_a_silent_log_makes_writes_503_and_reads_go_on(
    studio: Studio, client: httpx.AsyncClient
) -> None:
    """While nats-server does not answer, writes are 503 with Retry-After; reads are answered."""
    bucket = await make_bucket(client)
    blob = await make_blob(client, bucket_ids=[bucket["bucket_id"]])
    await read(client, "/blobs", blob["seq"])
    writes = [
        ("POST", "/blobs", BLOB),
        ("POST", "/buckets", {"name": "x", "type": "book"}),
        ("PATCH", f"/blobs/{blob['blob_id']}", {"title": "x"}),
        ("DELETE", f"/buckets/{bucket['bucket_id']}", None),
    ]
    studio.signal_nats(signal.SIGSTOP)
    try:
        answers = await asyncio.gather(
            *(client.request(method, path, json=body) for method, path, body in writes)
        )
        for answer in answers:
            problem(answer, 503)
            assert int(answer.headers["retry-after"]) >= 1
        for path in (
            "/blobs",
            f"/blobs/{blob['blob_id']}",
            "/buckets/tree",
            f"/buckets/{bucket['bucket_id']}",
            "/validate-token",
        ):
            assert (await client.get(path)).status_code == 200
        async with httpx.AsyncClient(base_url=studio.url, timeout=30) as anybody:
            ready = await anybody.get("/health/ready")
            assert ready.status_code == 503
            assert ready.json()["log"]["status"] == "down"
            assert (await anybody.get("/health/live")).status_code == 200
    finally:
        studio.signal_nats(signal.SIGCONT)

    async def writable() -> bool:
        return (await client.post("/blobs", json=BLOB)).status_code == 201

    await eventually(writable)


async def test_a_killed_log_loses_and_doubles_nothing(
    studio: Studio, client: httpx.AsyncClient
) -> None:
    """nats-server is killed under writers: what was acknowledged is there, each key once."""
    acknowledged: dict[str, Json] = {}
    refused = 0

    async def write(writer: int) -> None:
        nonlocal refused
        for number in range(20):
            key = f"{writer}.{number}"
            asked = {"schema_id": "text-input-v1", "data": {"content": key}}

            async def done(asked: Json = asked, key: str = key) -> bool:
                nonlocal refused
                headers = {"Idempotency-Key": key}
                answer = await client.post("/blobs", json=asked, headers=headers)
                if answer.status_code == 201:
                    acknowledged[key] = answer.json()
                    return True
                problem(answer, 503)
                assert answer.headers["retry-after"]
                refused += 1
                return False

            await eventually(done)

    async with asyncio.TaskGroup() as tasks:
        for writer in range(8):
            tasks.create_task(write(writer))
        for at in (20, 60, 100):

            async def reached(at: int = at) -> bool:
                return len(acknowledged) >= at

            await eventually(reached)
            studio.kill_nats()
    events = await events_of(client)
    found = [event["data"]["data"]["content"] for event in events]
    assert sorted(found) == sorted(acknowledged)
    assert {event["blob_id"]: event["seq"] for event in events} == {
        made["blob_id"]: made["seq"] for made in acknowledged.values()
    }
    listed = await read(client, "/blobs", events[-1]["seq"], limit=200)
    assert len(listed["items"]) == len(events)


async def test_a_view_that_does_not_get_there_is_503(tmp_path: Path) -> None:
    """Reyna-Min-Seq beyond the log is 503 with Retry-After once REYNA_WAIT_TIMEOUT is over."""
    settings = Settings(sync="interval", wait_timeout=0.2)
    async with (
        running_studio(tmp_path, settings) as studio,
        studio.client(studio.user().token) as client,
    ):
        made = await make_blob(client)
        for path in ("/blobs", "/buckets", "/buckets/tree", "/events", "/processors"):
            for far in (made["seq"] + 1, 10**15, 10**17):
                answer = await client.get(path, headers={"Reyna-Min-Seq": str(far)})
                problem(answer, 503)
                assert int(answer.headers["retry-after"]) >= 1


async def test_a_key_is_remembered_across_a_restart(tmp_path: Path) -> None:
    """After a restart a key still gives its first answer, also when its table has been lost."""
    headers = {"Idempotency-Key": "before"}
    async with running_studio(tmp_path) as studio:
        user = studio.user()
        async with studio.client(user.token) as client:
            bucket = (await make_bucket(client))["bucket_id"]
            first = await client.post("/blobs", json=BLOB, headers=headers)
            move = await client.post(
                f"/buckets/{bucket}/move",
                json={"parent_bucket_id": None, "position": 0},
                headers={"Idempotency-Key": "move"},
            )
            other = await client.post(
                "/buckets",
                json={"name": "B", "type": "book", "parent_bucket_id": bucket},
                headers={"Idempotency-Key": "bucket"},
            )
    for lost in (False, True):
        if lost:
            (tmp_path / "accounts.db").unlink()
        async with running_studio(tmp_path) as studio, studio.client(user.token) as client:
            again = await client.post("/blobs", json=BLOB, headers=headers)
            assert (again.status_code, again.content) == (201, first.content)
            assert again.headers["location"] == first.headers["location"]
            again = await client.post(
                "/buckets",
                json={"name": "B", "type": "book", "parent_bucket_id": bucket},
                headers={"Idempotency-Key": "bucket"},
            )
            assert (again.status_code, again.content) == (201, other.content)
            if not lost:
                again = await client.post(
                    f"/buckets/{bucket}/move",
                    json={"parent_bucket_id": None, "position": 0},
                    headers={"Idempotency-Key": "move"},
                )
                assert again.content == move.content
            changed = {"schema_id": "text-input-v1", "data": {"content": "other"}}
            problem(await client.post("/blobs", json=changed, headers=headers), 422)
            assert len(await events_of(client)) == 3


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    """A restart changes no answer: the same tree, blobs, ETags and events, to the byte."""
    paths = ["/blobs", "/buckets", "/buckets/tree", "/events"]
    async with running_studio(tmp_path) as studio:
        user = studio.user()
        async with studio.client(user.token) as client:
            bucket = await make_bucket(client)
            for number in range(5):
                await make_blob(client, str(number), bucket_ids=[bucket["bucket_id"]])
            last = await make_blob(client, "last")
            before = [(await client.get(p, headers=_seq(last))).content for p in paths]
    for views in (True, False):
        if not views:
            for end in ("", "-wal", "-shm"):
                (tmp_path / f"views.db{end}").unlink(missing_ok=True)
        async with running_studio(tmp_path) as studio, studio.client(user.token) as client:
            after = [(await client.get(p, headers=_seq(last))).content for p in paths]
            assert after == before


def _seq(made: Json) -> dict[str, str]:
    return {"Reyna-Min-Seq": str(made["seq"])}
