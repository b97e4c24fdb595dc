"""The contract of files, as a client sees it over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from urllib.parse import unquote

import httpx
import pytest

from reyna.api import multipart
from reyna.commands import media
from reyna.commands.requests import MAX_BUCKETS, MAX_TITLE
from tests.files import (
    BOUNDARY,
    PNG,
    Held,
    file_part,
    form,
    held,
    part,
    post_form,
    sending,
    status_of,
    store_of,
    upload,
)
from tests.support import Studio, User, events_of, make_blob, make_bucket, problem, read

pytestmark = pytest.mark.asyncio(loop_scope="session")

SHA256 = hashlib.sha256(PNG).hexdigest()
UNKNOWN = "0" * 32


async def look(studio: Studio) -> Held:
    """What the object store holds now."""
    async with store_of(studio) as store:
        return await held(store)


async def get(client: httpx.AsyncClient, blob_id: str, **headers: str) -> httpx.Response:
    """GET the file of a blob; `if_range` becomes If-Range."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.get(f"/blobs/{blob_id}/media", headers=sent)


async def test_an_upload_is_answered_as_a_new_blob(client: httpx.AsyncClient) -> None:
    """POST blobs/media answers as POST blobs; the blob's data say what the file is."""
    answer = await client.post("/blobs/media", files={"file": ("a.png", PNG, "image/png")})
    body = answer.json()
    assert answer.status_code == 201
    assert set(body) == {"blob_id", "created_at", "seq"}
    assert answer.headers["location"] == f"/api/v1/blobs/{body['blob_id']}"
    assert answer.headers["reyna-seq"] == str(body["seq"])
    assert answer.headers["etag"] == f'"{body["seq"]}"'
    blob = await read(client, f"/blobs/{body['blob_id']}", body["seq"])
    assert blob["schema_id"] == "media-v1"
    file = {
        "file_name": "a.png",
        "content_type": "image/png",
        "bytes": len(PNG),
        "sha256": SHA256,
    }
    assert blob["data"] == file
    (event,) = await events_of(client)
    assert (event["type"], event["data"]["media"]) == ("blob.created", file)


@pytest.mark.parametrize("after", [False, True])
async def test_fields_may_come_before_and_after_the_file(
    client: httpx.AsyncClient, after: bool
) -> None:
    """Lists are repeated fields, metadata is JSON, an empty field counts as not sent."""
    bucket = (await make_bucket(client))["bucket_id"]
    parent = (await make_blob(client))["blob_id"]
    fields = [
        part("title", "Ein Bild ü".encode()),
        part("tags", b"a"),
        part("tags", b""),
        part("tags", "ö, b".encode()),
        part("bucket_ids", bucket.encode()),
        part("parent_id", parent.encode()),
        part("metadata", b'{"camera": {"iso": 100}}'),
    ]
    parts = [file_part(), *fields] if after else [*fields, file_part()]
    made = (await post_form(client, form(*parts))).json()
    blob = await read(client, f"/blobs/{made['blob_id']}", made["seq"])
    assert (blob["title"], blob["tags"]) == ("Ein Bild ü", ["a", "ö, b"])
    assert (blob["bucket_ids"], blob["parent_id"]) == ([bucket], parent)
    assert blob["metadata"] == {"camera": {"iso": 100}}
    assert (await get(client, made["blob_id"])).content == PNG


async def test_a_download_is_the_bytes_and_says_what_they_are(client: httpx.AsyncClient) -> None:
    """GET answers the bytes with length, ETag, ranges, and the headers that keep a page safe."""
    made = await upload(client)
    answer = await get(client, made["blob_id"])
    assert (answer.status_code, answer.content) == (200, PNG)
    assert answer.headers["content-length"] == str(len(PNG))
    assert answer.headers["etag"] == f'"{SHA256}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["cache-control"].startswith("private")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert int(answer.headers["reyna-seq"]) >= made["seq"]
    alone = await client.head(f"/blobs/{made['blob_id']}/media")
    assert (alone.status_code, alone.content) == (200, b"")
    for name in ("content-length", "etag", "content-type", "content-disposition"):
        assert alone.headers[name] == answer.headers[name]


