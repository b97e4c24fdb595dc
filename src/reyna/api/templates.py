"""Templates over HTTP: what a client offers when a bucket is made."""

from __future__ import annotations

from itertools import dropwhile

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler

from reyna.api.views import DEFAULT_LIMIT, Cursor, Limit, decode_cursor, encode_cursor
from reyna.commands.templates import Template, Templates


class TemplatePage(msgspec.Struct, frozen=True):
    """One page of templates, by name."""

    items: list[Template]
    next_cursor: str | None


def routes(templates: Templates) -> list[HTTPRouteHandler]:
    """The routes that read templates."""

    @get("/templates", tags=["buckets"])
    async def list_templates(limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> TemplatePage:
        """The trees that `POST buckets` can make at once."""
        after = "" if cursor is None else decode_cursor(cursor, tuple[str])[0]
        rest = list(dropwhile(lambda one: one.name <= after, templates.all()))
        more = len(rest) > limit
        return TemplatePage(rest[:limit], encode_cursor(rest[limit - 1].name) if more else None)

    return [list_templates]
