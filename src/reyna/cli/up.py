"""`reyna up`: everything on one machine. Owns the order of starting and stopping, and the
banner.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import uvicorn
from litestar import Litestar

from reyna import settings as settings_module
from reyna.app import ENVELOPE_BYTES, Place, studio
from reyna.cli import run
from reyna.cli.folder import DEFAULT, Folder
from reyna.errors import SetupError
from reyna.log import embedded
from reyna.settings import Settings

BACKLOG = 2048
# Seconds that open requests are given to finish when the server stops.
GRACE = 5
# Objects made before the garbage collector looks, and how rarely at the older ones: an answer of
# ten thousand buckets would set off several looks through everything.
COLLECT = (50_000, 20, 50)


@click.command(name="up")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option(
    "--data",
    default=DEFAULT,
    show_default=True,
    type=click.Path(path_type=Path),
    help="The folder that holds everything.",
)
def command(host: str, port: int, data: Path) -> None:
    """Run everything on this machine until Ctrl-C."""
    settings = settings_module.load(os.environ)
    run(_up(settings, host, port, data))


async def _up(settings: Settings, host: str, port: int, data: Path) -> None:
    folder = Folder(data)
    with folder.locked(), _listen(host, port) as listening, _stopping() as stop:
        async with (
            embedded.running(folder.nats, settings.sync) as server,
            studio(settings, _place(settings, folder, server)) as app,
        ):
            address = listening.getsockname()
            shown = f"[{address[0]}]" if ":" in address[0] else address[0]
            _say(f"ReYNa Studio is ready at http://{shown}:{address[1]}  (data in {data})")
            if settings.sync == "interval":
                _say(
                    "REYNA_SYNC=interval: the last two minutes can be lost in a power cut; "
                    "a crash of the program loses nothing."
                )
            _leave_alone_what_stays()
            await stop.serve(_Server(_configuration(app, settings)), listening)
    _say("ReYNa Studio has stopped.")


def _leave_alone_what_stays() -> None:
    """Spare the garbage collector what the start has made, for it is never garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT)


def _place(settings: Settings, folder: Folder, server: embedded.Server) -> Place:
    return Place(
        nats_url=server.url,
        nats_token=server.token,
        accounts_url=folder.accounts_url,
        views_url=folder.views_url,
        secret=folder.secret(settings),
    )


def _configuration(app: Litestar, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        ws="websockets-sansio",
        ws_max_size=settings.max_blob_bytes + ENVELOPE_BYTES,
        ws_per_message_deflate=False,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
        backlog=BACKLOG,
    )


class _Server(uvicorn.Server):
    """A server that leaves signals alone: they end the whole program, in its order."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class _Stop:
    """What a signal does: before the server runs it ends the start, then it ends the server.

    `asked` says that one has come.
    """

    def __init__(self) -> None:
        self._main = asyncio.current_task()
        self._server: uvicorn.Server | None = None
        self.asked = False

    async def serve(self, server: uvicorn.Server, listening: socket.socket) -> None:
        """Serve until a signal comes."""
        self._server = server
        await server.serve(sockets=[listening])

    def on_signal(self, number: int) -> None:
        """A second Ctrl-C does not wait for open requests; what follows it stays in order."""
        self.asked = True
        if self._server is not None:
            self._server.handle_exit(number, None)
        elif self._main is not None:
            self._main.cancel()


@contextmanager
def _stopping() -> Iterator[_Stop]:
    """Hear SIGINT and SIGTERM from before anything is started until everything has stopped."""
    loop = asyncio.get_running_loop()
    stop = _Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.on_signal, number)
    try:
        yield stop
    except asyncio.CancelledError:
        if not stop.asked:
            raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        # From now on: who comes before all is ready waits, and nobody else can take the port.
        listening.listen(BACKLOG)
    except OSError as error:
        raise SetupError(
            f"Cannot listen on {host} port {port} ({error.strerror}); "
            "choose another with --host or --port."
        ) from error
    listening.setblocking(False)
    return listening


def _say(text: str) -> None:
    click.echo(text, err=True)
