"""A processor that does as its test says, and looking at what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path

import httpx
import msgspec

from reyna.content import Derived, ProcessorSpec, Progress, Readiness, Source
from reyna.errors import Transient
from reyna.settings import Settings
from tests.support import Json, Studio, eventually, read, running_studio

Step = Callable[[Source, Progress], Awaitable[Derived]]

SETTINGS_SCHEMA = {
    "type": "object",
    "properties": {
        "style": {"enum": ["plain", "rich"], "default": "plain"},
        "length": {"type": "number", "minimum": 1, "default": 2},
        "api_key": {"type": "string", "minLength": 4, "writeOnly": True},
        "mail": {
            "type": "object",
            "properties": {"host": {"type": "string"}, "pass": {"format": "password"}},
        },
    },
    "additionalProperties": False,
}


def expanded(source: Source, text: str = "written out") -> Derived:
    """A valid derivation of `source`."""
    original = msgspec.json.decode(source.data)["content"]
    data = {"original": original, "expanded": text, "expansion_ratio": 2.0}
    return Derived(
        data=msgspec.Raw(msgspec.json.encode(data)),
        model="paper",
        prompt_version="p1",
        tokens_in=3,
        tokens_out=5,
        cost=0.25,
        seconds=0.25,
    )


class Writer:
    """A processor that does as its test says: one step a call, the last one for ever."""

    def __init__(
        self,
        *steps: Step,
        ready: bool = True,
        reads: str = "text-input-v1",
        output: str = "expanded-text-v1",
        processor_id: str = "writer",
        active: bool = True,
        version: str = "1",
        attempt_timeout: float = 600.0,
        settings_schema: object = SETTINGS_SCHEMA,
    ) -> None:
        self.spec = ProcessorSpec(
            processor_id=processor_id,
            name="Writer",
            description="Writes out, in tests.",
            version=version,
            input_schema_id=reads,
            output_schema_id=output,
            default_active=active,
            attempt_timeout=attempt_timeout,
            settings_schema=msgspec.Raw(msgspec.json.encode(settings_schema)),
        )
        self.steps = list(steps) or [write_out]
        self.ready = ready
        self.calls: list[str] = []
        self.given: list[Json] = []

    def lifespan(self, settings: Settings) -> AbstractAsyncContextManager[None]:
        """Nothing to open."""
        return nullcontext()

    def readiness(self) -> Readiness:
        """As the test says."""
        return Readiness(self.ready, None if self.ready else "Sharpen a pencil.")

    async def run(self, source: Source, progress: Progress) -> Derived:
        """The next step."""
        step = self.steps[min(len(self.calls), len(self.steps) - 1)]
        self.calls.append(source.blob_id)
        self.given.append(msgspec.json.decode(source.settings))
        return await step(source, progress)


async def write_out(source: Source, progress: Progress) -> Derived:
    """Answer at once."""
    return expanded(source)


def fail(error: Exception) -> Step:
    """A step that fails."""

    async def step(source: Source, progress: Progress) -> Derived:
        raise error

    return step


async def hang(source: Source, progress: Progress) -> Derived:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError("nobody wakes it")


SOON = Transient("The pencil broke.", retry_after=0.1)


async def the_run(client: httpx.AsyncClient, source: Json, status: str) -> Json:
    """The one run of a blob just made, once it has come to a status."""
    found: list[Json] = []

    async def there() -> bool:
        runs = "/processors/writer/runs"
        page = await read(client, runs, source["seq"], blob_id=source["blob_id"])
        found[:] = page["items"]
        return any(run["status"] == status for run in found)

    await eventually(there)
    (run,) = found
    return run


async def run_at(client: httpx.AsyncClient, run_id: str, *statuses: str) -> Json:
    """A run, once it has come to one of some statuses."""
    found: list[Json] = []

    async def there() -> bool:
        answer = await client.get(f"/runs/{run_id}")
        found[:] = [answer.json()] if answer.status_code == httpx.codes.OK else []
        return bool(found) and found[0]["status"] in statuses

    await eventually(there)
    return found[0]


async def derived_of(client: httpx.AsyncClient, blob_id: str) -> list[Json]:
    """What was derived from a blob."""
    head = int((await client.get("/events", params={"limit": 1})).headers["reyna-seq"])
    page = await read(client, "/blobs", head, parent_id=blob_id)
    items: list[Json] = page["items"]
    return items


def of_run(events: list[Json]) -> list[str]:
    """The types of what a run wrote."""
    return [e["type"] for e in events if e["type"].startswith(("processor.", "blob.derived"))]


class Scene(msgspec.Struct, frozen=True):
    """A studio with one writer, and a user of it."""

    studio: Studio
    writer: Writer
    client: httpx.AsyncClient
    token: str


@asynccontextmanager
async def a_scene(
    folder: Path, writer: Writer | None = None, settings: Settings | None = None
) -> AsyncIterator[Scene]:
    """A studio on `folder` whose one writer does as its test says."""
    writer = writer or Writer()
    async with running_studio(folder, settings, processors=[writer]) as studio:
        user = studio.user()
        async with studio.client(user.token) as client:
            yield Scene(studio, writer, client, user.token)
