"""Somebody else's plugin, built and installed beside our wheel in an environment of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from reyna.client import Client
from reyna.testing import derived_from
from tests.program import environment, up

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "docs" / "examples" / "reyna-word-count"
UV = os.environ.get("UV", "uv")
# Seconds for one step; building asks the package index for what builds.
STEP = 240.0


class Words(msgspec.Struct):
    """What the plugin's route answers."""

    texts: int
    words: int


async def step(*command: str | Path, folder: Path) -> None:
    """Run a command in a folder, away from this environment; it must succeed."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=folder,
        # The page is no matter of a plugin's, and takes its time.
        env=environment({"REYNA_SKIP_PAGE": "1"}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(STEP):
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


@pytest.mark.timeout(600)
async def test_a_plugin_from_another_package_works_once_it_is_installed(tmp_path: Path) -> None:
    """The guides' package, installed beside ours, passes its own tests there; `reyna up` finds it:
    its processor registers itself, runs, and its view answers.
    """
    plugin = tmp_path / "plugin"
    shutil.copytree(PLUGIN, plugin, ignore=shutil.ignore_patterns("__pycache__", ".*", "dist"))
    wheels, venv = tmp_path / "wheels", tmp_path / "venv"
    python = venv / "bin" / "python"
    await step(UV, "build", "--quiet", "--wheel", "--out-dir", wheels, ROOT, folder=tmp_path)
    await step(UV, "build", "--quiet", "--wheel", "--out-dir", wheels, plugin, folder=tmp_path)
    await step(UV, "venv", "--quiet", "--python", sys.executable, venv, folder=tmp_path)
    (theirs,) = wheels.glob("reyna_word_count-*.whl")
    await step(
        *(UV, "pip", "install", "--quiet", "--python", python, "--find-links", wheels),
        f"reyna-word-count[testing] @ {theirs.as_uri()}",
        folder=tmp_path,
    )
    await step(python, "-P", "-m", "pytest", "-q", "tests", folder=plugin)

    async with (
        up(tmp_path / "data", command=python.with_name("reyna")) as program,
        Client(program.door.url) as studio,
    ):
        await studio.register(email=f"{uuid4().hex}@example.com", password="correct horse")
        found = await studio.processors.get("word-count")
        assert (found.input_schema_id, found.status) == ("text-input-v1", "healthy")
        await studio.processors.set_up("word-count", active=True, settings={"shortest": 2})
        text = await studio.blobs.create("text-input-v1", {"content": "I saw a whale."})
        count = await derived_from(studio, text.blob_id, "word-count")
        assert (count.schema_id, count.data) == ("word-count-v1", {"words": 2})
        assert await studio.query("/words", Words, min_seq=count.seq) == Words(1, 2)
