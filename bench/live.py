"""From a write to every subscriber: `/api/v1/ws` beside PocketBase's realtime.

One write at a time, with 1, 50 and 100 clients subscribed; each figure is the time from the first
byte of the request to the first byte of the event at one client, so it is an upper bound of commit
to socket, and the same for both. Clients run in this process, apart from the servers', and look at
the clock before they parse anything.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import cast

import click
import httpx
import msgspec
import uvloop
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.http11 import Response
from websockets.uri import parse_uri

from bench import servers
from bench.report import Report, json_option, median, percentile, ratio
from bench.servers import Target

CLIENTS = (1, 50, 100)
PEER = "PocketBase, open to all"
# Seconds.
PAUSE = 0.02
PATIENCE = 10.0


class Sample(msgspec.Struct, frozen=True):
    """Latencies of one load, in milliseconds."""

    p50: float
    p99: float


class Round:
    """One write and its arrivals: `marker` is what the event has in it."""

    def __init__(self, clients: int) -> None:
        self.clients = clients
        self.marker = b""
        self.arrivals: list[float] = []
        self.complete = asyncio.Event()

    def begin(self, marker: str) -> None:
        """Wait for another event."""
        self.marker = marker.encode()
        self.arrivals = []
        self.complete.clear()

    def arrived(self) -> None:
        """One client has it."""
        self.arrivals.append(time.monotonic())
        if len(self.arrivals) == self.clients:
            self.complete.set()


class Listener(asyncio.Protocol):
    """One subscribed client. `ready` once the server has said so."""

    def __init__(self, target: Target, current: Round) -> None:
        self.target = target
        self.current = current
        self.transport: asyncio.Transport | None = None
        self.ready = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        # uvloop's transports do not derive from asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.hello())

    def data_received(self, data: bytes) -> None:
        """Note an arrival; all else is the protocol's."""
        if self.current.marker and self.current.marker in data:
            self.current.arrived()
        else:
            self.take(data)

    def close(self) -> None:
        """Leave."""
        if self.transport is not None:
            self.transport.abort()

    @abstractmethod
    def hello(self) -> bytes:
        """The first bytes to send."""

    @abstractmethod
    def take(self, data: bytes) -> None:
        """Bytes that are not an awaited event."""


class ReynaListener(Listener):
    """A WebSocket that has subscribed to everything of its user's."""

    def __init__(self, target: Target, current: Round) -> None:
        super().__init__(target, current)
        self.protocol = ClientProtocol(parse_uri(f"ws://{target.host}:{target.port}/api/v1/ws"))

    def hello(self) -> bytes:
        """The handshake, with the user's token."""
        request = self.protocol.connect()
        request.headers.update(self.target.headers)
        self.protocol.send_request(request)
        return b"".join(self.protocol.data_to_send())

    def take(self, data: bytes) -> None:
        """Subscribe once connected; be ready once the catch-up has ended."""
        self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            if isinstance(event, Response):
                self.protocol.send_text(b'{"action":"subscribe","buckets":"*"}')
            elif isinstance(event, Frame) and b'"type":"live"' in event.data:
                self.ready.set_result(None)
        assert self.transport is not None
        self.transport.writelines(self.protocol.data_to_send())


class PocketBaseListener(Listener):
    """A stream of server-sent events; it is subscribed by a request of its own."""

    def __init__(self, target: Target, current: Round) -> None:
        super().__init__(target, current)
        self.received = b""

    def hello(self) -> bytes:
        """Ask for the stream."""
        return f"GET /api/realtime HTTP/1.1\r\nHost: {self.target.host}\r\n\r\n".encode()

    def take(self, data: bytes) -> None:
        """Read the client's id, and subscribe with it."""
        self.received += data
        found = re.search(rb'"clientId":"(\w+)"', self.received)
        if found and not self.ready.done():
            body = {"clientId": found[1].decode(), "subscriptions": ["messages/*"]}
            httpx.post(f"{self.target.url}/api/realtime", json=body).raise_for_status()
            self.ready.set_result(None)


