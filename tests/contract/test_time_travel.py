"""The contract of `at=`: every query of the past answers what it answered then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import httpx
import msgspec
import pytest
import pytest_asyncio

from reyna.domain.blob import BlobDerived, Provenance
from reyna.log.connection import Connection
from reyna.log.stream import Log
from tests.events import draft, of_blob
from tests.support import Json, Studio, User, events_of, make_blob, make_bucket, problem, read

pytestmark = pytest.mark.asyncio(loop_scope="session")

Asked = tuple[str, tuple[tuple[str, str], ...]]
TEMPORAL = {
    "/blobs",
    "/blobs/{blob_id}",
    "/blobs/{blob_id}/lineage",
    "/buckets",
    "/buckets/tree",
    "/buckets/{bucket_id}",
    "/buckets/{bucket_id}/tree",
}


@pytest_asyncio.fixture(loop_scope="session")
async def log(studio: Studio) -> AsyncIterator[Log]:
    """The studio's log, on a connection of its own."""
    connection = await Connection.open(studio.nats.url, studio.nats.token)
    yield await Log.open(connection)
    await connection.close()


def asked(path: str, **params: object) -> Asked:
    """A query."""
    return path, tuple((name, str(value)) for name, value in params.items())


def plain(answer: httpx.Response) -> object:
    """What an answer says, of a search without the order: ranks go by all there is now."""
    assert answer.status_code in {200, 404}, answer.text
    body = answer.json()
    if answer.status_code != 200:
        return answer.status_code
    if any("excerpt" in item for item in body.get("items", ())):
        body["items"].sort(key=lambda item: item["blob_id"])
    return answer.headers.get("etag"), body


@dataclass
class Story:
    """What some queries answered after each step of a story."""

    client: httpx.AsyncClient
    queries: tuple[Asked, ...] = ()
    answers: dict[int, list[object]] = field(default_factory=dict)

    async def step(self, done: httpx.Response) -> Json:
        """A step was taken: keep what all queries answer now, under the step's seq."""
        assert done.is_success, done.text
        await self.keep(int(done.headers["reyna-seq"]))
        body: Json = done.json() if done.content else {}
        return body

    async def keep(self, seq: int) -> None:
        """Keep what all queries answer after `seq`."""
        self.answers[seq] = await self.ask({"Reyna-Min-Seq": str(seq)})

    async def ask(self, headers: Mapping[str, str], **at: str) -> list[object]:
        """What all queries answer."""
        return [
            plain(await self.client.get(path, params={**dict(params), **at}, headers=headers))
            for path, params in self.queries
        ]


def everything(blobs: list[str], buckets: list[str]) -> tuple[Asked, ...]:
    """Every query there is of these."""
    a, b, _ = buckets
    return (
        *(asked(f"/blobs/{blob_id}") for blob_id in blobs),
        *(asked(f"/blobs/{blob_id}/lineage") for blob_id in blobs[::2]),
        *(asked(f"/buckets/{bucket_id}") for bucket_id in buckets),
        *(asked("/blobs", bucket_id=bucket_id) for bucket_id in buckets),
        asked(f"/buckets/{a}/tree"),
        asked("/blobs"),
        asked("/blobs", sort="-updated_at"),
        asked("/blobs", bucket_id=b, sort="updated_at"),
        asked("/blobs", bucket_id=a, recursive="true"),
        asked("/blobs", bucket_id=b, recursive="true", q="tide"),
        asked("/blobs", bucket_id=b, tag="sea"),
        asked("/blobs", q='"the tide" -ebb'),
        asked("/blobs", q="tide", tag="sea"),
        asked("/blobs", tag="sea"),
        asked("/blobs", schema_id="expanded-text-v1"),
        asked("/blobs", parent_id=blobs[0]),
        asked("/blobs", trashed="true"),
        asked("/buckets"),
        asked("/buckets", type="part"),
        asked("/buckets", parent_bucket_id=a),
        asked("/buckets", tag="red"),
        asked("/buckets/tree"),
    )


