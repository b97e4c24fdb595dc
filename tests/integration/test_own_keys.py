"""A user's own key and settings of the text expansion: used for that user alone, told to nobody."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest

from processors import _models
from processors.text_expansion import TextExpansion
from reyna.content import Source
from reyna.errors import Transient
from reyna.settings import Settings
from tests import provider as providers
from tests.provider import Asked, Provider, refuse
from tests.support import (
    Json,
    Studio,
    events_of,
    eventually,
    make_blob,
    problem,
    read,
    running_studio,
)

INSTANCE = "/processors/text-expansion/instance"
RUNS = "/processors/text-expansion/runs"
KEY = "sk-of-a-user-0123456789"
OPERATORS = "sk-of-the-operator-0123"


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """A provider that writes out what it is asked for."""
    async with providers.running() as provider:
        yield provider


@pytest.fixture
async def studio(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Studio]:
    """A studio whose texts are expanded there, with the operator's key and organization."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-the-operator")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-the-operator")
    settings = Settings(
        sync="interval",
        text_base_url=provider.base_url,
        text_model="paper",
        text_price=(1.0, 1.0),
        openai_api_key=OPERATORS,
    )
    async with running_studio(tmp_path, settings, [TextExpansion()]) as studio:
        yield studio


@pytest.fixture
async def client(studio: Studio) -> AsyncIterator[httpx.AsyncClient]:
    """A user of it."""
    async with studio.client(studio.user().token) as client:
        yield client


async def set_up(client: httpx.AsyncClient, **settings: object) -> httpx.Response:
    """Set the user's instance up."""
    return await client.put(INSTANCE, json={"active": True, "settings": settings})


async def ended(client: httpx.AsyncClient, blob: Json) -> Json:
    """A blob's run, when it has ended."""
    found: list[Json] = []

    async def there() -> bool:
        page = await read(client, RUNS, blob["seq"], blob_id=blob["blob_id"])
        found[:] = [run for run in page["items"] if run["status"] in {"completed", "failed"}]
        return bool(found)

    await eventually(there)
    return found[0]


def paid_by(asked: Asked) -> str:
    """The key that a request came with."""
    return asked.headers["authorization"].removeprefix("Bearer ")


async def test_a_key_pays_for_its_own_users_texts_alone(
    studio: Studio, client: httpx.AsyncClient, provider: Provider
) -> None:
    """Whoever set a key is asked for with it and with their model, everybody else with the
    operator's.
    """
    assert (await set_up(client, api_key=KEY, model="mine")).status_code == 200
    mine = await ended(client, await make_blob(client, "mine"))
    async with studio.client(studio.user().token) as other:
        theirs = await ended(other, await make_blob(other, "theirs"))
    assert [(paid_by(one), one.body.model, one.text) for one in provider.asked] == [
        (KEY, "mine", "mine"),
        (OPERATORS, "paper", "theirs"),
    ]
    assert mine["cost"] is None
    assert theirs["cost"] == pytest.approx(30 / 1e6)


async def test_no_account_of_the_operators_goes_with_a_users_key(
    client: httpx.AsyncClient, provider: Provider
) -> None:
    """The headers that name an organization and a project go with the operator's key alone."""
    await ended(client, await make_blob(client, "before"))
    await set_up(client, api_key=KEY)
    await ended(client, await make_blob(client, "mine"))
    theirs, mine = provider.asked
    names = {"openai-organization", "openai-project"}
    assert names <= set(theirs.headers)
    assert not names & set(mine.headers)


async def test_without_a_model_of_the_servers_a_key_buys_one(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's own key works at OpenAI's endpoint, whatever else the server has or lacks."""
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    monkeypatch.setattr(_models, "OPENAI_URL", provider.base_url)
    expansion = TextExpansion()
    source = Source(
        owner="u1",
        blob_id="b1",
        schema_id="text-input-v1",
        data=msgspec.Raw(b'{"content": "mine"}'),
        settings=msgspec.Raw(msgspec.json.encode({"api_key": KEY})),
    )

    async def ignore(text: str) -> None:
        """Progress that nobody watches."""

    async with expansion.lifespan(Settings()):
        await expansion.run(source, ignore)
        with pytest.raises(Transient):
            await expansion.run(
                msgspec.structs.replace(source, settings=msgspec.Raw(b"{}")), ignore
            )
    (asked,) = provider.asked
    assert (paid_by(asked), asked.body.model) == (KEY, _models.OPENAI_MODEL)


async def test_a_key_is_nowhere_to_be_read(
    client: httpx.AsyncClient, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in the instance, the events, the runs or the logs, though the provider repeats it."""
    caplog.set_level(logging.DEBUG)
    provider.steps += [
        refuse(400, {"message": f"Bad key {KEY}, or sk-of-a-****6789."}),
        refuse(401, {"message": f"Incorrect API key provided: {KEY}"}),
    ]
    put = await set_up(client, api_key=KEY)
    failed = [await ended(client, await make_blob(client, "mine")) for _ in range(2)]
    assert [run["status"] for run in failed] == ["failed", "failed"]
    assert "Bad key …, or …" in failed[0]["error"]
    assert "your own key" in failed[1]["error"]
    assert put.json()["secrets"] == ["/api_key"]
    got = await client.get(INSTANCE)
    events = await events_of(client)
    for text in (put.text, got.text, repr(events), repr(failed), caplog.text):
        assert KEY not in text
        assert "6789" not in text


async def test_a_bad_key_of_the_operators_is_told_as_such(
    client: httpx.AsyncClient, provider: Provider
) -> None:
    """A user who set no key is not told to set theirs anew."""
    provider.steps.append(refuse(401))
    run = await ended(client, await make_blob(client, "mine"))
    assert run["attempts"] == 1
    assert "OPENAI_API_KEY" in run["error"]


async def test_settings_of_one_run_go_before_the_instances(
    client: httpx.AsyncClient, provider: Provider
) -> None:
    """A run by hand takes what it is given, and the instance's for the rest."""
    await set_up(client, style="dry", length_factor=2)
    blob = await make_blob(client, "mine")
    await ended(client, blob)
    asked = {"blob_id": blob["blob_id"], "settings": {"length_factor": 5, "language": "fr"}}
    assert (await client.post(RUNS, json=asked)).status_code == 202

    async def both() -> bool:
        return len(provider.asked) == 2

    await eventually(both)
    said = provider.asked[1].system
    assert "about 5 times" in said
    assert "tag is fr" in said
    assert "this style: dry" in said


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"length_factor": 100}, "/settings/length_factor"),
        ({"model": "an-expensive-one"}, "/settings"),
        ({"base_url": "http://169.254.169.254/latest"}, "/settings"),
    ],
)
async def test_settings_that_make_no_sense_are_refused(
    client: httpx.AsyncClient, settings: Json, path: str
) -> None:
    """For good and for one run; the operator's key buys no other model, and no other endpoint."""
    problem(await set_up(client, **settings), 422, path)
    blob = await make_blob(client, "mine")
    asked = {"blob_id": blob["blob_id"], "settings": settings}
    problem(await client.post(RUNS, json=asked), 422, path)
