"""The contract of instances and runs: answers, headers, and what bad input gets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from tests.support import Json, Studio, events_of, make_blob, problem, read, running_studio
from tests.writing import Writer

INSTANCE = "/processors/writer/instance"
RUNS = "/processors/writer/runs"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def studio(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Studio]:
    """A studio whose writer is off by default, and not ready for any run; and one that must be set
    up first.
    """
    demanding = {"type": "object", "required": ["api_key"], "properties": {"api_key": {}}}
    writers = [
        Writer(ready=False, active=False),
        Writer(ready=False, processor_id="demanding", settings_schema=demanding),
    ]
    folder = tmp_path_factory.mktemp("processors")
    async with running_studio(folder, processors=writers) as running:
        async with running.client(running.user().token) as client:
            made = await make_blob(client)
            for view in ("/processors", RUNS):
                await read(client, view, made["seq"])
        yield running


pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_instance_is_read_and_replaced(client: httpx.AsyncClient) -> None:
    """GET and PUT answer the same, with ETag and Reyna-Seq; PUT replaces, and is conditional."""
    before = await client.get(INSTANCE)
    assert before.json() == {
        "processor_id": "writer",
        "active": False,
        "settings": {},
        "secrets": [],
        "rerun_on_update": False,
        "seq": 0,
    }
    assert before.headers["etag"] == '"0"'
    body = {"active": True, "settings": {"style": "rich"}, "rerun_on_update": True}
    put = await client.put(INSTANCE, json=body, headers={"If-Match": '"0"'})
    assert put.status_code == 200
    seq = put.json()["seq"]
    assert put.json() == {"processor_id": "writer", "secrets": [], "seq": seq, **body}
    assert put.headers["etag"] == f'"{seq}"'
    assert put.headers["reyna-seq"] == str(seq)
    assert await read(client, INSTANCE, seq) == put.json()
    problem(await client.put(INSTANCE, json=body, headers={"If-Match": '"0"'}), 412)
    again = await client.put(INSTANCE, json=body, headers={"If-Match": f'"{seq}"'})
    assert again.json()["seq"] == seq
    (event,) = await events_of(client)
    assert (event["type"], event["processor_id"]) == ("processor.instance.changed", "writer")
    replaced = await client.put(INSTANCE, json={"active": False})
    assert (replaced.json()["settings"], replaced.json()["rerun_on_update"]) == ({}, False)


@pytest.mark.parametrize(
    ("settings", "paths"),
    [
        ({"style": "odd"}, ["/settings/style"]),
        ({"style": 1, "length": 0}, ["/settings/style", "/settings/length"]),
        ({"unknown": 1}, ["/settings"]),
        ({"api_key": 7}, ["/settings/api_key"]),
        ({"api_key": "abc"}, ["/settings/api_key"]),
        ({"mail": []}, ["/settings/mail"]),
        ({"mail": {"host": 1}}, ["/settings/mail/host"]),
    ],
)
async def test_settings_that_do_not_fit_are_refused(
    client: httpx.AsyncClient, settings: Json, paths: list[str]
) -> None:
    """Every wrong place is named, no value is repeated, and nothing is appended."""
    answer = await client.put(INSTANCE, json={"active": True, "settings": settings})
    problem(answer, 422, *paths)
    assert "abc" not in answer.text
    blob_id = (await make_blob(client))["blob_id"]
    answer = await client.post(RUNS, json={"blob_id": blob_id, "settings": settings})
    problem(answer, 422, *paths)
    assert [event["type"] for event in await events_of(client)] == ["blob.created"]


async def test_a_kept_secret_is_checked_and_never_told(client: httpx.AsyncClient) -> None:
    """A problem with other settings says nothing of the secrets that stay."""
    secret = {"active": True, "settings": {"api_key": "hush-hush"}}
    assert (await client.put(INSTANCE, json=secret)).status_code == 200
    answer = await client.put(INSTANCE, json={"active": True, "settings": {"style": "odd"}})
    problem(answer, 422, "/settings/style")
    assert "hush" not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"active": "yes"},
        {"active": True, "settings": []},
        {"active": True, "rerun_on_update": 1},
        [],
        {"active": True, "settings": {"a": [[[]]] * 2}, "x": None} | {"active": 1},
    ],
)
async def test_a_malformed_instance_is_refused(client: httpx.AsyncClient, body: object) -> None:
    """What is no instance is 400, and appends nothing."""
    problem(await client.put(INSTANCE, json=body), 400)
    assert await events_of(client) == []


async def test_oversized_settings_are_refused(client: httpx.AsyncClient) -> None:
    """Settings that are too large, or nested too deep, are refused."""
    large = {"active": True, "settings": {"style": "x" * 20_000}}
    problem(await client.put(INSTANCE, json=large), 422, "/settings")
    deep: object = 1
    for _ in range(200):
        deep = [deep]
    problem(await client.put(INSTANCE, json={"active": True, "settings": {"style": deep}}), 400)


@pytest.mark.parametrize("processor_id", ["none", "a.b", "*", "%3E", "%20"])
async def test_unknown_processors(client: httpx.AsyncClient, processor_id: str) -> None:
    """A processor that is not there is 404; what cannot be an id is 400."""
    status = 404 if processor_id == "none" else 400
    path = f"/processors/{processor_id}"
    problem(await client.get(f"{path}/instance"), status)
    problem(await client.get(f"{path}/health"), status)
    problem(await client.put(f"{path}/instance", json={"active": True}), status)
    problem(await client.post(f"{path}/runs", json={"blob_id": "b"}), status)


async def test_a_request_is_accepted(client: httpx.AsyncClient) -> None:
    """A run by hand answers 202 with its id and place, and is queued from then on."""
    blob = await make_blob(client)
    answer = await client.post(RUNS, json={"blob_id": blob["blob_id"]})
    assert answer.status_code == 202
    run_id, seq = answer.json()["run_id"], answer.json()["seq"]
    assert answer.headers["location"] == f"/api/v1/runs/{run_id}"
    run = await read(client, f"/runs/{run_id}", seq)
    assert (run["status"], run["blob_id"], run["source_seq"]) == ("queued", blob["blob_id"], seq)
    assert run["detail"] == "Sharpen a pencil."
    health = await read(client, "/processors/writer/health", seq)
    assert health["status"] == "down"
    assert health["queued"] >= 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"blob_id": "a", "bucket_id": "b"},
        {"bucket_id": "b", "schema_id": "text-input-v1"},
        {"schema_id": "message-v1"},
    ],
)
async def test_a_request_names_one_source_that_fits(client: httpx.AsyncClient, body: Json) -> None:
    """Nothing, more than one, or another schema to run over is 422."""
    problem(await client.post(RUNS, json=body), 422)
    assert await events_of(client) == []


@pytest.mark.parametrize(
    "body",
    [
        {"blob_id": "a.b"},
        {"bucket_id": ">"},
        {"blob_id": 1},
        {"blob_id": "a", "settings": 1},
        {"schema_id": "text-input-v1", "per_minute": 0},
        {"schema_id": "text-input-v1", "per_minute": "many"},
    ],
)
async def test_a_malformed_request_is_refused(client: httpx.AsyncClient, body: Json) -> None:
    """What cannot be understood is 400."""
    problem(await client.post(RUNS, json=body), 400)


async def test_sources_that_cannot_be_run(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    """Unknown, foreign and trashed blobs are 404, another schema is 422; nothing is appended."""
    message = {"schema_id": "message-v1", "data": {"content": "x", "sender_id": "me"}}
    other = (await client.post("/blobs", json=message)).json()["blob_id"]
    trashed = (await make_blob(client))["blob_id"]
    await client.delete(f"/blobs/{trashed}")
    foreign = (await make_blob(stranger))["blob_id"]
    for blob_id in ("nothing", trashed, foreign):
        problem(await client.post(RUNS, json={"blob_id": blob_id}), 404)
    problem(await client.post(RUNS, json={"blob_id": other}), 422, "/blob_id")
    types = {event["type"] for event in await events_of(client)}
    assert types == {"blob.created", "blob.deleted"}


async def test_a_processor_that_must_be_set_up_first(client: httpx.AsyncClient) -> None:
    """An instance whose own settings do not fit is 409 with the place; with what is missing in the
    request it runs.
    """
    blob_id = (await make_blob(client))["blob_id"]
    path = "/processors/demanding/runs"
    answer = await client.post(path, json={"blob_id": blob_id})
    problem(answer, 409, "/settings")
    given = {"blob_id": blob_id, "settings": {"api_key": "k"}}
    assert (await client.post(path, json=given)).status_code == 202


async def test_runs_are_their_owners(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    """Another's run is neither retried nor cancelled: 404, as for one that never was."""
    blob_id = (await make_blob(client))["blob_id"]
    run_id = (await client.post(RUNS, json={"blob_id": blob_id})).json()["run_id"]
    for action in ("retry", "cancel"):
        problem(await stranger.post(f"/runs/{run_id}/{action}"), 404)
        problem(await client.post(f"/runs/{'0' * 32}/{action}"), 404)
        problem(await client.post(f"/runs/a.b/{action}"), 400)
    problem(await client.post(f"/runs/{run_id}/retry"), 409)
    key = {"Idempotency-Key": "stop"}
    first = await client.post(f"/runs/{run_id}/cancel", headers=key)
    assert first.status_code == 202
    assert (await client.post(f"/runs/{run_id}/cancel", headers=key)).json() == first.json()
    problem(await client.post(f"/runs/{run_id}/cancel"), 409)


async def test_a_users_secrets_are_not_in_another_users_way(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    """Instances are each user's own."""
    await client.put(INSTANCE, json={"active": True, "settings": {"style": "rich"}})
    assert (await stranger.get(INSTANCE)).json()["seq"] == 0


async def test_a_processor_id_is_no_run(client: httpx.AsyncClient) -> None:
    """An instance's boundary is not taken for a run."""
    await client.put(INSTANCE, json={"active": True})
    for action in ("retry", "cancel"):
        problem(await client.post(f"/runs/writer/{action}"), 404)
