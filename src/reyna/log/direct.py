"""Direct Get: reading messages of a stream with one request. Owns how an answer ends."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
from nats.aio.msg import Msg

from reyna.errors import LogUnavailable
from reyna.log.connection import Connection
from reyna.log.record import Stored


class Answer(msgspec.Struct, frozen=True):
    """Messages in order. Not `whole`: the server holds more that match, or found them too many."""

    messages: list[Stored]
    whole: bool


async def get(
    connection: Connection, stream: str, body: Mapping[str, object], *, timeout: float
) -> Answer:
    """The messages that `body` asks a stream for (ADR-31).

    Raises LogUnavailable when they have not all come after `timeout` seconds.
    """
    await connection.ready()
    found: list[Stored] = []
    end: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    async def take(message: Msg) -> None:
        headers = message.headers or {}
        if "Status" not in headers:
            seq, subject = int(headers["Nats-Sequence"]), headers["Nats-Subject"]
            found.append(Stored(seq, subject, message.data))
        elif not end.done():
            end.set_result(headers)

    inbox = connection.inbox()
    subscription = await connection.subscribe(inbox, take)
    try:
        await connection.publish(
            f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(body), reply=inbox
        )
        async with asyncio.timeout(timeout):
            headers = await end
    except TimeoutError as error:
        raise LogUnavailable("The log did not answer a read.") from error
    finally:
        await subscription.unsubscribe()
    match headers["Status"]:
        case "204" | "404":
            # The server also ends an answer that has grown too large.
            return Answer(found, headers.get("Nats-Num-Pending", "0") == "0")
        case "413":
            return Answer([], False)
        case status:
            raise LogUnavailable(f"The log cannot be read (status {status}).")


async def get_one(
    connection: Connection, stream: str, body: Mapping[str, object], *, timeout: float
) -> Stored | None:
    """The one message that `body` asks a stream for, None if there is none."""
    message = await connection.request(
        f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(body), timeout=timeout
    )
    headers = message.headers or {}
    match headers.get("Status"):
        case None:
            return Stored(int(headers["Nats-Sequence"]), headers["Nats-Subject"], message.data)
        case "404":
            return None
        case status:
            raise LogUnavailable(f"The log cannot be read (status {status}).")
