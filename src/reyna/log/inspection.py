"""Looking at the stream without changing it: is it there, and is it as it was made? For
`reyna doctor`.
"""

from __future__ import annotations

import msgspec
from nats.errors import Error as NatsError
from nats.js import api
from nats.js.errors import APIError, NotFoundError

from reyna.errors import LogUnavailable
from reyna.log.connection import Connection
from reyna.log.stream import STREAM, Log, configuration, epoch_of

# Not among them: what an operator may choose, such as replicas and placement.
_AS_MADE = (
    "subjects",
    "retention",
    "storage",
    "republish",
    "allow_direct",
    "allow_atomic",
    "allow_rollup_hdrs",
)
_LIMITS = ("max_msgs", "max_bytes", "max_msgs_per_subject", "max_age")


class Found(msgspec.Struct, frozen=True):
    """The stream as it is. `log` is None if ReYNa did not make it; `faults` is what is not as
    made.
    """

    server_version: str
    log: Log | None
    head: int
    faults: tuple[str, ...]


async def inspect(connection: Connection) -> Found | None:
    """The stream behind a connection, None if there is none. Raises LogUnavailable."""
    try:
        info = await connection.client.jetstream().stream_info(STREAM)
    except NotFoundError:
        return None
    except (APIError, NatsError, TimeoutError, OSError) as error:
        raise LogUnavailable(f"The log cannot be looked at: {error}") from error
    epoch, version = epoch_of(info), connection.client.connected_server_version
    return Found(
        server_version=f"{version.major}.{version.minor}.{version.patch}",
        log=None if epoch is None else Log(connection, epoch),
        head=info.state.last_seq,
        faults=tuple(_faults(info.config)),
    )


def _faults(found: api.StreamConfig) -> list[str]:
    made = configuration(1)
    faults = [
        f"{name} is {_shown(getattr(found, name))}, not {_shown(getattr(made, name))}"
        for name in _AS_MADE
        if (getattr(found, name) or None) != (getattr(made, name) or None)
    ]
    # A limit makes the server forget events.
    faults += [
        f"{name} is {getattr(found, name)}, not unlimited"
        for name in _LIMITS
        if (getattr(found, name) or 0) > 0
    ]
    return faults


def _shown(value: object) -> str:
    if isinstance(value, api.RePublish):
        return f"{value.src} to {value.dest}"
    return str(value)
