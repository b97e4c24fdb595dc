"""The contract of typed buckets: a type whose metadata has a schema, as a client sees it."""

from __future__ import annotations

from uuid import uuid4

import httpx
import pytest

from reyna.identity.tokens import Tokens
from reyna.ids import new_id
from tests.support import Json, Studio, events_of, make_bucket, problem, read

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOVEL: Json = {
    "type": "object",
    "properties": {"genre": {"type": "string"}, "words": {"type": "integer", "minimum": 1}},
    "required": ["genre"],
}
GOOD = {"genre": "gothic", "words": 90_000}


async def bind(client: httpx.AsyncClient, type_: str, definition: Json = NOVEL, **more: str) -> str:
    """A schema for the metadata of a type; gives its path."""
    asked = {"name": f"bucket-{type_}", "definition": definition, **more}
    answer = await client.post("/schemas", json=asked)
    assert answer.status_code == 201, answer.text
    return f"/schemas/{answer.json()['schema_id']}"


async def create(client: httpx.AsyncClient, type_: str, **fields: object) -> httpx.Response:
    """An attempt to make a bucket of a type."""
    return await client.post("/buckets", json={"name": "N", "type": type_, **fields})


async def test_metadata_must_be_valid(client: httpx.AsyncClient) -> None:
    """With a schema for the type, every error of the metadata is listed at its place: 422."""
    await bind(client, "novel")
    body = problem(
        await create(client, "novel", metadata={"genre": 1, "words": 0}),
        422,
        "/metadata/genre",
        "/metadata/words",
    )
    assert {error["keyword"] for error in body["errors"]} == {"type", "minimum"}
    problem(await create(client, "novel"), 422, "/metadata")
    assert len(await events_of(client)) == 1
    assert (await create(client, "novel", metadata=GOOD)).status_code == 201
    assert (await create(client, "novella", metadata={"genre": 1})).status_code == 201


async def test_patches_are_checked(client: httpx.AsyncClient) -> None:
    """PATCH of metadata is checked merged; of the type with the metadata that is there."""
    await bind(client, "novel")
    made = (await create(client, "novel", metadata=GOOD)).json()
    path = f"/buckets/{made['bucket_id']}"
    problem(await client.patch(path, json={"metadata": {"words": 0}}), 422, "/metadata/words")
    problem(await client.patch(path, json={"metadata": {"genre": None}}), 422, "/metadata")
    problem(await client.patch(path, json={"metadata": None}), 422, "/metadata")
    assert (await client.patch(path, json={"metadata": {"words": 5}})).status_code == 200
    away = await client.patch(path, json={"type": "book", "metadata": {"genre": 1}})
    assert away.status_code == 200
    problem(await client.patch(path, json={"type": "novel"}), 422, "/metadata/genre")
    both = await client.patch(path, json={"type": "novel", "metadata": {"genre": "g"}})
    assert both.status_code == 200
    bucket = await read(client, path, both.json()["seq"])
    assert (bucket["type"], bucket["metadata"]) == ("novel", {"genre": "g", "words": 5})


async def test_what_was_there_before_stays_usable(client: httpx.AsyncClient) -> None:
    """A bucket older than its schema may be renamed, moved, deleted; only its metadata is held."""
    made = await make_bucket(client, "Old", metadata={"words": 0})
    path = f"/buckets/{made['bucket_id']}"
    assert (await client.patch(path, json={"type": "novel"})).status_code == 200
    await bind(client, "novel")
    assert (await client.patch(path, json={"name": "New", "tags": ["t"]})).status_code == 200
    moved = await client.post(f"{path}/move", json={"parent_bucket_id": None})
    assert moved.status_code == 200
    problem(await client.patch(path, json={"metadata": {"words": 7}}), 422, "/metadata")
    assert (await client.delete(path)).status_code == 204
    assert (await client.post(f"{path}/restore")).status_code == 200


