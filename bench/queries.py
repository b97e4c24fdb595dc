"""GET queries of a big library: 100,000 blobs in 10,000 buckets, beside another writer's.

One connection asks one query after the other, all in turns, so that a busy moment falls on each of
them alike. Times are the client's, from the first byte sent to the last byte read; beside them
stands what the server's process used of the processors, which a busy machine changes less.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import quote

import click
import msgspec
import uvloop

from bench import servers
from bench.library import COMMON, RARE, TAG, Library
from bench.report import Report, json_option, percentile
from bench.servers import Target
from reyna import settings
from reyna.cli.folder import existing_log
from reyna.ids import now

CATCH_UP = 600.0
PAGE_AIM, TREE_AIM = 20.0, 100.0
"""Milliseconds."""


class Page(msgspec.Struct):
    """What is looked at of a list."""

    next_cursor: str | None = None


class Caller(msgspec.Struct):
    """Who asks, from `GET validate-token`."""

    user_id: str


class Sample(msgspec.Struct, frozen=True):
    """One answer: milliseconds at the client and of the server's processors, and its bytes."""

    client: float
    server: float
    size: int


async def store(owner: str, data: Path, blobs: int, buckets: int) -> Library:
    """Append the library of a user and, of half the size, another's; answers the former."""
    library, other = Library(owner, blobs, buckets), Library("other", blobs // 2, buckets // 2)
    async with existing_log(settings.load(os.environ, None), data) as log:
        await other.store(log)
        await library.store(log)
    return library


def paths(library: Library, ask: Asker) -> dict[str, str]:
    """What is asked, by what it is called in the table."""
    middle, moment = f"at={library.middle}", f"at={quote(now())}"
    bucket, root = f"bucket_id={library.conversation}", f"bucket_id={library.root}"
    deep = "/blobs?limit=200"
    for _ in range(20):
        page = msgspec.json.decode(ask.body(deep), type=Page)
        deep = f"/blobs?limit=200&cursor={page.next_cursor}"
    return {
        "blobs": "/blobs",
        "blobs, limit 200": "/blobs?limit=200",
        "blobs, 20 pages deep": deep.replace("limit=200&", ""),
        "blobs, last changed": "/blobs?sort=-updated_at",
        "blobs of a schema": "/blobs?schema_id=expanded-text-v1",
        "blobs of a source": f"/blobs?parent_id={library.source}",
        "blobs of a tag": f"/blobs?tag={TAG}",
        "blobs of a bucket of 10,000": f"/blobs?{bucket}",
        "of the bucket, last changed": f"/blobs?{bucket}&sort=-updated_at",
        "of the bucket, of a tag": f"/blobs?{bucket}&tag={TAG}",
        "blobs below a root": f"/blobs?{root}&recursive=true",
        "below a root, last changed": f"/blobs?{root}&recursive=true&sort=-updated_at",
        "q, a rare word": f"/blobs?q={RARE}",
        "q, a common word": f"/blobs?q={COMMON}",
        "q, common, in a bucket": f"/blobs?q={COMMON}&{bucket}",
        "q, common, below a root": f"/blobs?q={COMMON}&{root}&recursive=true",
        "blobs at a seq": f"/blobs?{middle}",
        "blobs at a time": f"/blobs?{moment}",
        "a bucket's blobs at a seq": f"/blobs?{bucket}&{middle}",
        "q, common, at a seq": f"/blobs?q={COMMON}&{middle}",
        "a blob": f"/blobs/{library.source}",
        "a blob at a seq": f"/blobs/{library.source}?{middle}",
        "lineage": f"/blobs/{library.source}/lineage",
        "buckets": "/buckets",
        "buckets of a parent": f"/buckets?parent_bucket_id={library.root}",
        "buckets of a type": "/buckets?type=book",
        "a bucket": f"/buckets/{library.conversation}",
        "tree": "/buckets/tree",
        "tree at a seq": f"/buckets/tree?{middle}",
        "subtree of a root": f"/buckets/{library.root}/tree",
        "subtree of a leaf": f"/buckets/{library.buckets[-1]}/tree",
    }


class Asker:
    """One connection that is kept alive."""

    def __init__(self, target: Target) -> None:
        self._pid = target.pid
        self._headers: Mapping[str, str] = target.headers
        self._connection = HTTPConnection(target.host, target.port, timeout=30)

    def body(self, path: str) -> bytes:
        """The answer to one query."""
        self._connection.request("GET", f"/api/v1{path}", headers=dict(self._headers))
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != HTTPStatus.OK:
            raise HTTPException(f"{path}: {answer.status} {body.decode()}")
        return body

    def sample(self, path: str) -> Sample:
        """What one query costs."""
        used, began = servers.processor_seconds(self._pid), time.monotonic()
        size = len(self.body(path))
        client = time.monotonic() - began
        server = servers.processor_seconds(self._pid) - used
        return Sample(client * 1000, server * 1000, size)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


async def measure(
    blobs: int, buckets: int, rounds: int, only: str
) -> dict[str, tuple[str, list[Sample]]]:
    """Every query's path and samples, after one round that does not count."""
    with tempfile.TemporaryDirectory() as folder, servers.reyna(Path(folder), "interval") as target:
        ask = Asker(target)
        try:
            owner = msgspec.json.decode(ask.body("/validate-token"), type=Caller).user_id
            # It would be idle for longer than a server waits.
            ask.close()
            click.echo("storing", err=True)
            library = await store(owner, Path(folder) / "data", blobs, buckets)
            click.echo("waiting for the views", err=True)
            await asyncio.to_thread(servers.settle, target, CATCH_UP)
            asked = {name: path for name, path in paths(library, ask).items() if only in name}
            samples: dict[str, list[Sample]] = {name: [] for name in asked}
            for number in range(rounds + 1):
                click.echo(f"round {number} of {rounds}", err=True)
                for name, path in asked.items():
                    sample = await asyncio.to_thread(ask.sample, path)
                    if number:
                        samples[name].append(sample)
        finally:
            ask.close()
    return {name: (path, samples[name]) for name, path in asked.items()}


@click.command()
@click.option("--blobs", default=100_000, show_default=True, help="What the caller has.")
@click.option("--buckets", default=10_000, show_default=True, help="What the caller has.")
@click.option("--rounds", default=100, show_default=True, help="How many times each is asked.")
@click.option("--only", default="", help="Only the queries whose name has this in it.")
@json_option
def main(blobs: int, buckets: int, rounds: int, only: str, json_file: Path | None) -> None:
    """Measure lists, trees, searches and time travel over HTTP."""
    rows = []
    for name, (path, samples) in uvloop.run(measure(blobs, buckets, rounds, only)).items():
        client, server = sorted(s.client for s in samples), sorted(s.server for s in samples)
        aim = TREE_AIM if path.partition("?")[0].endswith("tree") else PAGE_AIM
        p50 = percentile(client, 50)
        row = (f"{p50:.1f}", f"{percentile(client, 99):.1f}", f"{percentile(server, 50):.1f}")
        kept = "yes" if p50 < aim else "NO"
        rows.append((name, *row, f"{samples[-1].size / 1024:,.0f}", f"< {aim:.0f}", kept))
    columns = ("", "p50 ms", "p99 ms", "server's CPU ms", "KiB", "aim", "p50 in the aim")
    notes = (f"{blobs:,} blobs and {buckets:,} buckets; beside them half as many of another user.",)
    Report("Queries, one connection", columns, tuple(rows), notes).show(json_file)


if __name__ == "__main__":
    main()