async def tell(story: Story, log: Log, owner: str) -> None:
    """A story in which everything happens that can happen to blobs and buckets."""
    client = story.client
    a = (await make_bucket(client, "a", tags=["red"]))["bucket_id"]
    b = (await make_bucket(client, "b", a, type="part"))["bucket_id"]
    c = (await make_bucket(client, "c", type="part"))["bucket_id"]
    one = await make_blob(client, "the tide comes", bucket_ids=[a], tags=["sea"])
    two = await make_blob(client, "the ebb, no tide", bucket_ids=[b, c])
    blob_id, made = one["blob_id"], "d" * 31 + owner[-1]
    story.queries = everything([blob_id, two["blob_id"], made], [a, b, c])
    await story.keep(two["seq"])
    derived = await log.append(
        [draft(owner, made, _derived(blob_id, one["seq"]))], of_blob(0, owner, made)
    )
    await story.keep(derived)
    path = f"/blobs/{blob_id}"
    await story.step(await client.patch(path, json={"data": {"content": "the flood tide"}}))
    await story.step(await client.patch(path, json={"tags": [], "title": "Flood"}))
    await story.step(await client.patch(f"/blobs/{two['blob_id']}", json={"title": "Ebb"}))
    await story.step(await client.put(f"{path}/buckets", json={"add": [c], "remove": [a]}))
    await story.step(await client.put(f"/buckets/{b}/blobs", json={"add": [blob_id]}))
    await story.step(await client.delete(f"/buckets/{a}"))
    await story.step(await client.put(f"{path}/buckets", json={"remove": [c]}))
    await story.step(await client.delete(path))
    await story.step(await client.post(f"/buckets/{a}/restore"))
    await story.step(await client.post(f"{path}/restore"))
    await story.step(await client.post(f"/buckets/{b}/move", json={"parent_bucket_id": c}))
    await story.step(await client.patch(f"/buckets/{a}", json={"name": "A", "tags": []}))
    await story.step(await client.post(f"{path}/revert", json={"to": one["seq"]}))
    await story.step(await client.post(f"/buckets/{b}/revert", json={"to": two["seq"]}))
    await story.step(await client.delete(f"/blobs/{made}"))


def _derived(source: str, seq: int) -> BlobDerived:
    data = {"original": "tide", "expanded": "a high tide", "expansion_ratio": 2.0}
    return BlobDerived(
        schema_id="expanded-text-v1",
        data=msgspec.Raw(msgspec.json.encode(data)),
        parent_id=source,
        processor_id="writer",
        provenance=Provenance(
            processor_version="1", source_blob_id=source, source_seq=seq, run_id="r"
        ),
    )


async def test_every_query_answers_what_it_answered_then(
    client: httpx.AsyncClient, user: User, log: Log
) -> None:
    """After each event each route, filter and ETag is remembered; `at` its seq gives it again."""
    story = Story(client)
    await tell(story, log, user.user_id)
    times = {event["seq"]: event["time"] for event in await events_of(client)}
    assert len(story.answers) == 17
    for number, (seq, then) in enumerate(story.answers.items()):
        assert await story.ask({}, at=str(seq)) == then, seq
        if number % 5 == 0:
            assert await story.ask({}, at=times[seq]) == then, seq
    # Each of them says something else at least once.
    for number, (path, params) in enumerate(story.queries):
        seen = [answers[number] for answers in story.answers.values()]
        assert any(answer != seen[0] for answer in seen), (path, params)


async def test_nobody_sees_anothers_past(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, user: User, log: Log
) -> None:
    """At no moment does another user see anything: things are 404, lists and trees are empty."""
    mine = Story(client)
    await tell(mine, log, user.user_id)
    theirs = Story(stranger, mine.queries)
    for seq in list(mine.answers)[::4]:
        for answer in await theirs.ask({}, at=str(seq)):
            if isinstance(answer, tuple):
                assert answer[1]["items"] == []
            else:
                assert answer == 404


