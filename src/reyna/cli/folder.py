"""The data folder of `reyna up`: its lock, its secret, its files, and how a command finds its
servers.
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

from reyna.app import Place
from reyna.database import sqlite_url
from reyna.errors import SetupError
from reyna.log import embedded
from reyna.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")


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
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return path.read_text().strip()
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(48))
        return path.read_text().strip()

    def place(self, settings: Settings, nats_url: str, nats_token: str | None) -> Place:
        """The servers of this folder."""
        return Place(
            nats_url=nats_url,
            nats_token=nats_token,
            accounts_url=sqlite_url(self.path / "accounts.db"),
            views_url=sqlite_url(self.path / "views.db"),
            secret=self.secret(settings),
        )


def data_option(function: Callable[P, R]) -> Callable[P, R]:
    """`--data DIR`."""
    return click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        help="The data folder of a `reyna up`, running or not.  [default: .reyna]",
    )(function)


@asynccontextmanager
async def servers(settings: Settings, data: Path | None) -> AsyncIterator[Place]:
    """The servers a command works on.

    With `--data`, or without REYNA_NATS_URL, those of a folder: the running ones if its `reyna up`
    runs, else a nats-server of our own for as long as the block lasts.
    """
    if data is None and settings.nats_url is not None:
        yield _elsewhere(settings)
        return
    folder = Folder(data or Path(".reyna"))
    if not folder.nats.is_dir():
        raise SetupError(f"There is no log in {folder.path}; name a data folder with --data.")
    running = embedded.read_address(folder.nats)
    if running is not None:
        yield folder.place(settings, running.url, running.token)
        return
    with folder.locked():
        async with embedded.running(folder.nats, settings.sync) as server:
            yield folder.place(settings, server.url, server.token)


def _elsewhere(settings: Settings) -> Place:
    if settings.nats_url is None or settings.database_url is None or settings.secret_key is None:
        raise SetupError(
            "For servers elsewhere set REYNA_NATS_URL, REYNA_DATABASE_URL and REYNA_SECRET_KEY."
        )
    return Place(
        nats_url=settings.nats_url,
        nats_token=settings.nats_token,
        accounts_url=settings.database_url,
        views_url=settings.database_url,
        secret=settings.secret_key,
    )
