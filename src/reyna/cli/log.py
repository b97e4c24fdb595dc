"""`reyna log`: events as one JSON object a line, in the form they have on the socket."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

import click
import msgspec

from reyna import settings as settings_module
from reyna.cli import run
from reyna.cli.folder import data_option, existing_log
from reyna.domain import catalog
from reyna.errors import Malformed
from reyna.log import subjects
from reyna.log.follow import Batch, Follower, read
from reyna.log.record import Stored, decode
from reyna.log.stream import Log
from reyna.runtime.frames import frame_of
from reyna.settings import Settings

MAX_SEQ = 2**53
_ENCODER = msgspec.json.Encoder()


def _user(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else subjects.token(value)
    except Malformed as error:
        raise click.BadParameter(error.detail) from error


def _types(_: click.Context, __: click.Parameter, value: Sequence[str]) -> tuple[str, ...]:
    names = dict.fromkeys(name.strip() for one in value for name in one.split(","))
    unknown = [name for name in names if name not in catalog.EVENTS]
    if unknown:
        known = ", ".join(sorted(catalog.EVENTS))
        raise click.BadParameter(f"{unknown[0]!r} is not a type of event; there are {known}.")
    return tuple(names)


@click.command(name="log")
@click.option(
    "--after", default=0, type=click.IntRange(0, MAX_SEQ), help="Only events after this seq."
)
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option(
    "--type",
    "types",
    multiple=True,
    callback=_types,
    metavar="TYPE",
    help="Only this type of event, such as blob.created; may be given several times.",
)
@click.option("--user", callback=_user, metavar="ID", help="Only this user's events.")
@data_option
def command(
    after: int, follow: bool, types: tuple[str, ...], user: str | None, data: Path | None
) -> None:
    """Print events, one JSON object a line, oldest first."""
    settings = settings_module.load(os.environ)
    try:
        run(_log(settings, data, _filters(types, user), after, follow=follow))
    except KeyboardInterrupt:
        if not follow:
            raise


def _filters(types: Sequence[str], user: str | None) -> list[str]:
    """What the server should send: filters that do not overlap."""
    owner = user or "*"
    if not types:
        return [f"{subjects.PREFIX}.{owner}.>"]
    filters: list[str] = []
    for name in types:
        kind, verb = name.split(".", 1)
        qualifier = ".*" if catalog.EVENTS[name].QUALIFIER else ""
        filters.append(f"{subjects.PREFIX}.{owner}.{kind}.*.{verb}{qualifier}")
    return filters


async def _log(
    settings: Settings, data: Path | None, filters: Sequence[str], after: int, *, follow: bool
) -> None:
    async with (
        existing_log(settings, data) as log,
        aclosing(await _batches(log, filters, after, follow=follow)) as batches,
    ):
        async for batch in batches:
            # In a thread: who reads the pipe may take its time.
            if not await asyncio.to_thread(_write, batch.messages):
                return


async def _batches(
    log: Log, filters: Sequence[str], after: int, *, follow: bool
) -> AsyncGenerator[Batch, None]:
    if follow:
        return Follower(log.connection, filters, after).batches()
    return read(log.connection, filters, after, await log.head())


def _write(messages: Sequence[Stored]) -> bool:
    """Print a line for each; False when nobody reads any more."""
    # A line break is white space between two tokens, as in a schema's definition.
    lines = [
        _ENCODER.encode(frame_of(decode(message))).translate(None, b"\r\n") + b"\n"
        for message in messages
    ]
    try:
        sys.stdout.buffer.write(b"".join(lines))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Python flushes again at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True
