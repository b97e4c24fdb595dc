"""Makes ids and times. The only source of both: rules take them as arguments.

Ids are UUIDv7 without dashes (RFC 9562), so they sort by time. An id that must come out the same
when the same work is done again is a UUIDv5 of what caused it. Times are RFC 3339 UTC, always with
six digits after the point, so that they sort as text.
"""

from __future__ import annotations

from datetime import UTC, datetime

import uuid_utils

_NAMESPACE = uuid_utils.UUID("6f1c6f0e-7f0f-5d0e-9a52-8d7a0c1f9e51")


def new_id() -> str:
    """A new UUIDv7 as 32 hexadecimal digits."""
    return uuid_utils.uuid7().hex


def id_of(*causes: str) -> str:
    """The UUIDv5 of what caused it: the same causes give the same id, in any process, for ever."""
    return uuid_utils.uuid5(_NAMESPACE, "\x1f".join(causes)).hex


def now() -> str:
    """The time now, for example `2026-11-22T15:04:05.123456Z`."""
    return rfc3339(datetime.now(UTC))


def rfc3339(time: datetime) -> str:
    """A time with a zone, written like `now`."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
