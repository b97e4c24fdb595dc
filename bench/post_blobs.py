"""`POST blobs` per second, beside PocketBase and beside JetStream alone.

One run loads every server at every number of connections, with fresh data and for the same time;
rounds take turns, and each figure is the median of its rounds.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import click
import msgspec
import uvloop

from bench import servers
from bench.report import Report, json_option, median, percentile, ratio
from bench.servers import Target
from reyna.domain.blob import BlobCreated, boundary
from reyna.domain.event import Meta, type_of
from reyna.ids import new_id, now
from reyna.log import embedded
from reyna.log.connection import Connection
from reyna.log.stream import Draft, Guard, Log

CONNECTIONS = (1, 16, 64)
PEER = "PocketBase, open to all"
_SCRIPT = Path(__file__).with_name("post.lua")


class Sample(msgspec.Struct, frozen=True):
    """What one load came to; p50 and p99 in milliseconds."""

    per_second: float
    p50: float
    p99: float
    errors: int = 0


Load = Callable[[int, float], Sample]
"""Puts `connections` on a running server for `seconds`."""


@contextmanager
def reyna(sync: str, folder: Path) -> Iterator[Load]:
    """The product, loaded by wrk. The views catch up before the next load begins."""
    with servers.reyna(folder, sync) as target:

        def load(connections: int, seconds: float) -> Sample:
            sample = wrk(target, folder, connections, seconds)
            servers.settle(target)
            return sample

        yield load


@contextmanager
def pocketbase(signed_in: bool, folder: Path) -> Iterator[Load]:
    """The peer, loaded by wrk."""
    with servers.pocketbase(folder, signed_in=signed_in) as target:
        yield partial(wrk, target, folder)


@contextmanager
def jetstream(sync: str, folder: Path) -> Iterator[Load]:
    """The log alone: guarded appends of the same blob by one Python process, without HTTP."""
    yield lambda connections, seconds: uvloop.run(_append(folder, sync, connections, seconds))


def wrk(target: Target, folder: Path, connections: int, seconds: float) -> Sample:
    """One load of `connections` that are kept alive, each sending when it has been answered."""
    body = folder / "body.json"
    body.write_bytes(target.body())
    headers = [f"--header={name}: {value}" for name, value in target.headers.items()]
    command = [
        servers.program("wrk"),
        "--threads=1",
        f"--connections={connections}",
        f"--duration={max(1, round(seconds))}s",
        "--timeout=10s",
        f"--script={_SCRIPT}",
        *headers,
        target.url + target.path,
        "--",
        str(body),
    ]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return msgspec.json.decode(said.strip().splitlines()[-1], type=Sample)


async def _append(folder: Path, sync: str, writers: int, seconds: float) -> Sample:
    taken: list[float] = []
    data = msgspec.Raw(b'{"sender_id":"bench","content":"' + b"." * 200 + b'"}')
    event = BlobCreated(schema_id="message-v1", data=data)

    async def write(log: Log, until: float) -> None:
        while (began := time.monotonic()) < until:
            blob_id = new_id()
            meta = Meta(id=new_id(), time=now(), type=type_of(event), actor="user:bench")
            draft = Draft("bench", blob_id, event, meta)
            await log.append([draft], Guard(boundary("bench", blob_id), 0))
            taken.append(time.monotonic() - began)

    async with embedded.running(folder / f"nats-{writers}", sync) as server:
        connection = await Connection.open(server.url, server.token)
        try:
            log = await Log.open(connection)
            until = time.monotonic() + seconds
            async with asyncio.TaskGroup() as tasks:
                for _ in range(writers):
                    tasks.create_task(write(log, until))
        finally:
            await connection.close()
    taken.sort()
    return Sample(len(taken) / seconds, percentile(taken, 50) * 1000, percentile(taken, 99) * 1000)


SYSTEMS: dict[str, Callable[[Path], AbstractContextManager[Load]]] = {
    PEER: partial(pocketbase, False),
    "PocketBase, signed in": partial(pocketbase, True),
    "reyna up, sync interval": partial(reyna, "interval"),
    "reyna up, sync always": partial(reyna, "always"),
    "JetStream alone, sync interval": partial(jetstream, "interval"),
    "JetStream alone, sync always": partial(jetstream, "always"),
}


@click.command()
@click.option("--seconds", default=5.0, show_default=True, help="How long each load lasts.")
@click.option("--rounds", default=3, show_default=True, help="How many times each is repeated.")
@click.option("--only", default="", help="Only the systems whose name has this in it.")
@json_option
def main(seconds: float, rounds: int, only: str, json_file: Path | None) -> None:
    """Measure how many blobs can be posted in a second."""
    samples: dict[tuple[str, int], list[Sample]] = {}
    for number in range(rounds):
        for name, system in SYSTEMS.items():
            if only not in name:
                continue
            click.echo(f"round {number + 1} of {rounds}: {name}", err=True)
            with tempfile.TemporaryDirectory() as folder, system(Path(folder)) as load:
                load(4, 1.0)
                for connections in CONNECTIONS:
                    found = load(connections, seconds)
                    samples.setdefault((name, connections), []).append(found)
    _report(samples).show(json_file)


def _report(samples: dict[tuple[str, int], list[Sample]]) -> Report:
    rows = []
    for (name, connections), found in samples.items():
        per_second = median(found, lambda one: one.per_second)
        peer = samples.get((PEER, connections))
        beside = median(peer, lambda one: one.per_second) if peer else per_second
        rows.append(
            (
                name,
                str(connections),
                f"{per_second:,.0f}",
                ratio(per_second, beside) if peer else "-",
                f"{median(found, lambda one: one.p50):.2f}",
                f"{median(found, lambda one: one.p99):.2f}",
                str(sum(one.errors for one in found)),
            )
        )
    columns = ("", "connections", "per second", f"to {PEER}", "p50 ms", "p99 ms", "errors")
    notes = (f"Bodies of {servers.BODY_BYTES} bytes. JetStream alone: one process, no HTTP.",)
    return Report("POST blobs", columns, tuple(rows), notes)


if __name__ == "__main__":
    main()