async def test_a_moment_is_a_seq_or_a_time(client: httpx.AsyncClient) -> None:
    """An event's own time includes it and a microsecond less does not, in any zone and spelling."""
    made = await make_blob(client)
    path = f"/blobs/{made['blob_id']}"
    patched = (await client.patch(path, json={"title": "x"})).json()
    moment = datetime.fromisoformat(patched["updated_at"])
    before = moment - timedelta(microseconds=1)
    east = timezone(timedelta(hours=5, minutes=30))
    for of in (datetime.isoformat, lambda time: time.astimezone(east).isoformat()):
        assert (await read(client, path, patched["seq"], at=of(moment)))["title"] == "x"
        assert (await read(client, path, at=of(before)))["title"] is None
    # A plus that nobody has escaped is read as a space.
    raw = moment.astimezone(east).isoformat()
    assert "+" in raw
    answer = await client.get(f"{path}?at={raw}")
    assert answer.json()["title"] == "x"
    answer = await client.get(f"{path}?at={before.astimezone(east).isoformat()}")
    assert answer.json()["title"] is None


async def test_before_the_first_event_there_is_nothing(client: httpx.AsyncClient) -> None:
    """At seq 0, or a time before the log began, lists and trees are empty and things are 404."""
    bucket = await make_bucket(client)
    blob = await make_blob(client, bucket_ids=[bucket["bucket_id"]])
    for at in ("0", "1999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", bucket["seq"] - 1):
        for path in ("/blobs", "/buckets", "/buckets/tree"):
            assert (await read(client, path, blob["seq"], at=at))["items"] == []
        in_bucket = {"bucket_id": bucket["bucket_id"], "at": at}
        assert (await read(client, "/blobs", **in_bucket))["items"] == []
        assert (await read(client, "/blobs", recursive="true", **in_bucket))["items"] == []
        for path in (
            f"/blobs/{blob['blob_id']}",
            f"/blobs/{blob['blob_id']}/lineage",
            f"/buckets/{bucket['bucket_id']}",
            f"/buckets/{bucket['bucket_id']}/tree",
        ):
            problem(await client.get(path, params={"at": str(at)}), 404)


async def test_the_future_is_the_present(client: httpx.AsyncClient) -> None:
    """A time that has not come yet answers as things are now, what was just written included."""
    for number in range(5):
        made = await make_blob(client, str(number))
        for at in ("2999-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"):
            page = await read(client, "/blobs", at=at)
            assert page["items"][0]["blob_id"] == made["blob_id"]
            assert len(page["items"]) == number + 1


async def test_answers_about_the_past_say_their_position(client: httpx.AsyncClient) -> None:
    """Reyna-Seq is the view's position, never before `at`; Reyna-Min-Seq is still waited for."""
    for number in range(10):
        made = await make_blob(client, str(number))
        answer = await client.get("/blobs", params={"at": str(made["seq"])})
        assert int(answer.headers["reyna-seq"]) >= made["seq"]
        assert answer.json()["items"][0]["blob_id"] == made["blob_id"]
        headers = {"Reyna-Min-Seq": str(made["seq"])}
        answer = await client.get("/buckets/tree", params={"at": "1"}, headers=headers)
        assert int(answer.headers["reyna-seq"]) >= made["seq"]


async def test_moments_that_are_none(client: httpx.AsyncClient, studio: Studio) -> None:
    """A seq beyond the log is 422; what is no seq and no time with a zone is 400."""
    made = await make_blob(client)
    head = int((await client.get("/events")).headers["reyna-seq"])
    paths = [
        path.format(blob_id=made["blob_id"], bucket_id=made["blob_id"]) for path in sorted(TEMPORAL)
    ]
    for path in paths:
        for beyond in (head + 1, 10**15, 10**18 - 1):
            problem(await client.get(path, params={"at": str(beyond)}), 422)
        for wrong in (
            "",
            " ",
            "x",
            "-1",
            "1.5",
            "1e3",
            "0x10",
            "٣",
            "9" * 19,
            "9" * 41,
            "2026-11-22",
            "2026-11-22T15:04:05",
            "2026-11-22 15:04:05",
            "2026-13-22T15:04:05Z",
            "2026-11-22T25:04:05Z",
            "2026-11-22T15:04:05Q",
            "2026-11-22T15:04:05+99:00",
            "now",
            "\x00",
            "*",
        ):
            problem(await client.get(path, params={"at": wrong}), 400)


