"""The contract of the schemas' routes, as a client sees it over HTTP."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from uuid import uuid4

import httpx
import msgspec
import pytest

from reyna.identity.tokens import Tokens
from reyna.ids import new_id
from tests.support import Json, Studio, events_of, problem, read

pytestmark = pytest.mark.asyncio(loop_scope="session")

FIELDS = {
    "schema_id",
    "processor_id",
    "name",
    "version",
    "definition",
    "status",
    "compatibility",
    "description",
    "examples",
    "created_at",
}
NOTE: Json = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "stars": {"type": "integer", "maximum": 5}},
    "required": ["text"],
}


def fresh() -> str:
    """A name that no other test uses."""
    return f"note-{uuid4().hex[:12]}x"


async def register(
    client: httpx.AsyncClient, name: str, definition: object, **more: object
) -> Json:
    """A new version; gives the schema."""
    answer = await client.post("/schemas", json={"name": name, "definition": definition, **more})
    assert answer.status_code == 201, answer.text
    body: Json = answer.json() | {"seq": int(answer.headers["reyna-seq"])}
    return body


def admin(studio: Studio) -> httpx.AsyncClient:
    """A client that registers for everyone."""
    roles = ("user", "admin")
    return studio.client(Tokens(studio.place.secret).issue(new_id(), new_id(), roles).token)


async def test_registering_answers_the_schema(client: httpx.AsyncClient) -> None:
    """POST schemas answers 201 with the whole schema, its place and its seq."""
    name = fresh()
    asked = {
        "name": name,
        "definition": NOTE,
        "description": "A note.",
        "examples": [{"text": "a"}],
        "processor_id": "mine",
        "compatibility": "full",
    }
    answer = await client.post("/schemas", json=asked)
    body = answer.json()
    assert answer.status_code == 201
    assert set(body) == FIELDS
    assert body["schema_id"] == f"{name}-v1"
    assert body | {"version": 1, "status": "active"} | asked == body
    assert answer.headers["location"] == f"/api/v1/schemas/{name}-v1"
    assert answer.headers["etag"] == f'"{answer.headers["reyna-seq"]}"'
    seen = await read(client, f"/schemas/{name}-v1", int(answer.headers["reyna-seq"]))
    assert seen == body


async def test_versions_follow_each_other_whoever_comes_first(client: httpx.AsyncClient) -> None:
    """Twelve registrations at once get the versions 1 to 12, each once."""
    name = fresh()
    made = await asyncio.gather(
        *(register(client, name, NOTE, description=str(n)) for n in range(12))
    )
    assert sorted(one["version"] for one in made) == list(range(1, 13))
    page = await read(client, "/schemas", max(one["seq"] for one in made), name=name, limit=5)
    found = page["items"]
    while page["next_cursor"]:
        cursor = page["next_cursor"]
        page = await read(client, "/schemas", name=name, limit=5, cursor=cursor)
        found += page["items"]
    assert [one["version"] for one in found] == list(range(1, 13))
    assert len(await events_of(client, types="schema.registered")) == 12


async def test_a_name_alone_means_its_latest_active_version(client: httpx.AsyncClient) -> None:
    """Drafts and deprecated versions are passed over, in the view and in validation alike."""
    name = fresh()
    await register(client, name, NOTE)
    await register(client, name, NOTE | {"required": []})
    draft = await register(client, name, NOTE | {"required": ["stars"]}, status="draft")
    latest = await read(client, f"/schemas/{name}", draft["seq"])
    assert latest["version"] == 2
    answer = await client.patch(f"/schemas/{name}-v2", json={"status": "deprecated"})
    assert answer.status_code == 200
    assert answer.json()["status"] == "deprecated"
    seq = int(answer.headers["reyna-seq"])
    assert (await read(client, f"/schemas/{name}", seq))["version"] == 1
    verdict = await client.post(f"/schemas/{name}/validate", json={"data": {}})
    assert verdict.json()["errors"][0]["keyword"] == "required"
    active = await read(client, "/schemas", name=name, status="active")
    assert [one["schema_id"] for one in active["items"]] == [f"{name}-v1"]


async def test_a_status_follows_its_rules(client: httpx.AsyncClient) -> None:
    """An active version is no draft again; the same status writes nothing; If-Match is minded."""
    name = fresh()
    made = await register(client, name, NOTE)
    path = f"/schemas/{name}-v1"
    problem(await client.patch(path, json={"status": "draft"}), 409)
    problem(await client.patch(path, json={"status": "gone"}), 400, "/status")
    stale = {"If-Match": '"1"'}
    problem(await client.patch(path, json={"status": "deprecated"}, headers=stale), 412)
    same = await client.patch(path, json={"status": "active"})
    assert int(same.headers["reyna-seq"]) == made["seq"]
    tag = {"If-Match": f'"{made["seq"]}"'}
    changed = await client.patch(path, json={"status": "deprecated"}, headers=tag)
    assert int(changed.headers["reyna-seq"]) > made["seq"]


async def test_a_schema_is_its_owners_alone(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    """Another user sees 404 everywhere, may use the same name, and never shares its meaning."""
    name = fresh()
    made = await register(client, name, NOTE)
    path = f"/schemas/{name}-v1"
    problem(await stranger.get(path, headers={"Reyna-Min-Seq": str(made["seq"])}), 404)
    problem(await stranger.patch(path, json={"status": "deprecated"}), 404)
    problem(await stranger.post(f"{path}/validate", json={"data": {}}), 404)
    problem(await stranger.post(f"{path}/compatibility", json={"definition": {}}), 404)
    blob = {"schema_id": f"{name}-v1", "data": {"text": "a"}}
    problem(await stranger.post("/blobs", json=blob), 404)
    assert (await client.post("/blobs", json=blob)).status_code == 201
    await register(stranger, name, {"type": "object", "required": ["other"]})
    problem(await stranger.post("/blobs", json=blob), 422, "/data")
    problem(await client.post("/blobs", json=blob | {"data": {"text": 1}}), 422, "/data/text")


async def test_the_systems_names_are_nobodys(client: httpx.AsyncClient) -> None:
    """A user can neither register under a name of the system's nor change one of its schemas."""
    taken = await client.post("/schemas", json={"name": "text-input", "definition": NOTE})
    problem(taken, 409, "/name")
    problem(await client.patch("/schemas/text-input-v1", json={"status": "deprecated"}), 403)
    assert (await read(client, "/schemas/text-input"))["schema_id"] == "text-input-v1"


