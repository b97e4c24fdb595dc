"""Files for tests: forms as they go over the wire, and what the object store holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import msgspec

from reyna.log.connection import Connection
from reyna.log.media import MediaStore
from tests.support import DEADLINE, Door, Json, Studio

BOUNDARY = "a-boundary"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 8


class Held(msgspec.Struct, frozen=True):
    """The names of the objects, and the nuids that there are chunks of."""

    objects: frozenset[str]
    chunk_sets: frozenset[str]


@asynccontextmanager
async def store_of(studio: Studio) -> AsyncIterator[MediaStore]:
    """The object store of a studio, looked at from beside it."""
    connection = await Connection.open(studio.nats.url, studio.nats.token)
    try:
        yield MediaStore(connection)
    finally:
        await connection.close()


async def held(store: MediaStore) -> Held:
    """What is in it now."""
    objects = frozenset([one.info.name async for one in store.objects()])
    return Held(objects, frozenset(await store.chunk_sets()))


def part(name: str, content: bytes, more: str = "", *headers: str) -> bytes:
    """A part of a form; `more` follows the name, for example `; filename="a.png"`."""
    lines = [
        f"--{BOUNDARY}",
        f'Content-Disposition: form-data; name="{name}"{more}',
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + content + b"\r\n"


def file_part(content: bytes = PNG, name: str = "a.png", type_: str = "image/png") -> bytes:
    """The part of a file."""
    return part("file", content, f'; filename="{name}"', f"Content-Type: {type_}")


def form(*parts: bytes) -> bytes:
    """A whole form."""
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


async def post_form(
    client: httpx.AsyncClient,
    body: bytes | AsyncIterator[bytes],
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """POST blobs/media with a body made by hand."""
    sent = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", **(headers or {})}
    return await client.post("/blobs/media", content=body, headers=sent)


@asynccontextmanager
async def sending(
    studio: Door, token: str, length: int, path: str = "/blobs/media"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection on which a form of `length` bytes has been announced; cut off at the end."""
    host, _, port = studio.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [
        f"POST /api/v1{path} HTTP/1.1",
        f"Host: {host}",
        f"Authorization: Bearer {token}",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
        f"Content-Length: {length}",
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def status_of(reader: asyncio.StreamReader) -> int:
    """The status of the answer that comes next."""
    async with asyncio.timeout(DEADLINE):
        return int((await reader.readuntil(b"\r\n")).split()[1])


async def upload(
    client: httpx.AsyncClient,
    content: bytes = PNG,
    name: str = "a.png",
    type_: str = "image/png",
    **fields: object,
) -> Json:
    """A new media blob; gives the answer's body."""
    answer = await client.post("/blobs/media", files={"file": (name, content, type_)}, data=fields)
    assert answer.status_code == 201, answer.text
    body: Json = answer.json()
    return body
