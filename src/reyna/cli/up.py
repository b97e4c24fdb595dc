"""`reyna up`: everything on one machine. Owns the order of starting and stopping, and the
banner.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path

import click
import uvicorn

from reyna import settings as settings_module
from reyna.app import ENVELOPE_BYTES, studio
from reyna.cli.folder import Folder
from reyna.errors import SetupError
from reyna.log import embedded
from reyna.settings import Settings

BACKLOG = 2048
# Seconds that open requests are given to finish when the server stops.
GRACE = 5


@click.command(name="up")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option(
    "--data",
    default=Path(".reyna"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="The folder that holds everything.",
)
def command(host: str, port: int, data: Path) -> None:
    """Run everything on this machine until Ctrl-C."""
    settings = settings_module.load(os.environ)
    run(_up(settings, host, port, data))


def run(main: Coroutine[object, object, None]) -> None:
    """Run on uvloop where there is one."""
    if sys.platform == "win32":
        raise SetupError("reyna up runs on Linux and macOS.")
    import uvloop

    uvloop.run(main)


async def _up(settings: Settings, host: str, port: int, data: Path) -> None:
    folder = Folder(data)
    with folder.locked(), _listen(host, port) as listening:
        async with (
            embedded.running(folder.nats, settings.sync) as server,
            studio(settings, folder.place(settings, server.url, server.token)) as app,
        ):
            config = uvicorn.Config(
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
            address = listening.getsockname()
            shown = f"[{address[0]}]" if ":" in address[0] else address[0]
            _say(f"ReYNa Studio is ready at http://{shown}:{address[1]}  (data in {data})")
            if settings.sync == "interval":
                _say(
                    "REYNA_SYNC=interval: the last two minutes can be lost in a power cut; "
                    "a crash of the program loses nothing."
                )
            await uvicorn.Server(config).serve(sockets=[listening])
    _say("ReYNa Studio has stopped.")


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise SetupError(
            f"Cannot listen on {host} port {port} ({error.strerror}); "
            "choose another with --host or --port."
        ) from error
    listening.setblocking(False)
    return listening


def _say(text: str) -> None:
    click.echo(text, err=True)