async def test_an_admin_registers_for_everyone(studio: Studio, client: httpx.AsyncClient) -> None:
    """What an admin registers is the system's: all see it, nobody else takes its name; what
    ships stays as it is.
    """
    name = fresh()
    async with admin(studio) as chief:
        made = await register(chief, name, NOTE)
        problem(await chief.post("/schemas", json={"name": "text-input", "definition": {}}), 409)
    seen = await read(client, f"/schemas/{name}", made["seq"])
    assert seen["schema_id"] == f"{name}-v1"
    blob = await client.post("/blobs", json={"schema_id": f"{name}-v1", "data": {"text": "a"}})
    assert blob.status_code == 201
    problem(await client.post("/schemas", json={"name": name, "definition": NOTE}), 409, "/name")


async def test_every_error_is_listed(client: httpx.AsyncClient) -> None:
    """POST validate names each place, keyword and reason, and writes nothing."""
    name = fresh()
    await register(client, name, NOTE)
    data = {"text": 1, "stars": 9}
    answer = await client.post(f"/schemas/{name}-v1/validate", json={"data": data})
    stars, text = answer.json()["errors"]
    assert answer.json()["valid"] is False
    assert (stars["path"], stars["keyword"]) == ("/data/stars", "maximum")
    assert text == {"path": "/data/text", "keyword": "type", "message": "It must be a string."}
    good = await client.post(f"/schemas/{name}/validate", json={"data": {"text": "a"}})
    assert good.json() == {"valid": True, "errors": []}
    assert len(await events_of(client)) == 1


