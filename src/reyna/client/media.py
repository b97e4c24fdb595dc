"""Bytes as blobs: uploads and downloads, streamed both ways and never held whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import msgspec

from reyna.client.model import NewBlob
from reyna.client.transport import Call, Transport, segment

CHUNK = 256 * 1024


class Download:
    """The bytes of a media blob, or the part of them that was asked for; to be iterated once."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        headers = response.headers
        self.media_type = str(headers.get("content-type", "application/octet-stream"))
        self.etag = str(headers.get("etag", ""))
        length = headers.get("content-length", "")
        self.length = int(length) if length.isdigit() else None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._response.aiter_bytes()

    async def read(self) -> bytes:
        """All of it, held in memory."""
        return await self._response.aread()

    async def save(self, path: Path) -> None:
        """Write all of it to a file."""
        file = await asyncio.to_thread(path.open, "wb")
        try:
            async for chunk in self:
                await asyncio.to_thread(file.write, chunk)
        finally:
            await asyncio.to_thread(file.close)


class Media:
    """The part of `studio.blobs` that moves bytes."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def upload(
        self,
        source: Path | AsyncIterable[bytes],
        *,
        filename: str | None = None,
        media_type: str = "application/octet-stream",
        bucket_ids: Iterable[str] = (),
        parent_id: str | None = None,
        title: str | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, object] = {},
        idempotency_key: str | None = None,
    ) -> NewBlob:
        """Make a blob of a file's bytes, or of bytes as they come.

        A file can be sent again after a broken connection; bytes as they come cannot.
        Raises TooLarge, Invalid when the bytes are not of `media_type`, OSError for the file.
        """
        if isinstance(source, Path):
            filename = filename or source.name
        fields: dict[str, str | list[str]] = {
            "bucket_ids": list(bucket_ids),
            "tags": list(tags),
            "metadata": msgspec.json.encode(metadata).decode(),
        }
        if title is not None:
            fields["title"] = title
        if parent_id is not None:
            fields["parent_id"] = parent_id
        form, before, after = _form(fields, filename or "upload", media_type)

        async def body() -> AsyncIterator[bytes]:
            yield before
            async for chunk in _read(source) if isinstance(source, Path) else source:
                yield chunk
            yield after

        call = Call(
            method="POST",
            path="/blobs/media",
            headers={"Content-Type": form, "Idempotency-Key": idempotency_key or uuid4().hex},
            chunks=body,
            repeatable=isinstance(source, Path),
        )
        return (await self._transport.send(call)).read(NewBlob)

    @asynccontextmanager
    async def download(
        self, blob_id: str, *, first: int = 0, last: int | None = None
    ) -> AsyncIterator[Download]:
        """The bytes of a media blob, from the byte `first` to the byte `last`, both included."""
        headers = self._transport.min_seq()
        if first or last is not None:
            headers["Range"] = f"bytes={first}-{'' if last is None else last}"
        call = Call(method="GET", path=f"/blobs/{segment(blob_id)}/media", headers=headers)
        async with self._transport.stream(call) as response:
            yield Download(response)


def _form(
    fields: dict[str, str | list[str]], filename: str, media_type: str
) -> tuple[str, bytes, bytes]:
    """A multipart form around a file: its content type, what comes before the file, what after.

    The library writes a form around an empty file, and so escapes every name.
    """
    empty = httpx.Request(
        "POST", "http://form", data=fields, files={"file": (filename, b"", media_type)}
    )
    whole = empty.read()
    end = whole.rindex(b"\r\n--")
    return str(empty.headers["Content-Type"]), whole[:end], whole[end:]


async def _read(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk
    finally:
        await asyncio.to_thread(file.close)