async def test_a_range_is_answered_with_206(client: httpx.AsyncClient) -> None:
    """One range is 206 with Content-Range; If-Range of other bytes and several ranges are 200."""
    blob_id = (await upload(client))["blob_id"]
    size = len(PNG)
    for asked, first, last in [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        (f"bytes={size - 1}-", size - 1, size - 1),
        ("bytes=-5", size - 5, size - 1),
        (f"bytes=5-{size * 2}", 5, size - 1),
    ]:
        answer = await get(client, blob_id, range=asked)
        assert (answer.status_code, answer.content) == (206, PNG[first : last + 1])
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{size}"
        assert answer.headers["content-length"] == str(last - first + 1)
        assert answer.headers["etag"] == f'"{SHA256}"'
    same = await get(client, blob_id, range="bytes=0-3", if_range=f'"{SHA256}"')
    assert (same.status_code, same.content) == (206, PNG[:4])
    for headers in (
        {"range": "bytes=0-3", "if_range": '"other"'},
        {"range": "bytes=0-1,5-6"},
        {"range": "pages=1-2"},
    ):
        whole = await get(client, blob_id, **headers)
        assert (whole.status_code, whole.content) == (200, PNG)


async def test_a_range_behind_the_end_is_416(client: httpx.AsyncClient) -> None:
    """416 is a problem that says how many bytes there are; so is any range of an empty file."""
    answer = await get(client, (await upload(client))["blob_id"], range=f"bytes={len(PNG)}-")
    problem(answer, 416)
    assert answer.headers["content-range"] == f"bytes */{len(PNG)}"
    empty = (await upload(client, b"", "a", "application/octet-stream"))["blob_id"]
    problem(await get(client, empty, range="bytes=0-"), 416)
    assert (await get(client, empty)).content == b""


async def test_known_bytes_are_304(client: httpx.AsyncClient) -> None:
    """If-None-Match with the ETag is 304 without a body; with another it is the file."""
    blob_id = (await upload(client))["blob_id"]
    for tag in (f'"{SHA256}"', f'"x", W/"{SHA256}"', "*"):
        answer = await get(client, blob_id, if_none_match=tag, range="bytes=0-1")
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == f'"{SHA256}"'
    assert (await get(client, blob_id, if_none_match='"x"')).status_code == 200


@pytest.mark.parametrize(
    ("name", "declared", "content", "served", "shown"),
    [
        ("a.html", "text/html", b"<script>alert(1)</script>", "application/octet-stream", False),
        ("a.svg", "image/svg+xml", b"<svg onload='x'/>", "application/octet-stream", False),
        ("a.xml", "application/xml", b"<a/>", "application/octet-stream", False),
        ("a.js", "text/javascript", b"alert(1)", "application/octet-stream", False),
        ("a.xhtml", "application/xhtml+xml", b"<html/>", "application/octet-stream", False),
        ("a.css", "text/css", b"a{}", "application/octet-stream", False),
        ("a", "application/octet-stream", b"<!DOCTYPE html>", "application/octet-stream", False),
        ("a.txt", "text/plain", b"words", "text/plain; charset=utf-8", False),
        ("a.pdf", "application/pdf", b"%PDF-1.7\n", "application/pdf", False),
        ("a.gif", "image/gif", b"GIF89a<script>", "image/gif", True),
        ("a.mp3", "audio/mpeg", b"ID3\3\0", "audio/mpeg", True),
    ],
)
async def test_nothing_that_could_run_is_shown(
    client: httpx.AsyncClient, name: str, declared: str, content: bytes, served: str, shown: bool
) -> None:
    """What may hold a script is served as mere bytes to be saved; the blob says what it is."""
    answer = await get(client, (await upload(client, content, name, declared))["blob_id"])
    assert answer.content == content
    assert answer.headers["content-type"] == served
    kind = answer.headers["content-disposition"].partition(";")[0]
    assert kind == ("inline" if shown else "attachment")


@pytest.mark.parametrize(
    ("sent", "kept", "fallback"),
    [
        ("Grüße 日本.png", "Grüße 日本.png", "Gr__e __.png"),
        ("..%2F../x/../a;b=c.png", "a;b=c.png", "a;b=c.png"),
        ("a%0D%0AX-Evil: 1%22.png", 'aX-Evil: 1".png', "aX-Evil: 1_.png"),
    ],
)
async def test_a_name_comes_back_and_breaks_no_header(
    client: httpx.AsyncClient, sent: str, kept: str, fallback: str
) -> None:
    """The name is kept in Unicode, without folders and controls, in both forms of RFC 6266."""
    made = (await post_form(client, form(file_part(name=sent)))).json()
    answer = await get(client, made["blob_id"])
    disposition = answer.headers["content-disposition"]
    assert f'filename="{fallback}"' in disposition
    assert unquote(disposition.partition("filename*=UTF-8''")[2]) == kept
    assert "x-evil" not in answer.headers