@pytest.mark.parametrize(
    ("definition", "path"),
    [
        (1, "/definition"),
        ({"$schema": "http://example.com/mine"}, "/definition/$schema"),
        ({"properties": {"a": {"type": "strin"}}}, "/definition/properties/a/type"),
        ({"properties": {"a": {"pattern": "(?=x)"}}}, "/definition/properties/a/pattern"),
        ({"pattern": "(a)\\1"}, "/definition/pattern"),
        ({"pattern": "((a{1000}){1000}){1000}"}, "/definition/pattern"),
        ({"properties": {"a": {"$ref": "http://example.com/a"}}}, "/definition/properties/a/$ref"),
        ({"allOf": [{"$ref": "file:///etc/passwd"}]}, "/definition/allOf/0/$ref"),
        ({"items": {"$ref": "#/nowhere"}}, "/definition/items/$ref"),
        ({"$ref": "urn:reyna:schema:nothing-v1"}, "/definition/$ref"),
        ({"$ref": "urn:reyna:schema:../x"}, "/definition/$ref"),
        ({"description": "x" * 262_144}, "/definition"),
        ({"enum": [[] for _ in range(5000)]}, "/definition"),
    ],
)
async def test_a_refused_definition_is_named_with_its_place(
    client: httpx.AsyncClient, definition: object, path: str
) -> None:
    """What is no schema, fetches, cannot be matched in linear time or is too large is 422."""
    answer = await client.post("/schemas", json={"name": fresh(), "definition": definition})
    problem(answer, 422, path)
    assert await events_of(client) == []


async def test_too_deep_a_definition_is_refused(client: httpx.AsyncClient) -> None:
    """A definition of 65 levels is refused at the level that is too many."""
    definition: Json = {}
    for _ in range(64):
        definition = {"not": definition}
    answer = await client.post("/schemas", json={"name": fresh(), "definition": definition})
    problem(answer, 422, "/definition" + "/not" * 64)


@pytest.mark.parametrize("name", ["", "A", "1a", "a_b", "a" * 65, "a-v1", "a b", "é"])
async def test_a_name_has_its_form(client: httpx.AsyncClient, name: str) -> None:
    """Small letters, digits and dashes, at most 64, not ending like a version."""
    answer = await client.post("/schemas", json={"name": name, "definition": {}})
    problem(answer, 422, "/name")


async def test_examples_must_be_valid(client: httpx.AsyncClient) -> None:
    """An example that the definition refuses is 422 with its place."""
    asked = {"name": fresh(), "definition": NOTE, "examples": [{"text": "a"}, {"text": 1}]}
    problem(await client.post("/schemas", json=asked), 422, "/examples/1/text")


async def test_a_schema_may_refer_to_a_registered_one(client: httpx.AsyncClient) -> None:
    """A reference by URN is followed, through a second schema too, and never out of the owner's."""
    inner, outer = fresh(), fresh()
    refers = {"$ref": "urn:reyna:schema:text-input-v1"}
    await register(client, inner, {"type": "object", "properties": {"in": refers}})
    to_inner = {"$ref": f"urn:reyna:schema:{inner}-v1#/properties/in"}
    await register(client, outer, {"type": "array", "items": to_inner})
    answer = await client.post(
        f"/schemas/{outer}/validate", json={"data": [{"content": "a"}, {"content": 1}]}
    )
    assert [error["path"] for error in answer.json()["errors"]] == ["/data/1/content"]


