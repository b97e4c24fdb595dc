"""A TCP proxy for tests: it cuts the line to a server at the worst moment."""

from __future__ import annotations

import asyncio
import re
from types import TracebackType
from typing import Self

_MESSAGE = re.compile(rb"^H?MSG ", re.MULTILINE)


class Proxy:
    """Passes everything on to the port `to`, until it is told otherwise."""

    def __init__(self, to: int) -> None:
        self.to = to
        self._port = 0
        self._listening: asyncio.Server | None = None
        self._lines: set[asyncio.Task[None]] = set()
        self._replies_left = -1
        self._mute = False
        self.cut = asyncio.Event()

    @property
    def url(self) -> str:
        """Where to connect to instead of a nats-server."""
        return f"nats://127.0.0.1:{self._port}"

    @property
    def http_url(self) -> str:
        """Where to connect to instead of a studio."""
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.down()

    async def up(self) -> None:
        """Take connections."""
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._listening.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Cut all lines and take no more connections."""
        if self._listening is not None:
            self._listening.close()
        await self.cut_lines()

    async def cut_lines(self) -> None:
        """Cut all lines."""
        for line in self._lines:
            line.cancel()
        if self._lines:
            await asyncio.wait(self._lines)

    def cut_at_answer(self) -> None:
        """Cut the line instead of passing on what the server says next."""
        self._mute = True

    def cut_at_reply(self, number: int) -> None:
        """Cut the line instead of passing on the server's next reply (1), or a later one."""
        self._replies_left = number

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._lines.add(task)
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self.to)
            up = asyncio.create_task(self._pass_on(reader, to_server))
            down = asyncio.create_task(self._pass_back(from_server, writer))
            try:
                await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                up.cancel()
                down.cancel()
                await asyncio.gather(up, down, return_exceptions=True)
                to_server.close()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._lines.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def _pass_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self._mute:
                self._mute = False
                self.cut.set()
                return
            if self._replies_left > 0:
                self._replies_left -= len(_MESSAGE.findall(data))
                if self._replies_left <= 0:
                    self.cut.set()
                    return
            writer.write(data)
            await writer.drain()
