"""Templates and undo across crashes: what the log alone remembers of commands of several events."""

from __future__ import annotations

from pathlib import Path

import httpx

from reyna.domain import bucket
from reyna.domain.event import Boundary
from reyna.log import subjects
from reyna.log.record import decode
from reyna.log.stream import Guard, Log
from tests.events import blob_created, blob_updated, draft, of_blob
from tests.support import events_of, make_blob, make_bucket, running_studio

BOOK = {"name": "Mine", "type": "book", "template": "book"}


async def test_commands_of_several_events_are_done_once(tmp_path: Path) -> None:
    """After a crash before the answer, a key gives the answer that the first time would have
    given: the same ids, seqs and headers, and nothing is written again.
    """
    async with running_studio(tmp_path) as studio:
        user = studio.user()
        async with studio.client(user.token) as client:
            first = await make_bucket(client, "first")
            await make_bucket(client, "second")
            path = f"/buckets/{first['bucket_id']}"
            await client.patch(path, json={"name": "renamed"})
            await client.post(f"{path}/move", json={"parent_bucket_id": None})
            blob = await make_blob(client, title="a")
            await client.patch(f"/blobs/{blob['blob_id']}", json={"title": "b"})
            asked: list[tuple[str, object]] = [
                ("/buckets", BOOK),
                (f"{path}/revert", {"to": first["seq"]}),
                (f"/blobs/{blob['blob_id']}/revert", {"to": blob["seq"]}),
            ]
            answers = await ask(client, asked)
            written = await events_of(client)
    assert {answer.status_code for answer in answers} <= {200, 201}
    for lost in (False, True):
        if lost:
            # As if the crash had come between the append and the answer.
            (tmp_path / "accounts.db").unlink()
        async with running_studio(tmp_path) as studio, studio.client(user.token) as client:
            for answer, again in zip(answers, await ask(client, asked), strict=True):
                assert (again.status_code, again.content) == (answer.status_code, answer.content)
                for name in ("reyna-seq", "etag", "location"):
                    assert again.headers.get(name) == answer.headers.get(name)
            assert await events_of(client) == written


async def ask(client: httpx.AsyncClient, asked: list[tuple[str, object]]) -> list[httpx.Response]:
    """Some POSTs, each with a key of its own."""
    return [
        await client.post(path, json=body, headers={"Idempotency-Key": f"key {number}"})
        for number, (path, body) in enumerate(asked)
    ]


async def test_the_log_as_it_was_after_a_seq(log: Log) -> None:
    """With `up_to` the last message of each subject is the last one until then, for any filters."""
    seqs: list[int] = []
    for owner in ("u1", "u2"):
        guard = of_blob(0, owner, "b1")
        seqs.append(await log.append([draft(owner, "b1", blob_created("one"))], guard))
        for text in ("two", "three"):
            guard = of_blob(seqs[-1], owner, "b1")
            seqs.append(await log.append([draft(owner, "b1", blob_updated(text))], guard))
    filters = [subjects.guard(Boundary(owner, "blob", "b1")) for owner in ("u1", "u2")]

    async def then(up_to: int | None) -> list[int]:
        found = await log.last_of_each(*filters, up_to=up_to)
        assert found is not None
        return [decode(one).seq for one in found]

    assert seqs == [1, 2, 3, 4, 5, 6]
    assert await then(1) == [1]
    assert await then(2) == [1, 2]
    assert await then(3) == [1, 3]
    assert await then(5) == [1, 3, 4, 5]
    assert await then(6) == await then(None) == [1, 3, 4, 6]
    assert await log.last_of_each(filters[1], up_to=3) == []
    empty = Guard(bucket.boundary("u1"), 0)
    assert await log.last_of_each(subjects.guard(empty.boundary), up_to=6) == []