async def test_a_break_is_refused_with_its_places(client: httpx.AsyncClient) -> None:
    """A version that breaks the promise is 409 with exactly the breaking paths; a new optional
    property is always allowed; `none` promises nothing.
    """
    name = fresh()
    await register(client, name, NOTE)
    worse = {
        "type": "object",
        "properties": {"text": {"type": "integer"}, "stars": {"type": "integer", "maximum": 4}},
        "required": ["text", "stars"],
    }
    places = {"/definition/properties/text/type", "/definition/properties/stars/maximum",
              "/definition/required"}  # fmt: skip
    answer = await client.post("/schemas", json={"name": name, "definition": worse})
    problem(answer, 409, *places)
    more = NOTE | {"properties": NOTE["properties"] | {"mood": {"enum": ["gay"]}}}
    assert (await register(client, name, more))["version"] == 2
    freed = await register(client, name, worse, compatibility="none")
    assert (freed["version"], freed["compatibility"]) == (3, "none")
    assert (await register(client, name, {"type": "null"}))["compatibility"] == "none"


async def test_a_transitive_promise_minds_all_active_versions(client: httpx.AsyncClient) -> None:
    """What the last version allows but an earlier one refuses is a break only transitively."""
    name = fresh()
    await register(client, name, {"type": "string"}, compatibility="none")
    await register(client, name, {"type": "integer"}, compatibility="none")
    asked = {"name": name, "definition": {"type": ["integer", "null"]}}
    transitive = asked | {"compatibility": "backward_transitive"}
    problem(await client.post("/schemas", json=transitive), 409, "/definition/type")
    await client.patch(f"/schemas/{name}-v1", json={"status": "deprecated"})
    assert (await client.post("/schemas", json=transitive)).status_code == 201
    forward = asked | {"compatibility": "forward", "definition": {}}
    problem(await client.post("/schemas", json=forward), 409)


async def test_a_draft_is_judged_when_it_becomes_active(client: httpx.AsyncClient) -> None:
    """A draft may break; it cannot become active as long as it does."""
    name = fresh()
    await register(client, name, {"type": "string"})
    await register(client, name, {"type": "integer"}, status="draft")
    path = f"/schemas/{name}-v2"
    problem(await client.patch(path, json={"status": "active"}), 409, "/definition/type")
    await client.patch(f"/schemas/{name}-v1", json={"status": "deprecated"})
    assert (await client.patch(path, json={"status": "active"})).status_code == 200


async def test_the_dry_run_holds_stored_blobs_against_the_candidate(
    client: httpx.AsyncClient,
) -> None:
    """It says what would break, of promises and of blobs as they are now, and writes nothing."""
    name = fresh()
    await register(client, name, NOTE)
    made = []
    for stars in (1, 5, 5, 5):
        data = {"text": "a", "stars": stars}
        answer = await client.post("/blobs", json={"schema_id": f"{name}-v1", "data": data})
        made.append(answer.json()["blob_id"])
    await client.patch(f"/blobs/{made[1]}", json={"data": {"stars": 2}})
    await client.delete(f"/blobs/{made[2]}")
    candidate = NOTE | {
        "properties": {"text": {"type": "string"}, "stars": {"type": "integer", "maximum": 4}}
    }
    before = len(await events_of(client))
    answer = await client.post(f"/schemas/{name}/compatibility", json={"definition": candidate})
    report = answer.json()
    assert [one["path"] for one in report["breaks"]] == ["/definition/properties/stars/maximum"]
    assert (
        report
        | {
            "compatible": False,
            "mode": "backward",
            "blobs_checked": 3,
            "blobs_broken": 1,
            "broken_blob_ids": [made[3]],
        }
        == report
    )
    assert len(await events_of(client)) == before
    same = await client.post(f"/schemas/{name}/compatibility", json={"definition": NOTE})
    assert (same.json()["compatible"], same.json()["blobs_broken"]) == (True, 0)


async def test_a_key_gives_the_first_answer_again(client: httpx.AsyncClient) -> None:
    """The same key and body register once; the same key with another body is 422."""
    asked = {"name": fresh(), "definition": NOTE}
    key = {"Idempotency-Key": "once"}
    first = await client.post("/schemas", json=asked, headers=key)
    again = await client.post("/schemas", json=asked, headers=key)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["reyna-seq"] == first.headers["reyna-seq"]
    problem(await client.post("/schemas", json=asked | {"name": fresh()}, headers=key), 422)
    assert len(await events_of(client)) == 1


