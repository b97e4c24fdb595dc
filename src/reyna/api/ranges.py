"""Conditional and partial requests for bytes that never change (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

_RANGE = re.compile(r"\s*([0-9]{0,19})\s*-\s*([0-9]{0,19})\s*\Z")


class Span(msgspec.Struct, frozen=True):
    """Bytes from `start` up to but not including `stop`."""

    start: int
    stop: int


class Unsatisfiable(Exception):
    """The range asked for begins behind the end."""


def not_modified(headers: Mapping[str, str], etag: str) -> bool:
    """Whether the caller has the bytes of this ETag already."""
    header = headers.get("if-none-match")
    if header is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in header.split(",")}
    return "*" in tags or etag in tags


def span(headers: Mapping[str, str], etag: str, size: int) -> Span | None:
    """The one range asked for; None for the whole, which also answers what cannot be understood,
    several ranges, and an If-Range of other bytes. Raises Unsatisfiable.
    """
    unit, equals, ranges = headers.get("range", "").partition("=")
    asked = _RANGE.match(ranges)
    if unit.strip().lower() != "bytes" or not equals or asked is None:
        return None
    if headers.get("if-range", etag).strip() != etag:
        return None
    first, last = asked[1], asked[2]
    if first and last and int(first) > int(last):
        return None
    if first:
        start, stop = int(first), min(size, int(last) + 1) if last else size
    elif last:
        start, stop = max(0, size - int(last)), size
    else:
        return None
    if start >= stop:
        raise Unsatisfiable
    return Span(start, stop)