async def test_only_a_living_media_blob_of_ones_own_has_a_file(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    """Another's file, one in the trash, a text's and an unknown blob's are all 404."""
    made = await upload(client)
    problem(await get(stranger, made["blob_id"]), 404)
    problem(await get(client, (await make_blob(client))["blob_id"]), 404)
    problem(await get(client, UNKNOWN), 404)
    await client.delete(f"/blobs/{made['blob_id']}")
    problem(await get(client, made["blob_id"]), 404)
    await client.post(f"/blobs/{made['blob_id']}/restore")
    assert (await get(client, made["blob_id"])).content == PNG


async def test_one_waits_for_no_view(client: httpx.AsyncClient) -> None:
    """A download reads the log: Reyna-Min-Seq of one's upload holds, one of the future is 503."""
    made = await upload(client)
    answer = await get(client, made["blob_id"], reyna_min_seq=str(made["seq"]))
    assert answer.status_code == 200
    problem(await get(client, made["blob_id"], reyna_min_seq=str(10**15)), 503)


async def test_a_file_cannot_be_made_up(
    studio: Studio, user: User, client: httpx.AsyncClient
) -> None:
    """POST blobs and the socket make no media blob, and a field `media` of a text is nothing."""
    data = {"file_name": "a", "content_type": "image/png", "bytes": 1, "sha256": SHA256}
    asked = {"schema_id": "media-v1", "data": data, "media": data}
    problem(await client.post("/blobs", json=asked), 422, "/schema_id")
    async with studio.live(user.token) as live:
        answer = await live.ask("create_blob", **asked)
        assert answer["problem"]["status"] == 422
    assert await events_of(client) == []
    text = await make_blob(client, media=data)
    (event,) = await events_of(client)
    assert "media" not in event["data"]
    problem(await get(client, text["blob_id"]), 404)


async def test_what_a_file_is_cannot_be_changed(client: httpx.AsyncClient) -> None:
    """PATCH may describe a file anew, and not say that it is another."""
    blob_id = (await upload(client))["blob_id"]
    for data in ({"content_type": "text/html"}, {"sha256": None}, {"bytes": 1}, {"more": 1}):
        answer = await client.patch(f"/blobs/{blob_id}", json={"data": data, "title": "x"})
        problem(answer, 422)
    changed = await client.patch(
        f"/blobs/{blob_id}", json={"title": "A picture", "tags": ["a"], "metadata": {"k": 1}}
    )
    assert changed.status_code == 200
    answer = await get(client, blob_id)
    assert (answer.content, answer.headers["content-type"]) == (PNG, "image/png")
    events = await events_of(client)
    assert [event["type"] for event in events] == ["blob.created", "blob.updated"]
    assert events[1]["data"]["media"] == events[0]["data"]["media"]


@pytest.mark.parametrize(
    ("declared", "content"),
    [
        ("image/png", b"<html><script>alert(1)</script>"),
        ("image/jpeg", PNG),
        ("application/pdf", b"MZ\x90\0" + bytes(500)),
        ("video/mp4", b"\x7fELF\2\1\1" + bytes(5000)),
        ("text/plain", PNG),
    ],
)
async def test_what_is_said_of_a_file_must_be_true(
    studio: Studio, client: httpx.AsyncClient, declared: str, content: bytes
) -> None:
    """Another type than the declared one is 422 at /file, and nothing of it is kept."""
    before = await look(studio)
    answer = await post_form(client, form(file_part(content, "a", declared)))
    problem(answer, 422, "/file")
    assert await events_of(client) == []
    assert await look(studio) == before


async def test_the_same_bytes_are_stored_once_for_a_user(
    studio: Studio, client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    """The same file again is a new blob and no new object; another user's is an object apart."""
    content = b"the same bytes" * 20_000
    before = await look(studio)
    first = await upload(client, content, "a.txt", "text/plain")
    after_one = await look(studio)
    assert len(after_one.objects - before.objects) == 1
    second = await upload(client, content, "b.txt", "text/plain")
    assert await look(studio) == after_one
    assert first["blob_id"] != second["blob_id"]
    third = await upload(stranger, content, "a.txt", "text/plain")
    assert len((await look(studio)).chunk_sets - after_one.chunk_sets) == 1
    for who, made in ((client, first), (client, second), (stranger, third)):
        assert (await get(who, made["blob_id"])).content == content
    name = (await get(client, second["blob_id"])).headers["content-disposition"]
    assert 'filename="b.txt"' in name


async def test_a_key_gives_the_first_answer_again(
    studio: Studio, client: httpx.AsyncClient
) -> None:
    """The same key and file is the first answer and no event; any difference is 422 and no file."""
    headers = {"Idempotency-Key": "once"}
    body = form(file_part(), part("title", b"x"))
    first = await post_form(client, body, headers)
    assert first.status_code == 201
    before = await look(studio)
    again = await post_form(client, body, headers)
    assert (again.status_code, again.content) == (201, first.content)
    reordered = form(part("title", b"x"), file_part())
    assert (await post_form(client, reordered, headers)).content == first.content
    for other in (
        form(file_part(PNG + b"!"), part("title", b"x")),
        form(file_part(name="b.png"), part("title", b"x")),
        form(file_part(), part("title", b"y")),
    ):
        problem(await post_form(client, other, headers), 422)
    text = {"schema_id": "text-input-v1", "data": {"content": "x"}}
    problem(await client.post("/blobs", json=text, headers=headers), 422)
    assert len(await events_of(client)) == 1
    assert await look(studio) == before
    problem(await post_form(client, body, {"Idempotency-Key": "x" * 256}), 400)


@pytest.mark.parametrize(
    ("parts", "status", "paths"),
    [
        ([part("title", b"x" * (MAX_TITLE + 1))], 422, ["/title"]),
        ([part("tags", b" ")], 422, ["/tags/0"]),
        ([part("bucket_ids", f"k{n}".encode()) for n in range(MAX_BUCKETS + 1)], 422, None),
        ([part("bucket_ids", UNKNOWN.encode())], 404, None),
        ([part("bucket_ids", b"a.b")], 400, ["/bucket_ids/0"]),
        ([part("parent_id", UNKNOWN.encode())], 404, None),
        ([part("parent_id", b"*")], 400, ["/parent_id"]),
        ([part("metadata", b"[1]")], 400, ["/metadata"]),
        ([part("metadata", b"{")], 400, ["/metadata"]),
        ([part("metadata", b"[" * 100_000)], 400, ["/metadata"]),
        ([part("metadata", b'{"a":' + b"[" * 200 + b"]" * 200 + b"}")], 400, None),
        ([part("metadata", b'{"a":"' + b"x" * 1_060_000 + b'"}')], 413, None),
        ([part("title", b"x" * 1_200_000)], 413, None),
        ([part("title", b"\xff")], 400, ["/title"]),
        ([part("title", b"a"), part("title", b"b")], 400, ["/title"]),
        ([part("schema_id", b"text-input-v1")], 400, None),
        ([part("", b"x")], 400, None),
        ([file_part(b"another", "b", "text/plain")], 422, ["/file"]),
        ([part("tags", str(n).encode()) for n in range(300)], 413, None),
    ],
)
async def test_a_wrong_field_makes_nothing(
    studio: Studio,
    client: httpx.AsyncClient,
    parts: list[bytes],
    status: int,
    paths: list[str] | None,
) -> None:
    """Fields break the same rules as those of POST blobs; no event and no file is left."""
    before = await look(studio)
    problem(await post_form(client, form(file_part(), *parts)), status, *(paths or []))
    assert await events_of(client) == []
    assert await look(studio) == before


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("multipart/form-data", form(file_part()), 400),
        ("multipart/form-data; boundary=", form(file_part()), 400),
        (f"multipart/form-data; boundary={'x' * 71}", form(file_part()), 400),
        (f"multipart/mixed; boundary={BOUNDARY}", form(file_part()), 400),
        ("application/json", b"{}", 400),
        ("", form(file_part()), 400),
        ("multipart/form-data; boundary=other", form(file_part()), 400),
        (None, b"", 400),
        (None, b"nothing of a form", 400),
        (None, form(), 422),
        (None, form(part("title", b"x")), 422),
        (None, file_part(), 400),
        (None, file_part()[:-20], 400),
        (None, form(b"--" + BOUNDARY.encode() + b"\r\nX: y\r\n\r\nz\r\n"), 400),
        (None, form(part("file", PNG, "", *(f"X-{n}: y" for n in range(20)))), 413),
        (None, form(part("file", PNG, "", f"X: {'y' * 10_000}")), 413),
        (None, form(part("file", PNG, "", "X" * 100_000)), 413),
        (None, f"--{BOUNDARY}\r\n".encode() + b"X: y\r\n" * 100_000, 413),
        (None, form(part("file", PNG, "", "Content-Length: 7")), 400),
        (None, form(part("file", PNG, "", "Content-Type: multipart/mixed; boundary=in")), 201),
        (None, form(file_part()) + b"an epilogue", 201),
    ],
)
async def test_a_form_that_is_none_is_refused(
    studio: Studio,
    client: httpx.AsyncClient,
    content_type: str | None,
    body: bytes,
    status: int,
) -> None:
    """Whatever a body looks like, the answer is a problem, and nothing is kept, or a blob."""
    before = await look(studio)
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = await post_form(client, body, headers)
    if status == 201:
        assert answer.status_code == 201
        assert (await get(client, answer.json()["blob_id"])).content == PNG
        return
    problem(answer, status)
    assert await events_of(client) == []
    assert await look(studio) == before


