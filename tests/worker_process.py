"""A worker in a process of its own, for tests that kill it (`python -m tests.worker_process`).

It counts the calls of its provider in a file, and kills itself at the step that it is told: before
or after the append of an event of some type.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from reyna.app import Place, studio
from reyna.content import Derived, Progress, Source
from reyna.domain.event import type_of
from reyna.log import queue
from reyna.log.stream import Draft, Guard, Log
from reyna.settings import Settings
from tests.support import DEADLINE, Studio
from tests.writing import Writer, expanded

ACK_WAIT = 1.0


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """Where the worker works, where it counts, and when it dies: `before blob.derived`."""

    place: Place
    calls: str
    hang: bool = False
    die: str = ""


class Worker(msgspec.Struct, frozen=True):
    """A worker process."""

    process: asyncio.subprocess.Process
    calls_file: Path

    @property
    def calls(self) -> list[str]:
        """The blobs that the provider was asked about, by this worker and those before it."""
        return self.calls_file.read_text().split() if self.calls_file.exists() else []

    async def died(self) -> None:
        """Return once it has been killed."""
        async with asyncio.timeout(DEADLINE):
            assert await self.process.wait() == -signal.SIGKILL


@asynccontextmanager
async def working(
    at: Studio, folder: Path, *, die: str = "", hang: bool = False
) -> AsyncIterator[Worker]:
    """A worker on a studio's servers, which is killed at the end if it still lives."""
    calls = folder / "calls"
    orders = Orders(place=at.place, calls=str(calls), die=die, hang=hang)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.worker_process",
        msgspec.json.encode(orders).decode(),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            assert await process.stdout.readline() == b"ready\n"
        yield Worker(process, calls)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def count(calls: Path, blob_id: str) -> None:
    """Remember that the provider was asked about a blob."""
    with calls.open("a") as file:
        file.write(f"{blob_id}\n")


async def work(orders: Orders) -> None:
    """Work as ordered, for ever."""
    queue.ACK_WAIT = ACK_WAIT
    append = Log.append

    async def dying(self: Log, drafts: Sequence[Draft], guard: Guard) -> int:
        type_ = type_of(drafts[0].event)
        if orders.die == f"before {type_}":
            os.kill(os.getpid(), signal.SIGKILL)
        seq = await append(self, drafts, guard)
        if orders.die == f"after {type_}":
            os.kill(os.getpid(), signal.SIGKILL)
        return seq

    Log.append = dying  # type: ignore[method-assign]  # the process is this test's alone

    async def write_out(source: Source, progress: Progress) -> Derived:
        await asyncio.to_thread(count, Path(orders.calls), source.blob_id)
        if orders.hang:
            await asyncio.Event().wait()
        return expanded(source)

    async with studio(Settings(), orders.place, processors=[Writer(write_out)]):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work(msgspec.json.decode(sys.argv[1], type=Orders)))
