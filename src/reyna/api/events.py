"""GET events: the caller's own events in order, straight from the log."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Annotated

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, QueryParameter
from litestar.response import Response

from reyna.api.requests import Req
from reyna.api.views import DEFAULT_LIMIT, Cursor, Limit, decode_cursor, encode_cursor, min_seq
from reyna.errors import LogUnavailable, ViewBehind
from reyna.log import subjects
from reyna.log.follow import read
from reyna.log.record import Record, decode
from reyna.log.stream import Log
from reyna.runtime.frames import EventFrame, frame_of

# Events looked at for one page: a filter that matches little gives a short page and a cursor.
MAX_LOOK = 5000
READ_WITHIN = 4.0

_Seq = Annotated[int, msgspec.Meta(ge=0)]


class EventPage(msgspec.Struct, frozen=True):
    """One page of events."""

    items: list[EventFrame]
    next_cursor: str | None


def routes(log: Log) -> list[HTTPRouteHandler]:
    """GET events."""

    @get("/events", tags=["events"])
    async def list_events(
        request: Req,
        after: Annotated[int, QueryParameter(ge=0, description="Only events after this seq.")] = 0,
        bucket_id: FromQuery[str | None] = None,
        blob_id: FromQuery[str | None] = None,
        types: Annotated[
            str | None, QueryParameter(max_length=1000, description="Types, separated by commas.")
        ] = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> Response[EventPage]:
        """The caller's own events, the oldest first."""
        position = after if cursor is None else decode_cursor(cursor, tuple[_Seq])[0]
        wanted = _Wanted(
            None if bucket_id is None else subjects.token(bucket_id),
            None if blob_id is None else subjects.token(blob_id),
            frozenset(types.split(",")) if types else None,
        )
        head = await reached(request, log)
        found, seen = await _read(log, request.user.user_id, position, head, wanted, limit)
        more = encode_cursor(seen) if seen < head else None
        body = EventPage([frame_of(record) for record in found], more)
        return Response(body, headers={"Reyna-Seq": str(head)})

    return [list_events]


async def reached(request: Req, log: Log) -> int:
    """The seq of the log's last event. Raises ViewBehind when Reyna-Min-Seq asks for more."""
    minimum = min_seq(request.headers)
    head = await log.head()
    if minimum > head:
        raise ViewBehind(f"The log has not reached {minimum}: its last event is {head}.")
    return head


class _Wanted(msgspec.Struct, frozen=True):
    bucket_id: str | None
    blob_id: str | None
    types: frozenset[str] | None

    def __call__(self, record: Record) -> bool:
        if self.types is not None and record.type not in self.types:
            return False
        frame = frame_of(record)
        if self.blob_id is not None and self.blob_id not in {frame.blob_id, frame.parent_id}:
            return False
        return self.bucket_id is None or self.bucket_id in frame.bucket_ids


async def _read(
    log: Log, owner: str, after: int, head: int, wanted: _Wanted, most: int
) -> tuple[list[Record], int]:
    """Up to `most` of the wanted, and the seq up to which was looked, `head` at the end.

    Raises LogUnavailable when the log does not answer in time.
    """
    found: list[Record] = []
    looked_at = 0
    messages = read(log.connection, [subjects.of_owner(owner)], after, head)
    try:
        async with asyncio.timeout(READ_WITHIN), aclosing(messages) as batches:
            async for batch in batches:
                for stored in batch.messages:
                    if len(found) == most or looked_at == MAX_LOOK:
                        return found, after
                    after = stored.seq
                    looked_at += 1
                    record = decode(stored)
                    if wanted(record):
                        found.append(record)
    except TimeoutError as error:
        raise LogUnavailable("The log cannot be read now.") from error
    return found, head
