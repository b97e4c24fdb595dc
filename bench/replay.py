"""`reyna replay` of all projections, beside a consumer that only counts, and its memory.

The log is seeded once and grown from a quarter to its whole size; both sizes are replayed, so that
memory that grows with the log would show.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
from pathlib import Path

import click
import msgspec
import uvloop

from bench import servers
from bench.report import Report, json_option, median, ratio
from bench.seed import Seeder
from reyna.log import embedded, subjects
from reyna.log.connection import Connection
from reyna.log.follow import Follower
from reyna.log.stream import Log

MEBIBYTE = 1024 * 1024


class Sample(msgspec.Struct, frozen=True):
    """One pass over the log: its seconds, by the clock and of the processors, with those of
    starting, and the most memory in bytes.
    """

    seconds: float
    processors: float
    start: float = 0.0
    start_processors: float = 0.0
    peak: float = 0.0


async def count(log: Log) -> Sample:
    """Follow the log from its first event to its last, and look at nothing."""
    began, used, seen = time.monotonic(), time.process_time(), 0
    batches = Follower(log.connection, [subjects.ALL], 0).batches()
    try:
        async for batch in batches:
            seen += len(batch.messages)
            if not batch.pending:
                break
    finally:
        await batches.aclose()
    if seen != await log.head():
        raise SystemExit(f"Only {seen} events came.")
    return Sample(time.monotonic() - began, time.process_time() - used)


def replay(data: Path) -> Sample:
    """The real command on the whole log, and on its first event alone: that is its start."""
    start, whole = _command(data, "--to", "1"), _command(data)
    return Sample(whole.seconds, whole.processors, start.seconds, start.processors, whole.peak)


def _command(data: Path, *options: str) -> Sample:
    """`reyna replay` with options."""
    environment = os.environ | {"REYNA_SYNC": "interval"}
    command = [servers.program("reyna"), "replay", "--data", str(data), *options]
    with (data / "replay.log").open("wb") as log:
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=data, env=environment, stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"reyna replay failed:\n{(data / 'replay.log').read_text()}")
    return Sample(seconds, used.ru_utime + used.ru_stime, peak=used.ru_maxrss * 1024)


async def measure(events: int, rounds: int) -> list[tuple[str, int, list[Sample]]]:
    """Every pass at both sizes, in turns."""
    found: list[tuple[str, int, list[Sample]]] = []
    seeder = Seeder()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        async with embedded.running(data / "nats", "interval") as server:
            connection = await Connection.open(server.url, server.token)
            try:
                log = await Log.open(connection)
                for size in (events // 4, events):
                    await seeder.extend(log, size)
                    counted, replayed = [], []
                    for number in range(rounds):
                        click.echo(f"{size:,} events, round {number + 1} of {rounds}", err=True)
                        counted.append(await count(log))
                        replayed.append(await asyncio.to_thread(replay, data))
                    found += [("counts only", size, counted), ("reyna replay", size, replayed)]
            finally:
                await connection.close()
    return found


@click.command()
@click.option("--events", default=200_000, show_default=True, help="How long the log gets.")
@click.option("--rounds", default=3, show_default=True, help="How many times each is repeated.")
@json_option
def main(events: int, rounds: int, json_file: Path | None) -> None:
    """Measure how fast all views are rebuilt from the log."""
    rows = []
    beside: dict[int, float] = {}
    for name, size, samples in uvloop.run(measure(events, rounds)):
        start = median(samples, lambda one: one.start)
        peak = median(samples, lambda one: one.peak)
        per_second = size / median(samples, lambda one: one.seconds - one.start)
        per_processor = size / median(samples, lambda one: one.processors - one.start_processors)
        rows.append(
            (
                name,
                f"{size:,}",
                f"{median(samples, lambda one: one.seconds):.2f}",
                f"{start:.2f}" if start else "-",
                f"{per_second:,.0f}",
                f"{per_processor:,.0f}",
                ratio(per_processor, beside.setdefault(size, per_processor)),
                f"{peak / MEBIBYTE:.0f}" if peak else "-",
            )
        )
    columns = (
        "",
        "events",
        "seconds",
        "of that start",
        "events/s",
        "a CPU second",
        "to counting",
        "peak MiB",
    )
    notes = (
        "events/s leaves the start out: what the command needs to replay one event.",
        "To counting: by the seconds of the processors, which a busy machine changes less.",
    )
    Report("Replay of all projections", columns, tuple(rows), notes).show(json_file)


if __name__ == "__main__":
    main()
