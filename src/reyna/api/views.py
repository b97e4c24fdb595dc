"""Queries: what a projection's GET route is given, and the conventions of lists.

A route names a parameter `view: View` and reads rows of the caller's alone: `view.user_id` belongs
in every query. The position it was read at becomes `Reyna-Seq`; `Reyna-Min-Seq` is waited for
before. What takes long is done before that too: a route's dependency `ahead`.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias, TypeVar, cast

import msgspec
from litestar import Router
from litestar.di import NamedDependency, Provide
from litestar.params import QueryParameter
from sqlalchemy import ColumnElement, RowMapping, func
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import Select

from reyna.api.requests import Req
from reyna.content import Embedder, Projection, Readiness
from reyna.errors import Invalid, Malformed
from reyna.log.stream import Log
from reyna.runtime.views import Views

T = TypeVar("T")

DEFAULT_LIMIT = 50
# More digits are no seq: a signed 64-bit number holds them.
MAX_DIGITS = 18
Limit: TypeAlias = Annotated[int, QueryParameter(ge=1, le=200, description="At most this many.")]
Cursor: TypeAlias = Annotated[
    str | None, QueryParameter(max_length=1000, description="`next_cursor` of the page before.")
]
At: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        max_length=40,
        description="A seq, or a time (RFC 3339): answer as things were after that event.",
    ),
]
Ahead: TypeAlias = NamedDependency[object]
ReadinessOf: TypeAlias = Callable[[str], Readiness | None]


class CallersView(msgspec.Struct, frozen=True):
    """One caller's read transaction. `readiness` tells whether a processor can work here; `at` is
    the seq of the last event that counts, None for the present.
    """

    user_id: str
    position: int
    connection: AsyncConnection
    readiness: ReadinessOf
    at: int | None = None

    async def rows(self, query: Select[tuple[object, ...]]) -> Sequence[RowMapping]:
        """All rows of a query, by the names of their columns."""
        return (await self.connection.execute(query)).mappings().all()

    async def tuples(self, query: Select[tuple[object, ...]]) -> Sequence[tuple[Any, ...]]:
        """All rows of a query as tuples: quicker where there are thousands."""
        rows = (await self.connection.execute(query)).all()
        return cast("Sequence[tuple[Any, ...]]", rows)


View: TypeAlias = NamedDependency[CallersView]


def view_router(
    projection: Projection,
    views: Views,
    log: Log,
    readiness: ReadinessOf,
    embedder: Embedder | None = None,
) -> Router:
    """The GET routes of a projection, each given its view; a temporal one takes `at`.

    A route's own dependency `ahead` is resolved before the view is opened, so that nothing slow
    keeps others from reading; it may ask for the `embedder`.
    """

    async def provide(request: Req, at: int | None = None) -> AsyncGenerator[CallersView, None]:
        minimum = max(min_seq(request.headers), at or 0)
        async with views.read(projection, minimum) as read:
            request.scope["state"]["reyna_seq"] = read.position
            yield CallersView(request.user.user_id, read.position, read.connection, readiness, at)

    async def provide_at(
        request: Req, ahead: Ahead, at: At = None
    ) -> AsyncGenerator[CallersView, None]:
        seq = None if at is None else await seq_at(log, at)
        async for view in provide(request, seq):
            yield view

    async def provide_now(request: Req, ahead: Ahead) -> AsyncGenerator[CallersView, None]:
        async for view in provide(request):
            yield view

    return Router(
        path="/",
        route_handlers=list(projection.routes),
        dependencies={
            "view": Provide(provide_at if projection.temporal else provide_now),
            "ahead": Provide(lambda: None, sync_to_thread=False),
            "embedder": Provide(lambda: embedder, sync_to_thread=False),
        },
    )


async def seq_at(log: Log, at: str) -> int:
    """The seq of the last event at a moment given as a seq or a time (RFC 3339).

    Raises Malformed for what is neither, and Invalid for a seq that the log has not reached.
    """
    if at.isascii() and at.isdigit() and len(at) <= MAX_DIGITS:
        seq, head = int(at), await log.head()
        if seq > head:
            raise Invalid(f"The log has not reached {seq}: its last event is {head}.")
        return seq
    try:
        # In a query string an unescaped plus is read as a space.
        moment = datetime.fromisoformat(at.replace(" ", "+"))
        # At the ends of the calendar a zone leads out of it.
        in_utc = moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        in_utc = None
    if in_utc is None:
        raise Malformed("`at` is a seq, or a time such as 2026-11-22T15:04:05Z.")
    return await log.position_at(in_utc)


def min_seq(headers: Mapping[str, str]) -> int:
    """The seq in Reyna-Min-Seq, 0 without it. Raises Malformed."""
    value = headers.get("reyna-min-seq", "0")
    if not value.isascii() or not value.isdigit() or len(value) > MAX_DIGITS:
        raise Malformed("Reyna-Min-Seq is a seq: a whole number.")
    return int(value)


def tag_lines(tags: Sequence[str]) -> str:
    """Tags as JSON, one a line: no JSON string holds a line break, so a tag is found whole."""
    return msgspec.json.format(msgspec.json.encode(tags), indent=1).decode()


def tagged(column: ColumnElement[str], tag: str) -> ColumnElement[bool]:
    """Whether `tag_lines` in a column hold a tag. Unlike LIKE, this minds the case everywhere."""
    return func.replace(column, f"\n {msgspec.json.encode(tag).decode()}", "") != column


def encode_cursor(*position: str | int | None) -> str:
    """An opaque cursor for the place after a row."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()


def decode_cursor(cursor: str, shape: type[T]) -> T:
    """The place in a cursor. Raises Malformed for one that we did not make."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        return msgspec.json.decode(base64.b64decode(padded, b"-_", validate=True), type=shape)
    except (ValueError, msgspec.MsgspecError) as error:
        raise Malformed("This cursor was not made here.") from error