async def test_too_many_uploads_at_a_time_are_429(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    """One user's uploads are bounded, others' are not touched, and an ended one makes room."""
    begun = asyncio.Semaphore(0)
    go_on = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield file_part()[:-40]
        begun.release()
        await go_on.wait()
        yield form(file_part()[-40:])

    async with asyncio.TaskGroup() as tasks:
        uploads = [tasks.create_task(post_form(client, body())) for _ in range(media.UPLOADS)]
        for _ in uploads:
            await begun.acquire()
        refused = await post_form(client, form(file_part()))
        while refused.status_code == 201:
            # The last of them may still be on its way here.
            refused = await post_form(client, form(file_part()))
        problem(refused, 429)
        assert int(refused.headers["retry-after"]) >= 1
        assert (await post_form(stranger, form(file_part()))).status_code == 201
        go_on.set()
    assert [task.result().status_code for task in uploads] == [201] * media.UPLOADS
    assert (await post_form(client, form(file_part()))).status_code == 201


async def test_a_trickle_is_not_waited_for(
    studio: Studio, user: User, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload that comes slower than the pace is 408, and nothing of it is kept."""
    monkeypatch.setattr(multipart, "PATIENCE", 0.3)
    before = await look(studio)
    async with sending(studio, user.token, 10**6) as (reader, writer):

        async def trickle() -> None:
            writer.write(file_part()[:-2] + bytes(300_000))
            while True:
                writer.write(b".")
                await asyncio.sleep(0.05)

        async with asyncio.TaskGroup() as tasks:
            trickling = tasks.create_task(trickle())
            assert await status_of(reader) == 408
            trickling.cancel()
    assert await events_of(client) == []
    assert await look(studio) == before


async def test_openapi_says_how_files_come_and_go(studio: Studio) -> None:
    """The document has the form with its file, and the statuses and headers of a download."""
    async with studio.client() as client:
        document = (await client.get(f"{studio.url}/openapi/openapi.json")).json()
    post = document["paths"]["/api/v1/blobs/media"]["post"]
    (described,) = post["requestBody"]["content"].items()
    assert described[0] == "multipart/form-data"
    schema = described[1]["schema"]
    assert schema["required"] == ["file"]
    assert set(schema["properties"]) == {
        "file",
        "bucket_ids",
        "parent_id",
        "title",
        "tags",
        "metadata",
    }
    assert "408" in post["responses"]
    got = document["paths"]["/api/v1/blobs/{blob_id}/media"]["get"]
    assert {"200", "206", "304", "404", "416"} <= set(got["responses"])
    named = {parameter["name"] for parameter in got["parameters"]}
    assert {"Range", "If-Range", "If-None-Match"} <= named
