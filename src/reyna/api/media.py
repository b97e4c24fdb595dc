"""Files over HTTP: uploaded as a form, downloaded whole or in part. Owns how a stranger's bytes are
served without doing harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus
from urllib.parse import quote

import msgspec
from litestar import get, head, post
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Response
from litestar.response.base import ASGIResponse
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import Message, Receive, Scope, Send

from reyna.api import multipart, ranges
from reyna.api.commands import PREFIX, BlobCreatedAnswer
from reyna.api.media_documents import Download, Upload
from reyna.api.requests import Req, key_of
from reyna.api.views import min_seq
from reyna.commands.handler import Caller
from reyna.commands.media import MediaCommands
from reyna.commands.media_types import UNKNOWN, is_text
from reyna.domain.blob import Media
from reyna.errors import ViewBehind
from reyna.log.stream import Log
from reyna.log.subjects import token

# Seconds that a piece may wait for its reader.
STALL = 60.0
# What a browser may show by itself; none of it can hold a script.
_SHOWN = frozenset(
    {
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "image/avif",
        "image/bmp",
        "audio/mpeg",
        "audio/mp4",
        "audio/ogg",
        "audio/wav",
        "audio/webm",
        "audio/flac",
        "audio/aac",
        "video/mp4",
        "video/webm",
        "video/ogg",
        "video/quicktime",
    }
)
# What is saved under its own type; everything else is only bytes.
_NAMED = frozenset(
    {
        "application/pdf",
        "application/zip",
        "application/epub+zip",
        "application/json",
        "application/gzip",
        "text/plain",
        "text/csv",
        "text/markdown",
    }
)
_NAMED_BEGINNINGS = (
    "audio/",
    "video/",
    "font/",
    "application/vnd.openxmlformats-officedocument.",
    "application/vnd.oasis.opendocument.",
)
# A page opened from these bytes has no origin, runs nothing and loads nothing but itself.
_SANDBOX = (
    "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'"
)


def routes(media: MediaCommands, log: Log, max_fields: int) -> list[HTTPRouteHandler]:
    """The routes of files. `max_fields` bounds what a form has beside its file, in bytes."""

    @post("/blobs/media", request_max_body_size=None, operation_class=Upload, tags=["media"])
    async def upload_media(request: Req) -> Response[BlobCreatedAnswer]:
        """Upload a file, and make a blob of it."""
        caller = Caller(user_id=request.user.user_id, key=key_of(request))
        async with media.incoming(caller.user_id) as incoming:
            form = await multipart.receive(request, incoming, media.max_bytes, max_fields)
            answer = await media.create(caller, form.fields, incoming, form.media)
        body = BlobCreatedAnswer(answer.entity_id, answer.time, answer.seq)
        headers = {
            "Reyna-Seq": str(answer.seq),
            "ETag": f'"{answer.seq}"',
            "Location": f"{PREFIX}/blobs/{answer.entity_id}",
        }
        return Response(body, status_code=201, headers=headers)

    @get("/blobs/{blob_id:str}/media", operation_class=Download, tags=["media"])
    async def download_media(request: Req, blob_id: FromPath[str]) -> ASGIResponse:
        """The bytes of a blob's file, whole or a range of them."""
        part = await _find(request, media, log, token(blob_id))
        if part.status == HTTPStatus.NOT_MODIFIED:
            return ASGIResponse(status_code=part.status, headers=part.headers)
        pieces = await media.read(request.user.user_id, part.media, part.start, part.stop)
        return _Pieces(pieces, part.status, part.headers)

    @head("/blobs/{blob_id:str}/media", include_in_schema=False)
    async def look_at_media(request: Req, blob_id: FromPath[str]) -> Response[None]:
        """The headers alone."""
        part = await _find(request, media, log, token(blob_id))
        return Response(None, status_code=part.status, headers=part.headers)

    return [upload_media, download_media, look_at_media]


class _Part(msgspec.Struct, frozen=True):
    """What is to be sent: the bytes from `start` up to but not including `stop`."""

    media: Media
    status: int
    headers: dict[str, str]
    start: int = 0
    stop: int = 0


async def _find(request: Req, media: MediaCommands, log: Log, blob_id: str) -> _Part:
    position, minimum = await log.head(), min_seq(request.headers)
    if minimum > position:
        raise ViewBehind(f"The log has not reached {minimum}: its last event is {position}.")
    found = await media.find(request.user.user_id, blob_id)
    etag = f'"{found.sha256}"'
    headers = {"Reyna-Seq": str(position), **_headers(found, etag)}
    if ranges.not_modified(request.headers, etag):
        return _Part(found, HTTPStatus.NOT_MODIFIED, headers)
    try:
        span = ranges.span(request.headers, etag, found.bytes)
    except ranges.Unsatisfiable:
        raise HTTPException(
            f"The file has {found.bytes} bytes.",
            status_code=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            headers={"Content-Range": f"bytes */{found.bytes}"},
        ) from None
    if span is None:
        headers["Content-Length"] = str(found.bytes)
        return _Part(found, HTTPStatus.OK, headers, 0, found.bytes)
    headers["Content-Length"] = str(span.stop - span.start)
    headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{found.bytes}"
    return _Part(found, HTTPStatus.PARTIAL_CONTENT, headers, span.start, span.stop)


def _headers(media: Media, etag: str) -> dict[str, str]:
    """What is said of a file, however much of it is sent."""
    shown = media.content_type in _SHOWN
    fallback = "".join(c if c.isascii() and c not in '"\\%' else "_" for c in media.file_name)
    name = f"filename=\"{fallback}\"; filename*=UTF-8''{quote(media.file_name, safe='')}"
    return {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Type": _served_as(media.content_type),
        "Content-Disposition": f"{'inline' if shown else 'attachment'}; {name}",
        "Content-Security-Policy": _SANDBOX,
        "X-Content-Type-Options": "nosniff",
    }


def _served_as(content_type: str) -> str:
    if content_type in _SHOWN | _NAMED or content_type.startswith(_NAMED_BEGINNINGS):
        return f"{content_type}; charset=utf-8" if is_text(content_type) else content_type
    return UNKNOWN


class _Pieces(ASGIStreamingResponse):
    """Bytes as they are read, no faster than they are taken; closed whatever happens."""

    def __init__(
        self, pieces: AsyncGenerator[bytes, None], status: int, headers: dict[str, str]
    ) -> None:
        super().__init__(iterator=pieces, status_code=status, headers=headers)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them. An error breaks the connection off: the answer stays visibly incomplete."""

        async def patiently(message: Message) -> None:
            async with asyncio.timeout(STALL):
                await send(message)

        async with aclosing(self._pieces):
            await super().__call__(scope, receive, patiently)
