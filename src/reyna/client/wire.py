"""One connection to the live socket: frames out and in, and what its end means.

Which events were had, and what is done after an end, belongs to `reyna.client.stream`.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TypeVar

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from reyna.client.errors import (
    NotUnderstood,
    Problem,
    StudioError,
    Unreachable,
    refusal,
    refused,
)
from reyna.client.transport import PREFIX

# Seconds.
OPEN_WITHIN = 10.0
CLOSE_WITHIN = 2.0
PING_EVERY = 20.0
# A blob has a mebibyte of JSON unless the server was told otherwise.
MAX_FRAME = 64 * 1024 * 1024

T = TypeVar("T")


class Authenticate(msgspec.Struct, frozen=True, tag_field="action", tag="authenticate"):
    """Renew the token on the open socket."""

    token: str


class Subscribe(
    msgspec.Struct, frozen=True, omit_defaults=True, tag_field="action", tag="subscribe"
):
    """Ask for events: with `after`, first for those that came since."""

    buckets: tuple[str, ...]
    subtree: bool = False
    after: int | None = None
    epoch: str | None = None


class Subscribed(msgspec.Struct, frozen=True):
    """The subscription stands; not `recovered`: it does not begin at `after`."""

    epoch: str
    head: int
    recovered: bool


class Frame(msgspec.Struct, frozen=True):
    """What is to be known of a frame to read it: its kind, and its seq if it is an event's."""

    type: str
    seq: int | None = None
    problem: Problem | None = None


class Wire:
    """An open socket."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, url: str, token: str | None) -> Wire:
        """Connect to the studio at `url`. Raises Unreachable, Refused."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            connection = await connect(
                f"{url.replace('http', 'ws', 1)}{PREFIX}/ws",
                additional_headers=headers,
                compression=None,
                open_timeout=OPEN_WITHIN,
                close_timeout=CLOSE_WITHIN,
                ping_interval=PING_EVERY,
                ping_timeout=PING_EVERY,
                max_size=MAX_FRAME,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            raise refusal(Problem(status, detail="The socket was not opened.")) from error
        except (OSError, InvalidHandshake, TimeoutError) as error:
            raise Unreachable(str(error) or type(error).__name__, arrived=False) from error
        return cls(connection)

    async def say(self, frame: Authenticate | Subscribe) -> None:
        """Send a frame. Raises as `hear` does."""
        try:
            await self._connection.send(msgspec.json.encode(frame).decode())
        except ConnectionClosed as closing:
            raise _end(closing) from closing

    async def hear(self) -> tuple[Frame, bytes]:
        """The next frame, and its text to be read in full. A cancellation loses none.

        Raises Unreachable when the connection is gone and a new one may help, Refused when the
        server wants no more, or an error frame came.
        """
        try:
            text = await self._connection.recv(decode=False)
        except ConnectionClosed as closing:
            raise _end(closing) from closing
        frame = read(text, Frame)
        if frame.type == "error":
            problem = frame.problem or Problem(HTTPStatus.INTERNAL_SERVER_ERROR)
            raise refusal(problem)
        return frame, text

    async def close(self) -> None:
        """Close, politely if the other side still answers."""
        await self._connection.close()


def read(text: bytes, into: type[T]) -> T:
    """A frame in full. Raises NotUnderstood."""
    try:
        return msgspec.json.decode(text, type=into)
    except msgspec.MsgspecError as error:
        raise NotUnderstood(f"A frame cannot be read: {error}") from error


def _end(closing: ConnectionClosed) -> StudioError:
    """What a close code means, other than that the connection is gone."""
    if closing.rcvd is None:
        return Unreachable("The connection broke.")
    code, reason = closing.rcvd.code, closing.rcvd.reason
    match code:
        case 4400:
            return NotUnderstood(reason)
        case 4401:
            return refused(HTTPStatus.UNAUTHORIZED, reason)
        case 4403:
            return refused(HTTPStatus.FORBIDDEN, reason)
    return Unreachable(f"The socket was closed with {code}: {reason}")
