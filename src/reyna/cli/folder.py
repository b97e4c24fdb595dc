"""The data folder of `reyna up`: its lock, its secret, its files, and how a command finds the
servers it works on.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

import click
import msgspec

from reyna.errors import SetupError
from reyna.log import embedded
from reyna.log.connection import Connection
from reyna.log.inspection import inspect
from reyna.log.stream import Log
from reyna.settings import MIN_SECRET, Settings

P = ParamSpec("P")
R = TypeVar("R")
DEFAULT = Path(".reyna")


class Folder:
    """One data folder. `nats/` is the log: the only part that cannot be rebuilt, with
    accounts.db.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.nats = path / "nats"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one program. Raises SetupError saying what is in the way."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise SetupError(
                f"The folder {self.path} cannot be written ({error.strerror}); "
                "choose another with --data."
            ) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SetupError(
                    f"Another `reyna` is using {self.path}; stop it, or choose another folder "
                    "with --data."
                ) from None
            yield
        finally:
            os.close(descriptor)

    def secret(self, settings: Settings) -> str:
        """The key that tokens are signed with: the setting's, or one made here once and kept."""
        if settings.secret_key is not None:
            return settings.secret_key
        path = self.path / "secret"
        if not path.exists():
            _write_whole(path, secrets.token_urlsafe(48))
        secret = path.read_text().strip()
        if len(secret) < MIN_SECRET:
            raise SetupError(f"{path} is damaged; delete it, and everybody signs in again.")
        return secret

    @property
    def accounts_url(self) -> str:
        """The database of accounts."""
        return _sqlite_url(self.path / "accounts.db")

    @property
    def views_url(self) -> str:
        """The database of views."""
        return _sqlite_url(self.path / "views.db")


def _sqlite_url(path: Path) -> str:
    # Late: what only reads the log need not load a database.
    from reyna.database import sqlite_url

    return sqlite_url(path)


def _write_whole(path: Path, content: str) -> None:
    """Write a private file that is there whole or not at all, whatever crashes."""
    beside = path.with_name(f"{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def data_option(function: Callable[P, R]) -> Callable[P, R]:
    """`--data DIR`."""
    return click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        help="The data folder of a `reyna up`, running or not.  [default: .reyna]",
    )(function)


class LogServer(msgspec.Struct, frozen=True):
    """Where the log is."""

    url: str
    token: str | None


@asynccontextmanager
async def log_server(settings: Settings, data: Path | None) -> AsyncIterator[LogServer]:
    """The nats-server a command works on.

    With `--data`, or without REYNA_NATS_URL, that of a folder: the running one if its `reyna up`
    runs, else one of our own for as long as the block lasts.
    """
    if data is None and settings.nats_url is not None:
        yield LogServer(settings.nats_url, settings.nats_token)
        return
    folder = Folder(data or DEFAULT)
    if not folder.nats.is_dir():
        raise SetupError(f"There is no log in {folder.path}; name a data folder with --data.")
    running = embedded.read_address(folder.nats)
    if running is not None:
        yield LogServer(running.url, running.token)
        return
    with folder.locked():
        async with embedded.running(folder.nats, settings.sync) as server:
            yield LogServer(server.url, server.token)


@asynccontextmanager
async def existing_log(settings: Settings, data: Path | None) -> AsyncIterator[Log]:
    """The log a command works on; SetupError if there is none, for it is not made here."""
    async with log_server(settings, data) as server:
        connection = await Connection.open(server.url, server.token)
        try:
            found = await inspect(connection)
            if found is None or found.log is None:
                raise SetupError("There is no log on this NATS server; start the studio first.")
            yield found.log
        finally:
            await connection.close()


def accounts_url(settings: Settings, data: Path | None) -> str:
    """The accounts' database that belongs to `log_server`."""
    return _elsewhere(settings, data) or Folder(data or DEFAULT).accounts_url


def views_url(settings: Settings, data: Path | None) -> str:
    """The views' database that belongs to `log_server`."""
    return _elsewhere(settings, data) or Folder(data or DEFAULT).views_url


def _elsewhere(settings: Settings, data: Path | None) -> str | None:
    if data is not None or settings.nats_url is None:
        return None
    if settings.database_url is None:
        raise SetupError("With REYNA_NATS_URL set, set REYNA_DATABASE_URL too, or give --data.")
    return settings.database_url
