"""A file and its fields out of a multipart form, while it arrives. Owns the form's limits and its
pace.

The file's bytes are handed on as they come; only the fields are held.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from reyna.api.requests import Req, wrong_type
from reyna.commands.media import Incoming
from reyna.commands.requests import UploadMedia
from reyna.domain.blob import Media
from reyna.errors import FieldError, Invalid, Malformed, TooLarge, TooSlow

FILE = "file"
MANY = frozenset({"bucket_ids", "tags"})
ONE = frozenset({"parent_id", "title", "metadata"})
MAX_PARTS = 256
MAX_HEADER = 4096
MAX_HEADERS = 8
# RFC 2046.
MAX_BOUNDARY = 70
# Each PACE bytes have to come within PATIENCE seconds.
PACE = 128 * 1024
PATIENCE = 60.0


class Received(msgspec.Struct, frozen=True):
    """A whole form: its fields, and what its file turned out to be."""

    fields: UploadMedia
    media: Media


async def receive(request: Req, incoming: Incoming, max_file: int, max_fields: int) -> Received:
    """Read the form in a request, writing its file into `incoming`. Sizes are in bytes.

    Raises Malformed, Invalid, TooLarge and TooSlow as soon as it is clear, LogUnavailable.
    """
    form = _Form(incoming, max_fields)
    parser = PushMultipartParser(
        _boundary(request.headers.get("content-type", "")),
        max_header_size=MAX_HEADER,
        max_header_count=MAX_HEADERS,
        max_segment_count=MAX_PARTS,
    )
    most = max_file + max_fields
    if (request.content_length or 0) > most:
        raise TooLarge(f"The form has more than the {most} bytes that are taken.")
    try:
        async for data in _paced(request):
            for event in parser.parse(data):
                await form.take(event)
            most -= len(data)
            if most < 0:
                raise TooLarge("The form is larger than what is taken.")
        parser.close()
    except ParserLimitReached as error:
        raise TooLarge(f"The form has too much of something: {error}.") from None
    except MultipartError as error:
        raise Malformed(f"The form cannot be read: {error}.") from None
    return form.received()


class _Form:
    """What has been read of a form."""

    def __init__(self, incoming: Incoming, max_fields: int) -> None:
        self._incoming = incoming
        self._room = max_fields
        self._values: dict[str, list[str]] = {}
        self._name = ""
        self._value = bytearray()
        self._media: Media | None = None
        self._has_file = False

    async def take(self, event: MultipartSegment | bytes | bytearray | None) -> None:
        """The beginning of a part, some of its bytes, or its end."""
        if isinstance(event, MultipartSegment):
            self._begin(event)
        elif event is None:
            await self._end()
        elif self._name == FILE:
            await self._incoming.write(bytes(event))
        else:
            self._room -= len(event)
            if self._room < 0:
                raise TooLarge("The form's fields are larger than what is taken.")
            self._value += event

    def received(self) -> Received:
        """All of it. Raises Malformed and Invalid."""
        if self._media is None:
            sentence = "The form needs a file."
            raise Invalid(sentence, [FieldError(f"/{FILE}", "required", sentence)])
        found: dict[str, object] = {}
        for name, values in self._values.items():
            if name in MANY:
                found[name] = values
            elif len(values) > 1:
                raise _malformed(name, "maxItems", "This field is given more than once")
            else:
                found[name] = _json(name, values[0]) if name == "metadata" else values[0]
        try:
            return Received(msgspec.convert(found, UploadMedia), self._media)
        except msgspec.ValidationError as error:
            raise wrong_type(error) from None

    def _begin(self, part: MultipartSegment) -> None:
        self._name = part.name or ""
        if self._name == FILE:
            if self._has_file:
                sentence = "A form takes one file."
                raise Invalid(sentence, [FieldError(f"/{FILE}", "maxItems", sentence)])
            self._has_file = True
            self._incoming.begin(part.filename, part.content_type)
        elif self._name not in MANY | ONE:
            raise Malformed(f"The form has no field {self._name[:80]!r}.")

    async def _end(self) -> None:
        if self._name == FILE:
            self._media = await self._incoming.end()
            return
        try:
            value = self._value.decode()
        except UnicodeDecodeError:
            raise _malformed(self._name, "type", "This is not text in UTF-8") from None
        # A page's form sends the fields that nobody filled in as well.
        if value:
            self._values.setdefault(self._name, []).append(value)
        self._value.clear()


async def _paced(request: Req) -> AsyncIterator[bytes]:
    """The body's pieces. Raises TooSlow when they trickle, Malformed when their sender is gone."""
    loop = asyncio.get_running_loop()
    left = PACE
    deadline = loop.time() + PATIENCE
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                message = await request.receive()
        except TimeoutError:
            raise TooSlow(f"Fewer than {PACE} bytes came in {PATIENCE:g} s.") from None
        if message["type"] != "http.request":
            raise Malformed("The upload was broken off.")
        body = message["body"]
        left -= len(body)
        if left <= 0:
            left, deadline = PACE, loop.time() + PATIENCE
        if body:
            yield body
        if not message["more_body"]:
            return


def _boundary(content_type: str) -> str:
    essence, options = parse_options_header(content_type)
    boundary: str = options.get("boundary", "")
    if essence != "multipart/form-data" or not 0 < len(boundary) <= MAX_BOUNDARY:
        raise Malformed("A file is sent as multipart/form-data, with a boundary.")
    return boundary


def _json(name: str, value: str) -> object:
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        raise _malformed(name, "type", "This is not JSON") from None


def _malformed(name: str, keyword: str, sentence: str) -> Malformed:
    return Malformed(f"/{name}: {sentence}.", [FieldError(f"/{name}", keyword, f"{sentence}.")])