async def test_only_an_active_first_version_binds(client: httpx.AsyncClient) -> None:
    """A draft binds once it is active, and no more when deprecated; a second version does not."""
    schema = await bind(client, "novel", status="draft")
    assert (await create(client, "novel")).status_code == 201
    await client.patch(schema, json={"status": "active"})
    problem(await create(client, "novel"), 422, "/metadata")
    second = {"properties": {"genre": {"type": "integer"}}}
    assert (await bind(client, "novel", second, compatibility="none")).endswith("-v2")
    assert (await create(client, "novel", metadata=GOOD)).status_code == 201
    await client.patch(schema, json={"status": "deprecated"})
    assert (await create(client, "novel")).status_code == 201
    await client.patch(schema, json={"status": "active"})
    problem(await create(client, "novel"), 422, "/metadata")


async def test_a_schema_binds_from_the_moment_it_is_registered(
    studio: Studio, client: httpx.AsyncClient
) -> None:
    """What one process has just registered binds in another that had none a moment ago."""
    async with studio.beside() as other, other.client() as second:
        second.headers = client.headers
        for number in range(5):
            type_ = f"novel{number}"
            for one in (client, second):
                assert (await create(one, type_)).status_code == 201
            schema = await bind(client, type_)
            problem(await create(second, type_), 422, "/metadata")
            await second.patch(schema, json={"status": "deprecated"})
            assert (await create(client, type_)).status_code == 201


async def test_a_users_schema_binds_nobody_else(
    studio: Studio, client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    """A user's schema is the user's alone; an admin's binds everyone who has none."""
    await bind(client, "novel")
    assert (await create(stranger, "novel")).status_code == 201
    tokens = Tokens(studio.place.secret)
    shared, own = f"x{uuid4().hex}", f"y{uuid4().hex}"
    await bind(client, own, {"required": ["mine"]})
    async with studio.client(tokens.issue(new_id(), new_id(), ("user", "admin")).token) as admin:
        await bind(admin, shared)
        await bind(admin, own)
    for one in (client, stranger):
        problem(await create(one, shared), 422, "/metadata")
        assert (await create(one, shared, metadata=GOOD)).status_code == 201
    problem(await create(stranger, own, metadata={"mine": 1}), 422, "/metadata")
    assert (await create(client, own, metadata={"mine": 1})).status_code == 201


async def test_a_type_longer_than_any_schemas_name(client: httpx.AsyncClient) -> None:
    """The longest type, and one that ends like a version, are types as any other."""
    for type_ in ("x" * 64, "novel-v1", "v1", "a-v1-v1"):
        assert (await create(client, type_)).status_code == 201


async def test_what_a_template_makes_is_checked_too(client: httpx.AsyncClient) -> None:
    """Where a bucket of the template is not valid, nothing is made: 422 at /template, by name."""
    await bind(client, "chapter", {"properties": {"number": {"maximum": 8}}})
    body = problem(await create(client, "book", template="book"), 422, "/template")
    (error,) = body["errors"]
    assert error["keyword"] == "maximum"
    assert error["message"].startswith("Chapter 9/metadata/number: ")
    assert len(await events_of(client)) == 1
    await bind(client, "album")
    problem(await create(client, "album", template="album"), 422, "/metadata")
    made = await create(client, "album", metadata=GOOD, template="album")
    assert made.status_code == 201


async def test_a_key_answers_alike_whatever_binds_since(client: httpx.AsyncClient) -> None:
    """The first answer to a keyed request is given again, though it would be refused by now."""
    headers = {"Idempotency-Key": "early"}
    asked = {"name": "N", "type": "novel"}
    first = await client.post("/buckets", json=asked, headers=headers)
    await bind(client, "novel")
    again = await client.post("/buckets", json=asked, headers=headers)
    assert (again.status_code, again.content) == (201, first.content)
    problem(await client.post("/buckets", json=asked), 422, "/metadata")


async def test_a_revert_is_checked_too(client: httpx.AsyncClient) -> None:
    """Metadata that its type's schema does not allow any more does not come back: 422."""
    old = (await create(client, "novel", metadata={"words": 0})).json()
    path = f"/buckets/{old['bucket_id']}"
    assert (await client.patch(path, json={"metadata": GOOD})).status_code == 200
    schema = await bind(client, "novel")
    problem(await client.post(f"{path}/revert", json={"to": old["seq"]}), 422, "/to")
    await client.patch(schema, json={"status": "deprecated"})
    assert (await client.post(f"{path}/revert", json={"to": old["seq"]})).status_code == 200
