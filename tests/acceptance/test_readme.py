"""The README's five minutes, as they stand there, with the real command."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec

from tests.support import eventually

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def block_after(words: str) -> str:
    """The first shell block of the README after some words."""
    readme = (ROOT / "README.md").read_text()
    found = re.search(r"```sh\n(.*?)```", readme[readme.index(words) :], re.DOTALL)
    assert found is not None
    return found[1]


@asynccontextmanager
async def up(folder: Path, port: int) -> AsyncIterator[None]:
    """`reyna up` in a folder of its own, ready, and stopped by Ctrl-C at the end."""
    process = await asyncio.create_subprocess_exec(
        str(BIN / "reyna"), "up", "--port", str(port), cwd=folder, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with httpx.AsyncClient() as client:

            async def ready() -> bool:
                try:
                    answer = await client.get(f"http://127.0.0.1:{port}/health/ready")
                except httpx.TransportError:
                    return False
                return answer.status_code == httpx.codes.OK

            await eventually(ready)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0


async def shell(script: str, folder: Path) -> str:
    """What a shell script prints; it must succeed."""
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-euo",
        "pipefail",
        "-c",
        script,
        cwd=folder,
        env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, script
    return output.decode()


async def test_the_five_minutes_work(tmp_path: Path) -> None:
    """A new user's first commands answer as the README says, and the views come back."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    tour = block_after("## Five minutes").replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    async with up(tmp_path, port):
        printed = await shell(tour, tmp_path)
        assert '"blob_id"' in printed
        assert '"items":[{"blob_id"' in printed
        answers = await shell("reyna log --type blob.created", tmp_path)
        frames = [msgspec.json.decode(line) for line in answers.splitlines()]
        assert [frame["data"]["data"]["content"] for frame in frames] == ["The harbour at dawn."]
        await shell("reyna replay --verify", tmp_path)
    await shell("rm .reyna/views.db*", tmp_path)
    async with up(tmp_path, port):
        await shell("reyna replay --verify", tmp_path)
        await shell("reyna doctor", tmp_path)


def test_the_second_tour_names_only_real_commands() -> None:
    """Every `reyna` command of the README is one that there is."""
    from reyna.cli import _COMMANDS

    readme = (ROOT / "README.md").read_text()
    assert set(re.findall(r"uv run (?:--\S+ \S+ )*reyna (\w+)", readme)) <= set(_COMMANDS)
