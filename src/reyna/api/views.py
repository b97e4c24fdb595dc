"""Queries: what a projection's GET route is given, and the conventions of lists.

A route names a parameter `view: View` and reads rows of the caller's alone: `view.user_id` belongs
in every query. The position it was read at becomes `Reyna-Seq`; `Reyna-Min-Seq` is waited for
before.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Annotated, TypeAlias, TypeVar

import msgspec
from litestar import Router
from litestar.di import NamedDependency, Provide
from litestar.params import QueryParameter
from sqlalchemy import ColumnElement, RowMapping, func
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import Select

from reyna.api.requests import Req
from reyna.content import Projection, Readiness
from reyna.errors import Malformed
from reyna.runtime.views import Views

T = TypeVar("T")

DEFAULT_LIMIT = 50
Limit: TypeAlias = Annotated[int, QueryParameter(ge=1, le=200, description="At most this many.")]
Cursor: TypeAlias = Annotated[
    str | None, QueryParameter(max_length=1000, description="`next_cursor` of the page before.")
]
ReadinessOf: TypeAlias = Callable[[str], Readiness | None]


class CallersView(msgspec.Struct, frozen=True):
    """One caller's read transaction. `readiness` tells whether a processor can work here."""

    user_id: str
    position: int
    connection: AsyncConnection
    readiness: ReadinessOf

    async def rows(self, query: Select[tuple[object, ...]]) -> Sequence[RowMapping]:
        """All rows of a query."""
        return (await self.connection.execute(query)).mappings().all()


View: TypeAlias = NamedDependency[CallersView]


def view_router(projection: Projection, views: Views, readiness: ReadinessOf) -> Router:
    """The GET routes of a projection, each given its view."""

    async def provide(request: Req) -> AsyncGenerator[CallersView, None]:
        minimum = min_seq(request.headers)
        async with views.read(projection, minimum) as read:
            request.scope["state"]["reyna_seq"] = read.position
            yield CallersView(request.user.user_id, read.position, read.connection, readiness)

    return Router(
        path="/",
        route_handlers=list(projection.routes),
        dependencies={"view": Provide(provide)},
    )


def min_seq(headers: Mapping[str, str]) -> int:
    """The seq in Reyna-Min-Seq, 0 without it. Raises Malformed."""
    value = headers.get("reyna-min-seq", "0")
    if not value.isascii() or not value.isdigit() or len(value) > 18:
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
