"""A whole studio whose accounts and views are one PostgreSQL database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
from sqlalchemy import select

from reyna.database import open_engine, reading
from reyna.domain.blob import BlobCreated
from reyna.log.connection import Connection
from reyna.log.stream import Log
from reyna.runtime.views import aside
from tests.databases import on_postgresql
from tests.events import SCHEMA, draft, of_blob
from tests.program import REYNA, environment
from tests.support import (
    DEADLINE,
    Json,
    Studio,
    make_blob,
    make_bucket,
    problem,
    read,
    running_studio,
)


@pytest.fixture
async def studio(tmp_path: Path, postgres_server: str) -> AsyncIterator[Studio]:
    """A studio with one database for everything that is not in the log."""
    async with (
        on_postgresql(postgres_server)() as url,
        running_studio(tmp_path, database_url=url) as running,
    ):
        yield running


async def test_the_main_path(studio: Studio) -> None:
    """An account writes, files, moves, finds, looks back; all views are proven; two users do not
    meet.
    """
    user = await studio.register()
    async with studio.client(user.token) as client, studio.client(studio.user().token) as other:
        book = await make_bucket(client, "Book")
        part = await make_bucket(client, "Part", book["bucket_id"])
        blob = await make_blob(client, "a quick fox", title="Animals", tags=["red"])
        path = f"/blobs/{blob['blob_id']}"
        filed = await client.put(f"{path}/buckets", json={"add": [part["bucket_id"]]})
        assert filed.status_code == 200
        before = filed.json()["seq"]
        changed = await client.patch(path, json={"data": {"content": "a slow hen"}})
        assert changed.status_code == 200
        seq = changed.json()["seq"]

        (root,) = (await read(client, "/buckets/tree", seq))["items"]
        assert [child["blob_count"] for child in root["children"]] == [1]
        below = {"bucket_id": book["bucket_id"], "recursive": True}
        for asked, found in (({"q": "hen"}, 1), ({"q": "fox"}, 0), ({"tag": "red"}, 1), (below, 1)):
            assert len((await read(client, "/blobs", seq, **asked))["items"]) == found, asked
        assert len((await read(client, "/blobs", seq, q="fox", at=before))["items"]) == 1
        then = await read(client, path, seq, at=before)
        assert then["data"] == {"content": "a quick fox"}
        assert (await read(other, "/blobs", seq))["items"] == []
    await proven(studio, seq)


async def proven(studio: Studio, seq: int) -> None:
    """The views are the same as the log says, to an admin and to the command."""
    async with studio.client(studio.user("admin").token) as admin:
        assert (await read(admin, "/health/proof", seq))["same"] is True
    found = msgspec.json.decode(await command(studio, "replay", "--verify", "--json"))
    assert (found["same"], found["users_differing"]) == (True, [])
    await command(studio, "replay", "--json")
    assert "DIFFERENT" not in (await command(studio, "replay", "--verify")).decode()


async def command(studio: Studio, *arguments: str) -> bytes:
    """What `reyna …` prints about the studio's servers; it must succeed."""
    process = await asyncio.create_subprocess_exec(
        str(REYNA),
        *arguments,
        env=environment(
            {
                "REYNA_NATS_URL": studio.place.nats_url,
                "REYNA_NATS_TOKEN": studio.place.nats_token or "",
                "REYNA_DATABASE_URL": studio.place.views_url,
            }
        ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(DEADLINE):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out


async def test_no_character_is_too_much_for_it(studio: Studio) -> None:
    """U+0000 is refused where it is written and finds nothing where it is asked for; one that is in
    the log already is shown as U+FFFD.
    """
    user = studio.user()
    async with studio.client(user.token) as client:
        for field, path in (("title", "/title"), ("tags", "/tags/0")):
            value: Json = {field: "a\0b" if field == "title" else ["a\0b"]}
            asked = {"schema_id": SCHEMA, "data": {"content": "x"}, **value}
            problem(await client.post("/blobs", json=asked), 422, path)
        problem(await client.post("/buckets", json={"name": "a\0b", "type": "book"}), 422, "/name")
        kept = await make_blob(client, "a\0b")
        await append_nul(studio, user.user_id)
        page = await read(client, "/blobs", kept["seq"] + 1)
        assert {(b["title"], b["data"]["content"]) for b in page["items"]} == {
            (None, "a\0b"),
            ("a\N{REPLACEMENT CHARACTER}b", "x"),
        }
        for query in ({"tag": "a\0b"}, {"q": "a\0b"}, {"q": "\0"}, {"schema_id": "a\0"}):
            assert (await client.get("/blobs", params=query)).status_code in {200, 400, 422}, query
        await refused_login(client)
    engine = open_engine(studio.place.views_url)
    async with reading(engine) as connection:
        assert (await connection.execute(select(aside))).all() == []
    await engine.dispose()


async def append_nul(studio: Studio, user_id: str) -> None:
    """Append a blob whose title is no text for PostgreSQL."""
    connection = await Connection.open(studio.nats.url, studio.nats.token)
    log = await Log.open(connection)
    event = BlobCreated(
        schema_id=SCHEMA, data=msgspec.Raw(b'{"content":"x"}'), title="a\0b", tags=("c\0d",)
    )
    await log.append([draft(user_id, "nul", event)], of_blob(0, user_id, "nul"))
    await connection.close()


async def refused_login(client: httpx.AsyncClient) -> None:
    """Nobody's name has it either."""
    asked = {"email": "a\0@example.com", "password": "correct horse"}
    assert (await client.post("/auth/login", json=asked)).status_code in {401, 422}