async def test_moments_at_the_ends_of_time(client: httpx.AsyncClient) -> None:
    """A time whose zone leads out of the calendar is 400; the last ones of it are taken."""
    await make_blob(client)
    for at in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        problem(await client.get("/blobs", params={"at": at}), 400)
    for at, number in (("0001-01-01T00:00:00-14:00", 0), ("9999-12-31T23:59:59+14:00", 1)):
        assert len((await read(client, "/blobs", at=at))["items"]) == number


async def test_pages_of_the_past_hold_while_things_change(client: httpx.AsyncClient) -> None:
    """With `at` the pages of every list join to what was there then, whatever happens between."""
    root = (await make_bucket(client, "root"))["bucket_id"]
    below = [(await make_bucket(client, str(n), root))["bucket_id"] for n in range(7)]
    blobs = [
        (await make_blob(client, f"word {n}", bucket_ids=[root], tags=["t"]))["blob_id"]
        for n in range(7)
    ]
    last = await client.patch(f"/blobs/{blobs[3]}", json={"title": "changed"})
    at = int(last.headers["reyna-seq"])
    queries = [
        ("/blobs", {}),
        ("/blobs", {"sort": "updated_at"}),
        ("/blobs", {"sort": "-updated_at"}),
        ("/blobs", {"bucket_id": root}),
        ("/blobs", {"bucket_id": root, "sort": "updated_at"}),
        ("/blobs", {"bucket_id": root, "recursive": "true"}),
        ("/blobs", {"tag": "t", "sort": "created_at"}),
        ("/blobs", {"q": "word"}),
        ("/buckets", {}),
        ("/buckets", {"parent_bucket_id": root}),
    ]
    whole = [(await read(client, path, at, at=at, **some))["items"] for path, some in queries]
    for number, (path, some) in enumerate(queries):
        found: list[Json] = []
        cursor: dict[str, object] = {}
        while True:
            page = await read(client, path, 0, at=at, limit=3, **some, **cursor)
            found += page["items"]
            await _disturb(client, root, below, blobs, number)
            if page["next_cursor"] is None:
                break
            assert len(page["items"]) == 3
            cursor = {"cursor": page["next_cursor"]}
        if "q" in some:
            # Ranks go by how rare a word is by now; nothing is there twice or missing all the same.
            found.sort(key=lambda blob: blob["blob_id"])
            whole[number].sort(key=lambda blob: blob["blob_id"])
        assert found == whole[number], (path, some)
        assert len(found) == 8 if path == "/buckets" and not some else 7


async def _disturb(
    client: httpx.AsyncClient, root: str, below: list[str], blobs: list[str], number: int
) -> None:
    """Change what a list goes by: order, text, tags, places, trash."""
    await make_blob(client, "another word", bucket_ids=[root], tags=["t"])
    await make_bucket(client, "another", root)
    await client.patch(f"/blobs/{blobs[number % 7]}", json={"title": f"{number}", "tags": []})
    await client.put(f"/buckets/{root}/blobs", json={"remove": [blobs[(number + 1) % 7]]})
    await client.delete(f"/blobs/{blobs[(number + 2) % 7]}")
    where = {"parent_bucket_id": root, "position": 0}
    await client.post(f"/buckets/{below[(number + 3) % 7]}/move", json=where)
    await client.delete(f"/buckets/{below[(number + 4) % 7]}")


async def test_the_openapi_document_names_at(studio: Studio) -> None:
    """`at` is documented on exactly the routes that take it, with what it takes and may answer."""
    async with httpx.AsyncClient(base_url=studio.url) as bare:
        document = (await bare.get("/openapi/openapi.json")).json()
    found = set()
    for path, operations in document["paths"].items():
        for parameter in operations.get("get", {}).get("parameters", []):
            if parameter["name"] == "at":
                found.add(path.removeprefix("/api/v1"))
                assert (parameter["in"], parameter["required"]) == ("query", False)
                assert "seq" in parameter["description"]
                assert {"400", "404", "422"} <= set(operations["get"]["responses"])
    assert found == TEMPORAL