class Writer:
    """Posts over one connection that is kept alive, with as little of its own as can be."""

    def __init__(
        self, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._target = target
        self._reader = reader
        self._writer = writer
        named = {"Host": target.host, "Content-Type": "application/json", **target.headers}
        lines = [f"POST {target.path} HTTP/1.1", *(f"{n}: {v}" for n, v in named.items())]
        self._head = "\r\n".join(lines)

    async def post(self, marker: str) -> None:
        """Write one message and read the answer."""
        body = self._target.body(marker)
        self._writer.write(f"{self._head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        status = answer.split(b" ", 2)[1]
        length = re.search(rb"content-length: (\d+)", answer.lower())
        if status not in {b"200", b"201"} or length is None:
            raise SystemExit(f"{self._target.name} answered {answer.decode()}")
        await self._reader.readexactly(int(length[1]))


async def measure(target: Target, listen: type[Listener], clients: int, events: int) -> Sample:
    """The latencies of `events` writes, one after another, at `clients` subscribers."""
    loop = asyncio.get_running_loop()
    current = Round(clients)
    listeners: list[Listener] = []
    reader, writer = await asyncio.open_connection(target.host, target.port)
    poster = Writer(target, reader, writer)
    taken: list[float] = []
    try:
        for _ in range(clients):
            _, listener = await loop.create_connection(
                lambda: listen(target, current), target.host, target.port
            )
            listeners.append(listener)
            await asyncio.wait_for(listener.ready, PATIENCE)
        for number in range(events):
            marker = f"event-{number:06d}"
            current.begin(marker)
            began = time.monotonic()
            await poster.post(marker)
            await asyncio.wait_for(current.complete.wait(), PATIENCE)
            taken += [(at - began) * 1000 for at in current.arrivals]
            await asyncio.sleep(PAUSE)
    finally:
        for listener in listeners:
            listener.close()
        writer.close()
    taken.sort()
    return Sample(percentile(taken, 50), percentile(taken, 99))


System = tuple[Callable[[Path], AbstractContextManager[Target]], type[Listener]]
SYSTEMS: dict[str, System] = {
    PEER: (servers.pocketbase, PocketBaseListener),
    "reyna up, sync interval": (partial(servers.reyna, sync="interval"), ReynaListener),
    "reyna up, sync always": (partial(servers.reyna, sync="always"), ReynaListener),
}


@click.command()
@click.option("--events", default=300, show_default=True, help="How many writes each load has.")
@click.option("--rounds", default=3, show_default=True, help="How many times each is repeated.")
@json_option
def main(events: int, rounds: int, json_file: Path | None) -> None:
    """Measure how long an event takes to its subscribers."""
    samples: dict[tuple[str, int], list[Sample]] = {}
    for number in range(rounds):
        for name, (start, listen) in SYSTEMS.items():
            click.echo(f"round {number + 1} of {rounds}: {name}", err=True)
            with tempfile.TemporaryDirectory() as folder, start(Path(folder)) as target:
                uvloop.run(measure(target, listen, 1, events // 4))
                for clients in CLIENTS:
                    found = uvloop.run(measure(target, listen, clients, events))
                    samples.setdefault((name, clients), []).append(found)
    _report(samples).show(json_file)


def _report(samples: dict[tuple[str, int], list[Sample]]) -> Report:
    rows = []
    for (name, clients), found in samples.items():
        peer = samples[PEER, clients]
        p50, p99 = median(found, lambda one: one.p50), median(found, lambda one: one.p99)
        rows.append(
            (
                name,
                str(clients),
                f"{p50:.2f}",
                ratio(p50, median(peer, lambda one: one.p50)),
                f"{p99:.2f}",
                ratio(p99, median(peer, lambda one: one.p99)),
            )
        )
    columns = ("", "clients", "p50 ms", "to PocketBase", "p99 ms", "to PocketBase ")
    notes = ("From the request to the event at each client; less is better.",)
    return Report("Write to subscribers", columns, tuple(rows), notes)


if __name__ == "__main__":
    main()