async def test_schemas_are_listed_by_processor(client: httpx.AsyncClient) -> None:
    """The filter takes a schema's own processor; an unknown processor has none: 404."""
    name = fresh()
    made = await register(client, name, NOTE, processor_id="p1")
    page = await read(client, "/schemas", made["seq"], processor_id="p1")
    assert [one["schema_id"] for one in page["items"]] == [f"{name}-v1"]
    page = await read(client, "/processors/p1/schemas")
    assert [one["schema_id"] for one in page["items"]] == [f"{name}-v1"]
    problem(await client.get("/processors/unheard-of/schemas"), 404)


async def test_another_request_is_served_while_a_bomb_is_judged(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    """A schema that takes exponential time is given up with 422; meanwhile others are served,
    checks of their own schemas included.
    """
    bomb: Json = {
        "definitions": {
            f"d{i}": {"anyOf": [
                {"allOf": [{"$ref": f"#/definitions/d{i + 1}"}, {"minLength": i}]},
                {"allOf": [{"$ref": f"#/definitions/d{i + 1}"}, {"maxLength": i + 1}]},
            ]}
            for i in range(40)
        } | {"d40": {"type": "integer"}},
        "$ref": "#/definitions/d0",
    }  # fmt: skip
    name, own = fresh(), fresh()
    await register(client, name, bomb)
    await register(stranger, own, {"$ref": "#/definitions/t", "definitions": {
        "t": {"type": "object", "properties": {"c": {"$ref": "#/definitions/t"}}}}})  # fmt: skip
    judged = [
        asyncio.create_task(client.post("/blobs", json={"schema_id": f"{name}-v1", "data": "x"}))
        for _ in range(3)
    ]
    nested: Json = {}
    for _ in range(100):
        nested = {"c": nested}
    for data in (nested, nested, {"c": 1}):
        asked = {"schema_id": f"{own}-v1", "data": data}
        answer = await stranger.post("/blobs", json=asked)
        assert answer.status_code == (422 if data == {"c": 1} else 201)
    assert not judged[-1].done()
    for answer in await asyncio.gather(*judged):
        problem(answer, 422)


BESIDE = Path(__file__).parents[3] / "shared" / "json-schema-test-suite"
SUITE = Path(os.environ.get("REYNA_SCHEMA_SUITE", BESIDE)) / "tests"
SAMPLES = [
    ("draft4", "http://json-schema.org/draft-04/schema#", "maximum.json"),
    ("draft6", "http://json-schema.org/draft-06/schema#", "contains.json"),
    ("draft7", "http://json-schema.org/draft-07/schema#", "if-then-else.json"),
    ("draft2019-09", "https://json-schema.org/draft/2019-09/schema", "recursiveRef.json"),
    ("draft2020-12", "https://json-schema.org/draft/2020-12/schema", "prefixItems.json"),
]


@pytest.mark.skipif(not SUITE.is_dir(), reason="the official suite is not beside the checkout")
@pytest.mark.parametrize(("draft", "uri", "file"), SAMPLES)
async def test_the_official_suite_passes_over_http(
    client: httpx.AsyncClient, draft: str, uri: str, file: str
) -> None:
    """A file of each draft's required tests, through POST schemas and validate. All of them, by
    the functions behind these, are in tests/unit/test_schema_suite.py.
    """
    for group in msgspec.json.decode((SUITE / draft / file).read_bytes()):
        definition = {"$schema": uri, **group["schema"]}
        name = fresh()
        await register(client, name, definition)
        for case in group["tests"]:
            asked = {"data": case["data"]}
            answer = await client.post(f"/schemas/{name}-v1/validate", json=asked)
            assert answer.json()["valid"] is case["valid"], (group, case)
