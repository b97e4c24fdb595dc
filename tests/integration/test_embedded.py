"""The nats-server child: alive while we are, never twice on one folder, and nobody else's."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from reyna.errors import SetupError
from reyna.log import embedded
from reyna.log.connection import Connection
from reyna.log.stream import Log
from tests.events import append_blob

ROOT = Path(__file__).parents[2]


def address_on(folder: Path) -> embedded.Address:
    """The address of the server that runs on `folder`."""
    address = embedded.read_address(folder)
    assert address is not None
    return address


async def answers(address: embedded.Address) -> bool:
    """Whether somebody listens there."""
    host, _, port = address.url.removeprefix("nats://").partition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


@asynccontextmanager
async def connected(server: embedded.Server) -> AsyncIterator[Log]:
    """The log of a server."""
    connection = await Connection.open(server.url, server.token)
    try:
        yield await Log.open(connection)
    finally:
        await connection.close()


async def test_a_server_lives_as_long_as_the_block(tmp_path: Path) -> None:
    """It answers inside the block, and is gone after it with its address."""
    async with embedded.running(tmp_path / "nats", "interval") as server:
        address = address_on(tmp_path / "nats")
        assert (address.url, address.token) == (server.url, server.token)
        assert await answers(address)
        async with connected(server) as log:
            await append_blob(log, "u1", "b1")
    assert not await answers(address)
    assert embedded.read_address(tmp_path / "nats") is None


async def test_what_was_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    """A second server on the folder has the first one's events."""
    for seq in (1, 2, 3):
        async with embedded.running(tmp_path, "interval") as server, connected(server) as log:
            assert await append_blob(log, "u1", f"b{seq}") == seq


async def test_a_killed_server_is_started_again_on_its_port(tmp_path: Path) -> None:
    """After kill -9 the connection comes back by itself, to everything that was acknowledged."""
    async with embedded.running(tmp_path, "interval") as server, connected(server) as log:
        await append_blob(log, "u1", "b1")
        killed = address_on(tmp_path)
        generation = log.connection.generation
        os.kill(killed.pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            while log.connection.generation == generation:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        assert await append_blob(log, "u1", "b2") == 2
        started = address_on(tmp_path)
        assert started.pid != killed.pid
        assert started.url == killed.url


@pytest.mark.parametrize("dies_with_its_parent", [True, False])
async def test_an_orphan_is_replaced(tmp_path: Path, dies_with_its_parent: bool) -> None:
    """What a program killed with -9 left running is stopped, and its events are all there."""
    # Where the platform cannot tie a child's life to its parent's, the server stays behind.
    first = "" if dies_with_its_parent else "embedded._die_with_parent = lambda: None\n"
    program = program_that_stores_one(first)
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert parent.stdout is not None
    async with asyncio.timeout(30):
        assert await parent.stdout.readline() == b"stored 1\n"
    orphan = address_on(tmp_path)
    parent.kill()
    await parent.wait()
    if not dies_with_its_parent:
        assert await answers(orphan)
    async with embedded.running(tmp_path, "interval") as server, connected(server) as log:
        assert address_on(tmp_path).pid != orphan.pid
        assert not await answers(orphan)
        assert await append_blob(log, "u1", "b2") == 2


def program_that_stores_one(first: str) -> str:
    """A program that starts a server, stores one event and waits to be killed."""
    return (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from reyna.log import embedded\n"
        "from reyna.log.connection import Connection\n"
        "from reyna.log.stream import Log\n"
        "from tests.events import append_blob\n"
        f"{first}"
        "async def main():\n"
        "    async with embedded.running(Path(sys.argv[1]), 'interval') as server:\n"
        "        log = await Log.open(await Connection.open(server.url, server.token))\n"
        "        print('stored', await append_blob(log, 'u1', 'b1'), flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )


async def test_no_two_servers_on_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second start beside a living program is an error, and the first goes on working."""
    async with embedded.running(tmp_path, "interval") as server, connected(server) as log:
        monkeypatch.setattr(embedded, "STOP_TIMEOUT", 0.2)
        with pytest.raises(SetupError, match="holds"):
            async with embedded.running(tmp_path, "interval"):
                raise AssertionError("there are two")
        await log.connection.ready(patience=30)
        assert await append_blob(log, "u1", "b1") == 1


@pytest.mark.parametrize("token", [None, "", "wrong"])
async def test_nobody_gets_in_without_the_token(
    nats: embedded.Server, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection with another token, or none, is refused."""
    monkeypatch.setattr("reyna.log.connection.CONNECT_TIMEOUT", 1)
    with pytest.raises(SetupError, match="No NATS server answers"):
        await Connection.open(nats.url, token)


async def test_the_folder_is_private(tmp_path: Path) -> None:
    """Token, log and lock can be read by nobody else."""
    folder = tmp_path / "data" / "nats"
    async with embedded.running(folder, "interval"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        files = [path for path in folder.iterdir() if path.is_file()]
        assert {path.name for path in files} == {"address.json", "lock", "nats.conf", "nats.log"}
        for path in files:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


@pytest.mark.parametrize(("sync", "interval"), [("always", "always"), ("interval", "2m")])
async def test_the_server_syncs_as_it_is_told(tmp_path: Path, sync: str, interval: str) -> None:
    """`always` has every acknowledged event on the disk; the server takes the setting."""
    async with embedded.running(tmp_path, sync) as server, connected(server) as log:
        assert f"sync_interval: {interval} " in (tmp_path / "nats.conf").read_text()
        assert await append_blob(log, "u1", "b1") == 1


async def test_only_this_machine_is_listened_to(tmp_path: Path) -> None:
    """The server takes connections on the loopback address alone."""
    async with embedded.running(tmp_path, "interval") as server:
        assert server.url == f"nats://127.0.0.1:{server.port}"
        assert f"listen: 127.0.0.1:{server.port}\n" in (tmp_path / "nats.conf").read_text()


async def test_a_server_that_cannot_start_says_why(nats: embedded.Server, tmp_path: Path) -> None:
    """A start that fails is an error in one line with the server's own last words."""
    (tmp_path / "other" / "store").mkdir(parents=True)
    (tmp_path / "other" / "store" / "jetstream").write_text("not a folder")
    with pytest.raises(SetupError, match=r"nats-server did not start: .+"):
        async with embedded.running(tmp_path / "other", "interval"):
            raise AssertionError("it started")


async def test_a_folder_without_a_server_has_no_address(tmp_path: Path) -> None:
    """Neither an empty folder nor one whose server has been stopped has an address."""
    assert embedded.read_address(tmp_path) is None
    (tmp_path / "address.json").write_text('{"url":"nats://127.0.0.1:1","token":"t","pid":1}')
    assert embedded.read_address(tmp_path) is None
