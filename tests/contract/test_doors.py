"""The doors beside blobs and buckets: accounts, health, the page, and the OpenAPI document."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.support import Json, Studio, problem

pytestmark = pytest.mark.asyncio(loop_scope="session")

GRANT = {"user_id", "access_token", "refresh_token", "expires_at"}
METHODS = {"get", "post", "put", "patch", "delete"}


async def test_registering_and_signing_in(studio: Studio) -> None:
    """Register gives 201 and tokens that work; login, refresh and logout do what they say."""
    who = {"email": "Anna.Contract@Example.com", "password": "correct horse"}
    async with studio.client() as client:
        registered = await client.post("/auth/register", json={**who, "name": "Anna"})
        assert registered.status_code == 201
        assert set(registered.json()) == GRANT
        assert registered.headers["cache-control"] == "no-store"
        problem(await client.post("/auth/register", json=who), 409, "/email")
        problem(await client.post("/auth/login", json={**who, "password": "wrong horse"}), 401)
        nobody = {**who, "email": "nobody@example.com"}
        problem(await client.post("/auth/login", json=nobody), 401)
        login = await client.post("/auth/login", json=who)
        assert (login.status_code, set(login.json())) == (200, GRANT)
        assert login.json()["user_id"] == registered.json()["user_id"]
        spent = {"refresh_token": login.json()["refresh_token"]}
        renewed = await client.post("/auth/refresh", json=spent)
        assert (renewed.status_code, set(renewed.json())) == (200, GRANT)
        problem(await client.post("/auth/refresh", json=spent), 401)
        first = {"refresh_token": registered.json()["refresh_token"]}
        assert (await client.post("/auth/logout", json=first)).status_code == 204
        problem(await client.post("/auth/refresh", json=first), 401)
    async with studio.client(registered.json()["access_token"]) as ended:
        problem(await ended.get("/me"), 401)


async def test_a_phone_number_is_enough(studio: Studio) -> None:
    """An account can be opened and used by a phone number."""
    who = {"phone": "+49 151 23456789", "password": "correct horse"}
    async with studio.client() as client:
        assert (await client.post("/auth/register", json=who)).status_code == 201
        assert (await client.post("/auth/login", json=who)).status_code == 200


async def test_what_is_no_account_is_422_or_400(studio: Studio) -> None:
    """A bad address, phone or password is 422 at its place; what is no such request 400."""
    async with studio.client() as client:
        path = "/auth/register"
        bad = {"email": "not an address", "password": "short"}
        problem(await client.post(path, json=bad), 422, "/email", "/password")
        problem(await client.post(path, json={"phone": "12", "password": "long enough"}), 422)
        problem(await client.post(path, json={"password": "correct horse"}), 422)
        wrongs: tuple[object, ...] = ([], {}, {"email": 5, "password": "x"}, {"email": "a@b.de"})
        for wrong in wrongs:
            problem(await client.post(path, json=wrong), 400)
        long = {"email": "a@example.com", "password": "x" * 2000}
        problem(await client.post(path, json=long), 422, "/password")
        problem(await client.post("/auth/login", json=long), 401)
        for route in ("/auth/refresh", "/auth/logout"):
            problem(await client.post(route, json={"refresh_token": 5}), 400)
        problem(await client.post("/auth/refresh", json={"refresh_token": "x" * 9000}), 401)


async def test_validate_token(studio: Studio) -> None:
    """GET validate-token says whom the token speaks for, or 401."""
    user = await studio.register()
    async with studio.client(user.token) as client:
        answer = await client.get("/validate-token")
        assert answer.status_code == 200
        assert set(answer.json()) == {"user_id", "roles", "expires_at"}
        assert answer.json()["user_id"] == user.user_id
        profile = (await client.get("/me")).json()
        assert profile["user_id"] == user.user_id
        assert "password" not in str(profile)


async def test_health(studio: Studio) -> None:
    """Health needs no token, names log, database and every projection with its lag."""
    async with httpx.AsyncClient(base_url=studio.url) as client:
        assert (await client.get("/health/live")).status_code == 200
        answer = await client.get("/health/ready")
        ready = answer.json()
        assert answer.status_code == 200
        assert ready["status"] == "ready"
        assert ready["log"]["status"] == ready["database"]["status"] == "ok"
        assert {"content", "runs"} <= set(ready["projections"])
        assert all("lag" in part for part in ready["projections"].values())
        metrics = await client.get("/metrics")
        assert metrics.status_code == 200
        assert metrics.headers["content-type"].startswith("text/plain")


async def test_the_page_and_its_files(studio: Studio) -> None:
    """The page is served at / with an ETag; what is no file of it is 404, also by tricks."""
    async with httpx.AsyncClient(base_url=studio.url) as client:
        page = await client.get("/")
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        again = await client.get("/", headers={"If-None-Match": page.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        for file in re.findall(r'(?:src|href)="(/assets/[^"]+)"', page.text):
            assert (await client.get(file)).status_code == 200
        for path in ("/etc/passwd", "/assets/%2e%2e/index.html", "/%2e%2e/app.py", "/x%00y"):
            problem(await client.get(path), 404)


async def document_of(studio: Studio) -> Json:
    """The OpenAPI document as it is served."""
    async with httpx.AsyncClient(base_url=studio.url) as client:
        answer = await client.get("/openapi/openapi.json")
    assert answer.status_code == 200
    document: Json = answer.json()
    return document


def references(node: object) -> list[str]:
    """All `$ref`s in a document."""
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [ref for value in node.values() for ref in references(value)]
    if isinstance(node, list):
        return [ref for value in node for ref in references(value)]
    return []


async def test_openapi_is_whole(studio: Studio) -> None:
    """The document is OpenAPI 3.1, its references lead somewhere, its operation ids are unique."""
    document = await document_of(studio)
    assert document["openapi"].startswith("3.1")
    for ref in references(document):
        node: object = document
        for step in ref.removeprefix("#/").split("/"):
            assert isinstance(node, dict), ref
            assert step in node, ref
            node = node[step]
    operations = [
        operation
        for item in document["paths"].values()
        for method, operation in item.items()
        if method in METHODS
    ]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    for operation in operations:
        assert operation.get("summary") or operation.get("description")
        assert any(status.startswith("2") for status in operation["responses"])


async def test_openapi_documents_every_route(studio: Studio) -> None:
    """Every route that answers is documented, those that take a body with its schema."""
    document = await document_of(studio)
    for method, path in (
        ("post", "/auth/register"),
        ("post", "/auth/login"),
        ("post", "/auth/refresh"),
        ("post", "/auth/logout"),
        ("get", "/validate-token"),
        ("get", "/me"),
        ("post", "/blobs"),
        ("get", "/blobs"),
        ("get", "/blobs/{blob_id}"),
        ("patch", "/blobs/{blob_id}"),
        ("delete", "/blobs/{blob_id}"),
        ("post", "/blobs/{blob_id}/restore"),
        ("post", "/buckets"),
        ("get", "/buckets"),
        ("get", "/buckets/tree"),
        ("get", "/buckets/{bucket_id}"),
        ("get", "/buckets/{bucket_id}/tree"),
        ("patch", "/buckets/{bucket_id}"),
        ("post", "/buckets/{bucket_id}/move"),
        ("delete", "/buckets/{bucket_id}"),
        ("post", "/buckets/{bucket_id}/restore"),
        ("post", "/blobs/{blob_id}/revert"),
        ("post", "/buckets/{bucket_id}/revert"),
        ("get", "/templates"),
        ("get", "/events"),
        ("get", "/processors"),
        ("get", "/processors/{processor_id}"),
        ("get", "/processors/{processor_id}/runs"),
        ("get", "/runs/{run_id}"),
    ):
        operation = document["paths"][f"/api/v1{path}"][method]
        if method in {"post", "patch"} and not path.endswith("/restore"):
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            assert schema.get("properties") or schema.get("$ref"), path


async def test_the_document_says_what_all_routes_share(studio: Studio) -> None:
    """Every route of the API documents its problems, its token and its conditional headers."""
    async with studio.client() as client:
        document = (await client.get(f"{studio.url}/openapi/openapi.json")).json()
    problem_ref = {"$ref": "#/components/schemas/Problem"}
    for path, methods in document["paths"].items():
        if not path.startswith("/api/"):
            continue
        for method, operation in methods.items():
            told = operation["responses"]["400"]["content"]
            assert told == {"application/problem+json": {"schema": problem_ref}}, (path, method)
            assert operation["security"] == (
                [] if path.startswith("/api/v1/auth/") else [{"bearer": []}]
            )
    for path, headers in (
        ("/blobs", {"Idempotency-Key"}),
        ("/blobs/{blob_id}/revert", {"Idempotency-Key", "If-Match"}),
        ("/buckets/{bucket_id}/move", {"Idempotency-Key", "If-Match"}),
    ):
        post = document["paths"][f"/api/v1{path}"]["post"]
        told = {one["name"] for one in post["parameters"] if one["in"] == "header"}
        assert told == headers
    assert set(document["components"]["schemas"]["Problem"]["required"]) == {
        "status",
        "title",
        "detail",
    }
