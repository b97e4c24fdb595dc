"""What running a processor costs: its queue, its events, and the way to the reader's eyes.

The first part lets one and two processes of workers empty a queue of a processor that does nothing.
The second asks a quick provider, bare and through a run of `text-expansion`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager, nullcontext
from pathlib import Path

import click
import msgspec
import openai
import uvloop

from bench import servers
from bench.report import Report, json_option, percentile, ratio
from reyna.app import Place, studio
from reyna.client import Client, Event, Progress
from reyna.content import Derived, ProcessorSpec, Readiness, Source
from reyna.content import Progress as Writer
from reyna.database import sqlite_url
from reyna.domain import blob
from reyna.domain.blob import BlobCreated
from reyna.domain.event import Meta, type_of
from reyna.ids import new_id, now
from reyna.log import embedded, subjects
from reyna.log.connection import Connection
from reyna.log.follow import Follower
from reyna.log.stream import Draft, Guard, Log
from reyna.settings import Settings

SECRET = "a secret of no worth, for benchmarks alone"
OWNERS = 50


class Nothing:
    """A processor that answers at once."""

    spec = ProcessorSpec(
        processor_id="nothing",
        name="Nothing",
        description="Does nothing.",
        version="1",
        input_schema_id="message-v1",
        output_schema_id="message-v1",
        subscribe_events=("blob.created",),
        default_active=True,
    )

    def lifespan(self, _: Settings) -> AbstractAsyncContextManager[None]:
        """Nothing to open."""
        return nullcontext()

    def readiness(self) -> Readiness:
        """Always."""
        return Readiness(True)

    async def run(self, source: Source, _: Writer) -> Derived:
        """The same again."""
        return Derived(data=source.data)


# ---------------------------------------------------------------- workers


async def work(url: str, token: str, folder: str) -> None:
    """Work until killed: a studio without views, on a log that is there."""
    place = Place(
        nats_url=url,
        nats_token=token,
        accounts_url=sqlite_url(Path(folder) / f"accounts-{os.getpid()}.db"),
        views_url=sqlite_url(Path(folder) / f"views-{os.getpid()}.db"),
        secret=SECRET,
    )
    async with studio(Settings(), place, projections=[], processors=[Nothing()]):
        await asyncio.Event().wait()


@contextmanager
def workers(server: embedded.Server, folder: Path, number: int) -> Iterator[None]:
    """So many processes of workers."""
    command = [sys.executable, "-m", "bench.processors", "--work", server.url, str(server.token)]
    with (folder / "workers.log").open("ab") as log:
        running = [
            subprocess.Popen([*command, str(folder)], stdout=log, stderr=log) for _ in range(number)
        ]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


async def queue(log: Log, events: int) -> None:
    """Append blobs of many users, all at once."""
    gate = asyncio.Semaphore(64)

    async def post(number: int) -> None:
        owner, blob_id = f"owner{number % OWNERS}", new_id()
        data = msgspec.Raw(b'{"content":"rain","sender_id":"bench"}')
        event = BlobCreated(schema_id="message-v1", data=data)
        meta = Meta(id=new_id(), time=now(), type=type_of(event), actor=f"user:{owner}")
        async with gate:
            draft = Draft(owner, blob_id, event, meta)
            await log.append([draft], Guard(blob.boundary(owner, blob_id), 0))

    await asyncio.gather(*(post(number) for number in range(events)))


async def emptied(log: Log, since: int, events: int) -> float:
    """The seconds from the first run's end to the last one's."""
    filters = [subjects.of_runs(None, "completed", Nothing.spec.processor_id)]
    batches = Follower(log.connection, filters, since).batches()
    seen, first = 0, 0.0
    try:
        async for batch in batches:
            seen += len(batch.messages)
            first = first or (time.monotonic() if seen else 0.0)
            if seen >= events:
                break
    finally:
        await batches.aclose()
    return time.monotonic() - first


async def throughput(events: int, numbers: tuple[int, ...]) -> list[tuple[int, float]]:
    """Runs in a second, by the number of processes."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with embedded.running(folder / "nats", "interval") as server:
            connection = await Connection.open(server.url, server.token)
            try:
                log = await Log.open(connection)
                for number in numbers:
                    click.echo(f"{events:,} runs, {number} processes of workers", err=True)
                    # Only what comes after a processor's registration is its work.
                    if number == numbers[0]:
                        with workers(server, folder, 1):
                            await registered(log)
                    since = await log.head()
                    await queue(log, events)
                    with workers(server, folder, number):
                        found.append((number, events / await emptied(log, since, events)))
            finally:
                await connection.close()
    return found


