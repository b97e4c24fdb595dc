"""Lists: page by page, or all of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

from reyna.client.model import Page
from reyna.client.transport import Query, Transport

T = TypeVar("T")

# What one request of a whole list asks for: the most that a server gives.
PER_REQUEST = 200


async def walk(
    transport: Transport,
    path: str,
    into: type[Page[T]],
    query: Query,
    min_seq: int | None = None,
) -> AsyncIterator[T]:
    """Everything in a list, one request a page."""
    asked: Query = {"limit": PER_REQUEST, **query}
    while True:
        found = await transport.get(path, into, asked, min_seq)
        for item in found.items:
            yield item
        if found.next_cursor is None:
            return
        asked = {**asked, "cursor": found.next_cursor}
