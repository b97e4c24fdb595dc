"""A book compiler in a process of its own, for tests that kill it (`python -m
tests.compiler_process`). It kills itself when all files of a book are stored and their blobs are
not.
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

from processors.book_compiler import BookCompiler
from reyna.app import Place, studio
from reyna.domain.blob import BlobDerived
from reyna.log import queue
from reyna.log.stream import Draft, Guard, Log
from reyna.settings import Settings
from tests.support import DEADLINE, Studio

ACK_WAIT = 1.0
"""Seconds until another worker has what a dead one held."""


@asynccontextmanager
async def compiling(at: Studio) -> AsyncIterator[asyncio.subprocess.Process]:
    """A compiler on a studio's servers, which is killed at the end if it still lives."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.compiler_process", msgspec.json.encode(at.place).decode()),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def work(place: Place) -> None:
    """Compile until a book is about to appear."""
    queue.ACK_WAIT = ACK_WAIT
    append = Log.append

    async def dying(self: Log, drafts: Sequence[Draft], guard: Guard) -> int:
        if isinstance(drafts[0].event, BlobDerived):
            os.kill(os.getpid(), signal.SIGKILL)
        return await append(self, drafts, guard)

    Log.append = dying  # type: ignore[method-assign]  # the process is this test's alone
    async with studio(Settings(), place, processors=[BookCompiler()]):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work(msgspec.json.decode(sys.argv[1], type=Place)))
