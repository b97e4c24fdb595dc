"""The real command as a child process, for acceptance tests: started, watched, stopped, killed."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support import DEADLINE, Door

REYNA = Path(sys.executable).parent / "reyna"
_READY = re.compile(r"ready at (http://\S+)")
# What the machine of a developer may have set, and a test must not inherit.
_OURS = ("REYNA_", "OPENAI_")


class Program:
    """A running `reyna up`, behind its `door`. `said` is what it has written to stderr so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[str] = []
        self.door = Door("")

    async def wait_ready(self) -> None:
        """Return once it has said where it listens."""
        assert self.process.stderr is not None
        async with asyncio.timeout(DEADLINE):
            async for line in self.process.stderr:
                self.said.append(line.decode())
                if found := _READY.search(self.said[-1]):
                    self.door = Door(found[1])
                    return
        raise AssertionError("it ended: " + "".join(self.said))

    async def listen(self) -> None:
        """Take in what it says until it ends, so that it never waits for a reader."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.said.append(line.decode())

    async def kill(self) -> None:
        """Kill the program, and it alone, as a crash would."""
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        """End it by Ctrl-C; it must end well."""
        self.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(DEADLINE):
            assert await self.process.wait() == 0, "".join(self.said)


@asynccontextmanager
async def up(
    folder: Path,
    settings: Mapping[str, str] | None = None,
    *,
    port: int = 0,
    command: Path = REYNA,
) -> AsyncIterator[Program]:
    """`reyna up` on a data folder and a port; ended by Ctrl-C if it still runs at the end."""
    process = await asyncio.create_subprocess_exec(
        str(command),
        "up",
        "--port",
        str(port),
        "--data",
        str(folder),
        env=environment(settings),
        cwd=folder.parent,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    program = Program(process)
    try:
        await program.wait_ready()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(program.listen())
            try:
                yield program
            finally:
                if process.returncode is None:
                    await program.stop()
    finally:
        if process.returncode is None:
            await program.kill()


async def run(*arguments: str, folder: Path) -> str:
    """What `reyna …` prints on a data folder; it must succeed."""
    process = await asyncio.create_subprocess_exec(
        str(REYNA),
        *arguments,
        "--data",
        str(folder),
        env=environment(),
        cwd=folder.parent,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(DEADLINE):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without settings of the machine's own, and with these."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return own | dict(settings or {})
