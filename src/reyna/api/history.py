"""GET blobs/{blob_id}/history and buckets/{bucket_id}/history: one thing's events, newest first,
straight from the log.

The seqs of all of them are listed first, without the events themselves; a page's events are then
read by seq. Looking for one subject at a time costs nothing for what others have in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Annotated

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Response

from reyna.api.events import READ_WITHIN, EventPage, reached
from reyna.api.requests import Req
from reyna.api.views import DEFAULT_LIMIT, Cursor, Limit, decode_cursor, encode_cursor
from reyna.commands.boundaries import Boundaries
from reyna.domain import blob
from reyna.domain.event import Boundary
from reyna.errors import LogUnavailable, NotFound
from reyna.log import subjects
from reyna.log.follow import read
from reyna.log.record import decode
from reyna.log.stream import Log
from reyna.runtime.frames import frame_of

_Seq = Annotated[int, msgspec.Meta(ge=0)]


def routes(log: Log, boundaries: Boundaries) -> list[HTTPRouteHandler]:
    """The histories."""

    @get("/blobs/{blob_id:str}/history", tags=["blobs"])
    async def blob_history(
        request: Req, blob_id: FromPath[str], limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
    ) -> Response[EventPage]:
        """A blob's events and those that filed it, the newest first; also of one in the trash."""
        owner, head = request.user.user_id, await reached(request, log)
        own = await _seqs(log, blob.boundary(owner, subjects.token(blob_id)), head)
        if not own:
            raise NotFound(f"There is no blob {blob_id}.")
        filing = (await boundaries.tree(owner, fresh=True)).filings.get(blob_id)
        filed = [seq for seq in filing.seqs if seq <= head] if filing else []
        return await _page(log, [*own, *filed], head, limit, cursor)

    @get("/buckets/{bucket_id:str}/history", tags=["buckets"])
    async def bucket_history(
        request: Req, bucket_id: FromPath[str], limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
    ) -> Response[EventPage]:
        """A bucket's events, filings among them, the newest first; also of one in the trash."""
        head = await reached(request, log)
        boundary = Boundary(request.user.user_id, "bucket", subjects.token(bucket_id))
        own = await _seqs(log, boundary, head)
        if not own:
            raise NotFound(f"There is no bucket {bucket_id}.")
        return await _page(log, own, head, limit, cursor)

    return [blob_history, bucket_history]


async def _seqs(log: Log, boundary: Boundary, head: int) -> list[int]:
    """The seqs up to `head` of all events of one thing, in no order.

    Raises LogUnavailable when the log does not answer in time.
    """
    seqs: list[int] = []
    try:
        async with asyncio.timeout(READ_WITHIN):
            newest = await log.last_of_each(subjects.guard(boundary))
            for subject in {message.subject for message in newest or ()}:
                found = read(log.connection, [subject], 0, head, headers_only=True)
                async with aclosing(found) as batches:
                    async for batch in batches:
                        seqs.extend(message.seq for message in batch.messages)
    except TimeoutError as error:
        raise LogUnavailable("The log cannot be read now.") from error
    return seqs


async def _page(
    log: Log, seqs: Sequence[int], head: int, limit: int, cursor: str | None
) -> Response[EventPage]:
    """The page of the newest events before the cursor."""
    before = head + 1 if cursor is None else decode_cursor(cursor, tuple[_Seq])[0]
    older = sorted((seq for seq in seqs if seq < before), reverse=True)
    asked = older[:limit]
    items = [frame_of(decode(message)) for message in await log.messages(asked)]
    more = encode_cursor(asked[-1]) if len(older) > limit else None
    return Response(EventPage(items, more), headers={"Reyna-Seq": str(head)})
