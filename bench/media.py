"""One large file up and down: `blobs/media` beside PocketBase's files.

One client sends a file of random bytes as a form, reads it back whole, and reads a kilobyte from
its end; it looks at nothing but the status and the count. The memory is what the server's process
grew by at its peak, and for us that of its nats-server as well.
"""

from __future__ import annotations

import os
import re
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import click
import msgspec

from bench import servers
from bench.report import Report, json_option, median, ratio
from bench.servers import Target
from reyna.log import embedded

MEBIBYTE = 1024 * 1024
PEER = "PocketBase, open to all"
BOUNDARY = "a-boundary-that-no-file-has"
PIECE = 256 * 1024


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """MB/s both ways, milliseconds to a kilobyte at the end, and MiB that memory grew by."""

    up: float
    down: float
    range_ms: float
    grown_up: float
    grown_down: float
    grown_nats: float = 0.0


class Answer(msgspec.Struct, frozen=True):
    """An answer's beginning, and how many bytes its body had."""

    head: str
    body: bytes
    count: int


class System(msgspec.Struct, frozen=True):
    """A server under load: where a file goes, and where the file of an answer is."""

    start: Callable[[Path], AbstractContextManager[Target]]
    upload: str
    download: Callable[[bytes], str]
    has_nats: bool = False


def ask(target: Target, request: str, body: Sequence[bytes | memoryview] = ()) -> Answer:
    """One request on a connection of its own, answered whole."""
    lines = [request, f"Host: {target.host}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in target.headers.items()]
    if body:
        lines += [
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
            f"Content-Length: {sum(len(part) for part in body)}",
        ]
    with socket.create_connection((target.host, target.port)) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        for part in body:
            connection.sendall(part)
        received = bytearray()
        while b"\r\n\r\n" not in received:
            received += connection.recv(65536)
        head, _, first = bytes(received).partition(b"\r\n\r\n")
        count, room = len(first), bytearray(PIECE)
        while got := connection.recv_into(room):
            if count < PIECE:
                first += room[:got]
            count += got
    if not re.match(rb"HTTP/1\.1 20[016]", head):
        raise SystemExit(f"{target.name} answered {head.decode()}\n{first[:500].decode()}")
    return Answer(head.decode(), first, count)


def measure(system: System, file: memoryview) -> Sample:
    """One file up, down, and a piece of it, on a server of its own."""
    with tempfile.TemporaryDirectory() as folder, system.start(Path(folder)) as target:
        before = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        after = f"\r\n--{BOUNDARY}--\r\n".encode()
        # The first one makes what is made once.
        ask(target, f"POST {system.upload} HTTP/1.1", [before, b"small", after])
        nats = embedded.read_address(Path(folder) / "data" / "nats") if system.has_nats else None
        with grown(target.pid) as grown_up, grown(nats.pid if nats else 0) as grown_nats:
            began = time.monotonic()
            made = ask(target, f"POST {system.upload} HTTP/1.1", [before, file, after])
            up = time.monotonic() - began
        path = system.download(made.body)
        with grown(target.pid) as grown_down:
            began = time.monotonic()
            got = ask(target, f"GET {path} HTTP/1.1")
            down = time.monotonic() - began
        if got.count != len(file):
            raise SystemExit(f"{target.name} sent {got.count} of {len(file)} bytes.")
        began = time.monotonic()
        part = ask(target, f"GET {path} HTTP/1.1\r\nRange: bytes={len(file) - 1024}-")
        if part.count != 1024:
            raise SystemExit(f"{target.name} does not know ranges.")
        return Sample(
            up=len(file) / up / 1e6,
            down=len(file) / down / 1e6,
            range_ms=(time.monotonic() - began) * 1000,
            grown_up=grown_up[0],
            grown_down=grown_down[0],
            grown_nats=grown_nats[0],
        )


@contextmanager
def grown(pid: int) -> Iterator[list[float]]:
    """The MiB by which a process grows at its peak within the block; 0 for no process."""
    found = [0.0]
    if not pid:
        yield found
        return
    # Forget the peak so far.
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    began = _memory(pid, "VmRSS")
    yield found
    found[0] = (_memory(pid, "VmHWM") - began) / MEBIBYTE


def _memory(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"There is no process {pid}.")


class _Blob(msgspec.Struct):
    blob_id: str


class _Record(msgspec.Struct):
    id: str
    file: str


def _our_path(body: bytes) -> str:
    return f"/api/v1/blobs/{msgspec.json.decode(body, type=_Blob).blob_id}/media"


def _their_path(body: bytes) -> str:
    record = msgspec.json.decode(body, type=_Record)
    return f"/api/files/messages/{record.id}/{record.file}"


def systems(size: int) -> dict[str, System]:
    """What is compared, by name."""
    theirs = partial(servers.pocketbase, max_file=size)
    records = "/api/collections/messages/records"
    found = {PEER: System(theirs, records, _their_path)}
    for sync in ("interval", "always"):
        ours = partial(servers.reyna, sync=sync)
        found[f"reyna up, sync {sync}"] = System(ours, "/api/v1/blobs/media", _our_path, True)
    return found


@click.command()
@click.option("--megabytes", default=200, show_default=True, help="The size of the file.")
@click.option("--rounds", default=3, show_default=True, help="How many times each is repeated.")
@json_option
def main(megabytes: int, rounds: int, json_file: Path | None) -> None:
    """Measure a large file up and down, and the memory that it takes."""
    file = memoryview(os.urandom(megabytes * 1_000_000))
    samples: dict[str, list[Sample]] = {}
    for number in range(rounds):
        for name, system in systems(len(file)).items():
            click.echo(f"round {number + 1} of {rounds}: {name}", err=True)
            samples.setdefault(name, []).append(measure(system, file))
    _report(samples, megabytes).show(json_file)


def _report(samples: dict[str, list[Sample]], megabytes: int) -> Report:
    rows = []
    peer = samples[PEER]
    for name, found in samples.items():
        up, down = median(found, lambda one: one.up), median(found, lambda one: one.down)
        rows.append(
            (
                name,
                f"{up:.0f}",
                ratio(up, median(peer, lambda one: one.up)),
                f"{down:.0f}",
                ratio(down, median(peer, lambda one: one.down)),
                f"{median(found, lambda one: one.range_ms):.1f}",
                f"{median(found, lambda one: one.grown_up):.0f}",
                f"{median(found, lambda one: one.grown_down):.0f}",
                f"{median(found, lambda one: one.grown_nats):.0f}",
            )
        )
    columns = ("", "up MB/s", "to peer", "down MB/s", "to peer ", "end ms", "up MiB", "down MiB")
    notes = ("MiB: how much the server grew at its peak, and nats-server while uploading.",)
    title = f"A file of {megabytes} MB"
    return Report(title, (*columns, "nats MiB"), tuple(rows), notes)


if __name__ == "__main__":
    main()
