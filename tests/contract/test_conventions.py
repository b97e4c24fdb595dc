"""What all routes have in common: problems, positions, idempotency, lists, methods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import pytest

from tests.support import Studio, events_of, make_blob, make_bucket, problem, read

pytestmark = pytest.mark.asyncio(loop_scope="session")

BLOB = {"schema_id": "text-input-v1", "data": {"content": "rough"}}
UNKNOWN = "0" * 32
# One of each: method, path with {blob} and {bucket}, body.
ROUTES: list[tuple[str, str, object]] = [
    ("POST", "/blobs", BLOB),
    ("GET", "/blobs", None),
    ("GET", "/blobs/{id}", None),
    ("PATCH", "/blobs/{id}", {"title": "x"}),
    ("DELETE", "/blobs/{id}", None),
    ("POST", "/blobs/{id}/restore", None),
    ("PUT", "/blobs/{id}/buckets", {"add": []}),
    ("GET", "/blobs/{id}/history", None),
    ("POST", "/buckets", {"name": "x", "type": "book"}),
    ("GET", "/buckets", None),
    ("GET", "/buckets/tree", None),
    ("GET", "/buckets/{id}", None),
    ("GET", "/buckets/{id}/tree", None),
    ("PATCH", "/buckets/{id}", {"name": "x"}),
    ("POST", "/buckets/{id}/move", {"parent_bucket_id": None}),
    ("DELETE", "/buckets/{id}", None),
    ("POST", "/buckets/{id}/restore", None),
    ("POST", "/blobs/{id}/revert", {"to": 1}),
    ("POST", "/buckets/{id}/revert", {"to": 1}),
    ("GET", "/templates", None),
    ("PUT", "/buckets/{id}/blobs", {"add": []}),
    ("GET", "/buckets/{id}/history", None),
    ("GET", "/events", None),
    ("GET", "/processors", None),
    ("GET", "/processors/{id}", None),
    ("GET", "/processors/{id}/runs", None),
    ("GET", "/runs/{id}", None),
    ("GET", "/blobs/{id}/media", None),
    ("POST", "/blobs/media", None),
    ("GET", "/validate-token", None),
    ("GET", "/me", None),
]
BAD_TOKENS = [
    None,
    "",
    "Bearer",
    "Bearer ",
    "Bearer x",
    "Bearer a.b.c",
    "Basic dXNlcjpwYXNz",
    "Bearer " + "x" * 5000,
    "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4IiwiZXhwIjo5OTk5OTk5OTk5LCJpc3MiOiJyZXluYSJ9.",
]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_without_a_valid_token_everything_is_401(
    studio: Studio, method: str, path: str, body: object
) -> None:
    """No route of the API answers without a valid access token: 401, and says how to send one."""
    async with studio.client() as client:
        for value in BAD_TOKENS:
            headers = {} if value is None else {"Authorization": value.strip()}
            answer = await client.request(
                method, path.replace("{id}", UNKNOWN), json=body, headers=headers
            )
            problem(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path", "body"), [r for r in ROUTES if "{id}" in r[1]])
async def test_ids_that_are_none_are_400(
    client: httpx.AsyncClient, method: str, path: str, body: object
) -> None:
    """An id with a dot, star, `>`, space, control or non-ASCII character, or overlong, is 400."""
    for wrong in (
        "a.b",
        "*",
        ">",
        "a.*",
        "%20",
        "a%20b",
        "%00",
        "a%00b",
        "%0a",
        "a%0D%0Ab",
        "%3E",
        "%2A",
        "%2E%2E%2Fx".replace("%2F", "."),
        "x" * 65,
        "x" * 4000,
        "%C3%BC",
        "%E2%80%AE",
        "%FF%FE",
        "a'b",
        'a"b',
        "a;b",
        "$JS",
        "a|b",
        "%7B",
    ):
        answer = await client.request(method, path.replace("{id}", wrong), json=body)
        problem(answer, 400)
    answer = await client.request(method, path.replace("{id}", "a%2Fb"), json=body)
    assert answer.status_code in {400, 404, 405}
    problem(answer, answer.status_code)


async def test_no_foreign_character_reaches_a_subject(
    studio: Studio, client: httpx.AsyncClient
) -> None:
    """Ids in bodies that could widen a subject are 400 at their place, and write nothing."""
    mine = (await make_bucket(client))["bucket_id"]
    for wrong in ("a.b", "*", ">", "a b", "a\x00b", "ü", "x" * 65, "", "a\n"):
        for asked, path in (
            ({**BLOB, "bucket_ids": [wrong]}, "/bucket_ids/0"),
            ({**BLOB, "parent_id": wrong}, "/parent_id"),
            ({**BLOB, "processor_id": wrong}, "/processor_id"),
            ({**BLOB, "schema_id": wrong}, "/schema_id"),
        ):
            body = problem(await client.post("/blobs", json=asked), 400)
            assert [error["path"] for error in body.get("errors", [])] in ([path], [])
        for method, route, sent in (
            ("POST", "/buckets", {"name": "x", "type": "book", "parent_bucket_id": wrong}),
            ("POST", f"/buckets/{mine}/move", {"parent_bucket_id": wrong}),
        ):
            problem(await client.request(method, route, json=sent), 400, "/parent_bucket_id")
        for route, name in (
            ("/blobs", "bucket_id"),
            ("/blobs", "parent_id"),
            ("/buckets", "parent_bucket_id"),
            ("/events", "bucket_id"),
            ("/events", "blob_id"),
        ):
            problem(await client.get(route, params={name: wrong}), 400)
    for schema in ("text-input-v0", "Text-v1", "text-input", "a-v1.x", "a-v1>"):
        answer = await client.post("/blobs", json={**BLOB, "schema_id": schema})
        assert answer.status_code in {400, 404}
    assert len(await events_of(client)) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/blobs"),
        ("POST", "/buckets"),
        ("PATCH", "/blobs/{blob}"),
        ("PATCH", "/buckets/{bucket}"),
        ("POST", "/buckets/{bucket}/move"),
        ("POST", "/blobs/{blob}/revert"),
        ("POST", "/buckets/{bucket}/revert"),
    ],
)
async def test_bodies_that_are_no_request_are_400(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    """What is not JSON, or not an object of the right types, is 400, and writes nothing."""
    blob, bucket = await make_blob(client), await make_bucket(client)
    path = path.format(blob=blob["blob_id"], bucket=bucket["bucket_id"])
    for body in (
        b"",
        b" ",
        b"{",
        b"}",
        b"null",
        b"[]",
        b'"text"',
        b"5",
        b"true",
        b"\xff\xfe",
        b'{"metadata": {"x": "\xff"}, "parent_bucket_id": "\xff"}',
        b"\xef\xbb\xbf{}",
        b"{'a': 1}",
        b'{"metadata": NaN}',
        b'{"metadata": {"x": Infinity}, "parent_bucket_id": NaN}',
        b'{"metadata": {"x": 1e999}, "parent_bucket_id": 1e999}',
        b'{"metadata": {"x": "\\ud800"}, "parent_bucket_id": "\\ud800"}',
        b'{"metadata": {"x": "\\udc00x"}, "parent_bucket_id": "\\udc00x"}',
        b'{"a": 1,}',
        b'{"a": 1} {}',
        b'{"tags": "x", "metadata": 5, "parent_bucket_id": 5}',
        b"a=1&b=2",
        b"<xml/>",
        b"[" * 100_000,
        b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"data": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}",
    ):
        problem(await client.request(method, path, content=body), 400)
    assert len(await events_of(client)) == 2


async def test_a_wrong_type_is_named(client: httpx.AsyncClient) -> None:
    """A field of the wrong type is 400 with a JSON Pointer to it."""
    for asked, path in (
        ({"data": {"content": "x"}}, ""),
        ({**BLOB, "schema_id": 5}, "/schema_id"),
        ({**BLOB, "tags": "x"}, "/tags"),
        ({**BLOB, "tags": [5]}, "/tags/0"),
        ({**BLOB, "metadata": []}, "/metadata"),
        ({**BLOB, "title": ["x"]}, "/title"),
        ({**BLOB, "bucket_ids": {"a": 1}}, "/bucket_ids"),
    ):
        body = problem(await client.post("/blobs", json=asked), 400)
        assert [error["path"] for error in body["errors"]] == [path]


@pytest.mark.parametrize("depth", [64, 129, 260, 500, 900])
async def test_deep_json_is_refused_or_read_back(client: httpx.AsyncClient, depth: int) -> None:
    """JSON of any depth is refused with 400 or 422, or stored and read back; never a 500."""
    deep: object = 1
    for _ in range(depth):
        deep = [deep]
    for asked in (
        {**BLOB, "data": {"content": "x", "deep": deep}},
        {**BLOB, "data": {"deep": deep}},
        {**BLOB, "metadata": {"deep": deep}},
        {**BLOB, "data": deep},
    ):
        answer = await client.post("/blobs", json=asked)
        if answer.status_code == 201:
            made = answer.json()
            blob = await read(client, f"/blobs/{made['blob_id']}", made["seq"])
            assert blob["data"] == asked["data"]
            patch = {"title": "still", "metadata": {"deep": deep}, "data": {"deep": deep}}
            patched = await client.patch(f"/blobs/{made['blob_id']}", json=patch)
            assert patched.status_code in {200, 400, 422}
        else:
            assert answer.status_code in {400, 422}
            problem(answer, answer.status_code)
    await read(client, "/blobs")
    await events_of(client)


async def test_numbers_and_strings_survive(client: httpx.AsyncClient) -> None:
    """What is valid JSON comes back as it went in: big numbers, any Unicode, NUL, odd keys."""
    body = (
        b'{"schema_id": "text-input-v1", "data": {"content": "a\\u0000b \\ud83d\\ude00 \\u202e",'
        b' "big": 123456789012345678901234567890, "tiny": 5e-324, "minus": -0.0,'
        b' "twice": 1, "twice": 2, "": "", "__proto__": {"x": 1}, "/a~b": 1}}'
    )
    made = (await client.post("/blobs", content=body)).json()
    data = (await read(client, f"/blobs/{made['blob_id']}", made["seq"]))["data"]
    assert data["content"] == "a\0b 😀 \u202e"
    assert data["big"] == 123456789012345678901234567890
    assert data["tiny"] == 5e-324
    assert data["twice"] == 2
    assert (data[""], data["__proto__"], data["/a~b"]) == ("", {"x": 1}, 1)


async def test_the_content_type_may_be_any(client: httpx.AsyncClient) -> None:
    """A body is read as JSON, or refused with a problem, whatever it is called."""
    for name in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x"):
        answer = await client.post("/blobs", content=b"x=1", headers={"Content-Type": name})
        assert answer.status_code in {400, 415}
        problem(answer, answer.status_code)


async def test_too_large_is_413(client: httpx.AsyncClient) -> None:
    """A blob over REYNA_MAX_BLOB_BYTES, or a body far over, is 413; right at the limit is taken."""
    limit = 1024 * 1024
    room = limit - len(b'{"content":""}') - len(b"{}")
    for size, status in ((room, 201), (room + 1, 413), (2 * limit, 413)):
        asked = {"schema_id": "text-input-v1", "data": {"content": "x" * size}}
        answer = await client.post("/blobs", json=asked)
        assert answer.status_code == status
        if status == 413:
            problem(answer, 413)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * 65536

    # The server may also hang up on what it does not want to read.
    with suppress(httpx.WriteError, httpx.ReadError):
        problem(await client.post("/blobs", content=endless()), 413)
    made = await make_blob(client)
    patch = {"metadata": {"x": "y" * limit}}
    problem(await client.patch(f"/blobs/{made['blob_id']}", json=patch), 413)
    assert len(await events_of(client)) == 2


async def test_unknown_routes_and_methods(client: httpx.AsyncClient) -> None:
    """An unknown route is 404, a wrong method 405 with Allow, both as problems."""
    for path in ("/nothing", "/blobs/x/y/z", "/schemas-x", "/../../etc/passwd"):
        problem(await client.get(path), 404)
    for method, path, allowed in (
        ("PUT", "/blobs", {"GET", "POST"}),
        ("DELETE", "/buckets", {"GET", "POST"}),
        ("POST", "/events", {"GET"}),
        ("GET", "/auth/login", {"POST"}),
        ("PATCH", "/blobs/x/restore", {"POST"}),
    ):
        answer = await client.request(method, path)
        problem(answer, 405)
        assert allowed <= {one.strip() for one in answer.headers["allow"].split(",")}


async def test_reyna_min_seq_waits_for_ones_own_write(client: httpx.AsyncClient) -> None:
    """A query with the seq of a command always sees it, in every view."""
    for number in range(20):
        bucket = await make_bucket(client, str(number))
        assert (await read(client, f"/buckets/{bucket['bucket_id']}", bucket["seq"]))["name"]
        blob = await make_blob(client, str(number))
        listed = await read(client, "/blobs", blob["seq"], limit=1)
        assert listed["items"][0]["blob_id"] == blob["blob_id"]
        found = await events_of(client, after=blob["seq"] - 1)
        assert [event["seq"] for event in found] == [blob["seq"]]


async def test_a_malformed_reyna_min_seq_is_400(client: httpx.AsyncClient) -> None:
    """Reyna-Min-Seq is a whole number of at most 18 digits, else 400."""
    for wrong in ("x", "-1", "1.5", "0x1", "9" * 30, "1 2"):
        for path in ("/blobs", "/buckets/tree", "/events"):
            problem(await client.get(path, headers={"Reyna-Min-Seq": wrong}), 400)


async def test_every_query_says_its_position(client: httpx.AsyncClient) -> None:
    """Every query carries Reyna-Seq, at least the Reyna-Min-Seq that was asked for."""
    bucket = await make_bucket(client)
    blob = await make_blob(client, bucket_ids=[bucket["bucket_id"]])
    for path in (
        "/blobs",
        f"/blobs/{blob['blob_id']}",
        "/buckets",
        "/buckets/tree",
        f"/buckets/{bucket['bucket_id']}",
        f"/buckets/{bucket['bucket_id']}/tree",
        "/events",
        "/processors",
    ):
        answer = await client.get(path, headers={"Reyna-Min-Seq": str(blob["seq"])})
        assert answer.status_code == 200
        assert int(answer.headers["reyna-seq"]) >= blob["seq"]


@pytest.mark.parametrize("path", ["/blobs", "/buckets", "/events", "/processors", "/templates"])
async def test_limits_and_cursors_of_lists(client: httpx.AsyncClient, path: str) -> None:
    """A limit outside 1 to 200, and a cursor not made here, are 400; a list has its two fields."""
    assert set(await read(client, path)) == {"items", "next_cursor"}
    for limit in ("0", "201", "-1", "x", "1.5", "99999999999999999999"):
        problem(await client.get(path, params={"limit": limit}), 400)
    for cursor in (
        "x",
        "%",
        "WzFd.WzFd",
        "e30",  # {}
        "W10",  # []
        "bnVsbA",  # null
        "WyJcdWQ4MDAiLCJ4Il0",  # ["\ud800","x"]
        "Wy01XQ",  # [-5]
        "WzFlMzAwXQ",  # [1e300]
        "ü",
        "a" * 2000,
    ):
        problem(await client.get(path, params={"cursor": cursor}), 400)
    assert (await client.get(path, params={"limit": "200"})).status_code == 200


async def test_an_idempotent_post_is_done_once(client: httpx.AsyncClient) -> None:
    """Every POST with a key gives the first answer again, header by header, and writes nothing."""
    bucket = (await make_bucket(client))["bucket_id"]
    other = (await make_bucket(client))["bucket_id"]
    blob = (await make_blob(client))["blob_id"]
    await client.delete(f"/blobs/{blob}")
    await client.delete(f"/buckets/{other}")
    for number, (path, body) in enumerate(
        (
            ("/blobs", {**BLOB, "bucket_ids": [bucket]}),
            ("/buckets", {"name": "New", "type": "book", "parent_bucket_id": bucket}),
            (f"/blobs/{blob}/restore", None),
            (f"/buckets/{other}/restore", None),
            (f"/buckets/{other}/move", {"parent_bucket_id": bucket, "position": 0}),
            (f"/buckets/{other}/move", {"parent_bucket_id": bucket}),
        )
    ):
        headers = {"Idempotency-Key": f"key {number}"}
        first = await client.post(path, json=body, headers=headers)
        assert first.status_code in {200, 201}, first.text
        written = len(await events_of(client))
        for _ in range(2):
            again = await client.post(path, json=body, headers=headers)
            assert (again.status_code, again.content) == (first.status_code, first.content)
            for name in ("reyna-seq", "etag", "location"):
                assert again.headers.get(name) == first.headers.get(name)
        assert len(await events_of(client)) == written
        changed = {"schema_id": "text-input-v1", "data": {"content": "other"}}
        problem(await client.post("/blobs", json=changed, headers=headers), 422)
        assert len(await events_of(client)) == written


async def test_a_key_answers_alike_whatever_came_after(client: httpx.AsyncClient) -> None:
    """The first answer is given again also when it changed nothing, or the thing has moved on."""
    root = (await make_bucket(client))["bucket_id"]
    await make_bucket(client, "another")
    headers = {"Idempotency-Key": "nothing changes"}
    move, where = f"/buckets/{root}/move", {"parent_bucket_id": None, "position": 0}
    first = await client.post(move, json=where, headers=headers)
    assert first.status_code == 200
    await client.patch(f"/buckets/{root}", json={"name": "Renamed"})
    again = await client.post(move, json=where, headers=headers)
    assert (again.status_code, again.content) == (200, first.content)
    headers = {"Idempotency-Key": "deleted since"}
    made = await client.post("/blobs", json=BLOB, headers=headers)
    await client.delete(f"/blobs/{made.json()['blob_id']}")
    again = await client.post("/blobs", json=BLOB, headers=headers)
    assert (again.status_code, again.content) == (201, made.content)


async def test_duplicates_at_once_make_one_event(client: httpx.AsyncClient) -> None:
    """Twenty concurrent requests with one key: one event, and twenty equal answers."""
    bucket = (await make_bucket(client))["bucket_id"]
    for key, path, body in (
        ("a", "/blobs", {**BLOB, "bucket_ids": [bucket]}),
        ("b", "/buckets", {"name": "New", "type": "book"}),
        ("c", f"/buckets/{bucket}/move", {"parent_bucket_id": None, "position": 1}),
    ):
        before = len(await events_of(client))
        answers = await asyncio.gather(
            *(client.post(path, json=body, headers={"Idempotency-Key": key}) for _ in range(20))
        )
        assert {answer.status_code for answer in answers} <= {200, 201}
        assert len({answer.content for answer in answers}) == 1
        assert len(await events_of(client)) == before + 1


async def test_a_key_is_its_users_own(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    """The same key of two users makes two blobs; a refused request does not use its key up."""
    headers = {"Idempotency-Key": "shared"}
    mine = await client.post("/blobs", json=BLOB, headers=headers)
    theirs = await stranger.post("/blobs", json=BLOB, headers=headers)
    assert mine.json()["blob_id"] != theirs.json()["blob_id"]
    headers = {"Idempotency-Key": "second try"}
    bad = {**BLOB, "bucket_ids": [UNKNOWN]}
    problem(await client.post("/blobs", json=bad, headers=headers), 404)
    problem(await client.post("/blobs", json=bad, headers=headers), 404)
    assert (await client.post("/blobs", json=BLOB, headers=headers)).status_code in {201, 422}


async def test_keys_that_are_none_are_400(client: httpx.AsyncClient) -> None:
    """An empty, overlong or non-ASCII Idempotency-Key is 400, and writes nothing."""
    for key in (b"", b"x" * 256, "ü".encode()):
        answer = await client.post("/blobs", json=BLOB, headers={b"Idempotency-Key": key})
        problem(answer, 400)
    long = {"Idempotency-Key": "x" * 255}
    assert (await client.post("/blobs", json=BLOB, headers=long)).status_code == 201
    assert len(await events_of(client)) == 1


async def test_every_answer_is_guarded_in_a_browser(studio: Studio) -> None:
    """Also refusals carry the headers that stop sniffing, framing and foreign content."""
    async with studio.client() as client:
        for path in ("/blobs", "/nothing", "/auth/login"):
            headers = (await client.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert "default-src 'self'" in headers["content-security-policy"]