async def registered(log: Log) -> None:
    """Return when the processor is registered: only what comes after is its work."""
    batches = Follower(log.connection, ["reyna.system.processor.nothing.registered"], 0).batches()
    try:
        async for batch in batches:
            if batch.messages:
                return
    finally:
        await batches.aclose()


# ---------------------------------------------------------------- one run


class Sample(msgspec.Struct, frozen=True):
    """Milliseconds of one text: the bare call, its first word, and the same through a run."""

    bare: float
    bare_first: float
    run: float
    first: float


@contextmanager
def provider() -> Iterator[str]:
    """The provider, in a process of its own."""
    port = servers.free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.provider", str(port)])
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


async def bare(client: openai.AsyncOpenAI) -> tuple[float, float]:
    """One streamed call: milliseconds to its first word and to its end."""
    began, first = time.monotonic(), 0.0
    stream = await client.chat.completions.create(
        model="bench", messages=[{"role": "user", "content": "rain"}], stream=True
    )
    async for chunk in stream:
        if not first and chunk.choices and chunk.choices[0].delta.content:
            first = time.monotonic() - began
    return first * 1000, (time.monotonic() - began) * 1000


async def through(studio_: Client, items: AsyncIterator[object], text: str) -> tuple[float, float]:
    """One text: milliseconds from its POST to its first word at the socket, and to the blob."""
    began, first = time.monotonic(), 0.0
    made = await studio_.blobs.create("text-input-v1", {"content": text})
    async for item in items:
        passed = time.monotonic() - began
        if isinstance(item, Progress) and item.blob_id == made.blob_id:
            first = first or passed
        if (
            isinstance(item, Event)
            and item.type == "blob.derived"
            and item.parent_id == made.blob_id
        ):
            return (first or passed) * 1000, passed * 1000
    raise SystemExit("The stream ended.")


async def latencies(runs: int) -> list[Sample]:
    """Bare calls and runs, in turns."""
    found: list[Sample] = []
    async with AsyncExitStack() as stack:
        url = stack.enter_context(provider())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        more = {"REYNA_TEXT_BASE_URL": url, "REYNA_TEXT_MODEL": "bench"}
        target = stack.enter_context(servers.reyna(folder, "interval", more))
        call = await stack.enter_async_context(openai.AsyncOpenAI(base_url=url, api_key="none"))
        client = await stack.enter_async_context(Client(target.url))
        await client.login(password="correct horse", email="bench@example.com")
        events = await stack.enter_async_context(client.stream("*"))
        items = events.items()
        for number in range(runs + 5):
            bare_first, whole = await bare(call)
            first, run = await through(client, items, f"rain, and the last tram of day {number}")
            if number >= 5:
                found.append(Sample(whole, bare_first, run, first))
    return found


@click.command()
@click.option("--events", default=3_000, show_default=True, help="Runs of the empty processor.")
@click.option("--runs", default=200, show_default=True, help="Texts through the provider.")
@click.option("--work", nargs=3, hidden=True, help="Be a process of workers.")
@json_option
def main(events: int, runs: int, work: tuple[str, str, str] | None, json_file: Path | None) -> None:
    """Measure what it costs to run a processor."""
    if work:
        uvloop.run(_work(*work))
        return
    rows = []
    speeds = uvloop.run(throughput(events, (1, 2)))
    for number, per_second in speeds:
        beside = ratio(per_second, speeds[0][1])
        rows.append((f"empty runs/s, {number} process(es)", f"{per_second:,.0f}", "-", beside))
    samples = uvloop.run(latencies(runs))
    for name, of in (
        ("provider bare, whole answer, ms", lambda one: one.bare),
        ("blob posted to blob derived, ms", lambda one: one.run),
        ("provider bare, first word, ms", lambda one: one.bare_first),
        ("blob posted to first word at the socket, ms", lambda one: one.first),
    ):
        ordered = sorted(of(one) for one in samples)
        p50, p99 = percentile(ordered, 50), percentile(ordered, 99)
        rows.append((name, f"{p50:.1f}", f"{p99:.1f}", "-"))
    Report("processors", ("what", "p50 or rate", "p99", "beside"), tuple(rows)).show(json_file)


_work = work

if __name__ == "__main__":
    main()
