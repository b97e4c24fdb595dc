"""The live socket `/api/v1/ws`. Owns one connection's life: who it is, what it reads, how it ends.

One reader, one sender, and a task for each catch-up, all in one group: whichever ends the
connection ends the others. What is sent comes from the listener's bounded outbox; what events a
subscription gets is the hub's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import NoReturn, TypeAlias
from urllib.parse import urlsplit

import msgspec
from litestar import WebSocket, websocket
from litestar.datastructures import State
from litestar.exceptions import WebSocketDisconnect
from litestar.handlers import WebsocketRouteHandler

from reyna.api import live_frames as frames
from reyna.api.problems import problem_of
from reyna.commands.blobs import BlobCommands
from reyna.commands.buckets import BucketCommands
from reyna.commands.handler import Caller
from reyna.commands.idempotency import Answer
from reyna.errors import Conflict, Malformed, NotAuthenticated, ReynaError
from reyna.identity.tokens import Principal, Tokens
from reyna.runtime.hub import Hub, Listener, Subscription

logger = logging.getLogger(__name__)

PROTOCOL = "reyna.v1"
BEARER = "bearer."
AUTHENTICATE_WITHIN = 10.0
SEND_WITHIN = 20.0
CLOSE_WITHIN = 2.0
MAX_SUBSCRIPTIONS = 100

BAD_FRAME, NOT_AUTHENTICATED, ORIGIN_REFUSED = 4400, 4401, 4403
NOTHING_IN_TIME, TOO_SLOW, FAILED = 4408, 4410, 1011

Socket: TypeAlias = WebSocket[object, object, State]
_FRAME = msgspec.json.Decoder(frames.ClientFrame)
_REF = msgspec.json.Decoder(frames.JustRef)


class _Close(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _Gone(Exception):
    """The client has left."""


def route(
    hub: Hub,
    tokens: Tokens,
    blobs: BlobCommands,
    buckets: BucketCommands,
    allowed_origins: tuple[str, ...],
) -> WebsocketRouteHandler:
    """The socket's route."""

    @websocket("/ws")
    async def live(socket: Socket) -> None:
        session = Session(socket, hub, tokens, blobs, buckets)
        if not origin_allowed(socket, allowed_origins):
            await session.refuse(ORIGIN_REFUSED, "This origin is not allowed.")
            return
        await session.run()

    return live


def origin_allowed(socket: Socket, allowed: tuple[str, ...]) -> bool:
    """Whether a browser on this page may connect; others send no Origin."""
    origin = socket.headers.get("origin")
    if origin is None or origin in allowed:
        return True
    try:
        return urlsplit(origin).netloc == socket.headers.get("host")
    except ValueError:
        return False


class Session:
    """One client on one socket."""

    def __init__(
        self,
        socket: Socket,
        hub: Hub,
        tokens: Tokens,
        blobs: BlobCommands,
        buckets: BucketCommands,
    ) -> None:
        self._socket = socket
        self._hub = hub
        self._tokens = tokens
        self._blobs = blobs
        self._buckets = buckets
        self._principal: Principal | None = None
        self._listener: Listener | None = None

    async def refuse(self, code: int, reason: str) -> None:
        """Accept, so that a browser sees the code, and close."""
        await self._accept()
        await self._close(code, reason)

    async def run(self) -> None:
        """Serve the client until it leaves or is let go."""
        await self._accept()
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._introduce(tasks)
                await self._read(tasks)
        except* _Close as closing:
            reason = closing.exceptions[0]
            assert isinstance(reason, _Close)
            await self._close(reason.code, reason.reason)
        except* (_Gone, WebSocketDisconnect, OSError):
            logger.debug("a live client left")
        except* Exception as unexpected:
            logger.error("a live socket failed", exc_info=unexpected)
            await self._close(FAILED, "Something went wrong here.")
        finally:
            if self._listener is not None:
                await self._hub.leave(self._listener)

    async def _accept(self) -> None:
        offered = self._socket.scope["subprotocols"]
        await self._socket.accept(subprotocols=PROTOCOL if PROTOCOL in offered else None)

    async def _close(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(CLOSE_WITHIN):
                await self._socket.close(code=code, reason=reason[:100])
        except (TimeoutError, OSError, RuntimeError, WebSocketDisconnect) as error:
            logger.debug("a live socket did not close by itself: %s", error)

    async def _introduce(self, tasks: asyncio.TaskGroup) -> None:
        """Take the token that came with the handshake, if one did."""
        token = next(
            (p[len(BEARER) :] for p in self._socket.scope["subprotocols"] if p.startswith(BEARER)),
            None,
        )
        scheme, _, given = self._socket.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            token = given.strip()
        if token is not None:
            try:
                await self._authenticate(tasks, token)
            except NotAuthenticated as error:
                raise _Close(NOT_AUTHENTICATED, error.detail) from error

    async def _authenticate(self, tasks: asyncio.TaskGroup, token: str) -> Principal:
        principal = self._tokens.verify(token)
        if self._principal is not None and self._principal.user_id != principal.user_id:
            raise NotAuthenticated("This socket is somebody else's; open another.")
        self._principal = principal
        if self._listener is None:
            listener = Listener(principal.user_id)
            await self._hub.join(listener)
            self._listener = listener
            tasks.create_task(self._send(listener), name="live sender")
        return principal

    async def _send(self, listener: Listener) -> None:
        while True:
            text = await listener.outbox.take()
            if text is None:
                raise _Close(TOO_SLOW, "Too slow: resume with your last seq.")
            await self._send_now(text)

    async def _send_now(self, text: str) -> None:
        try:
            async with asyncio.timeout(SEND_WITHIN):
                await self._socket.send({"type": "websocket.send", "text": text, "bytes": None})
        except TimeoutError:
            raise _Close(TOO_SLOW, "Too slow: resume with your last seq.") from None

    async def _read(self, tasks: asyncio.TaskGroup) -> NoReturn:
        loop = asyncio.get_running_loop()
        first_by = loop.time() + AUTHENTICATE_WITHIN
        while True:
            principal = self._principal
            deadline = first_by
            if principal is not None:
                deadline = loop.time() + principal.expires - time.time()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await self._socket.receive()
            except TimeoutError:
                if principal is None:
                    raise _Close(NOTHING_IN_TIME, "Nothing authenticated in time.") from None
                raise _Close(NOT_AUTHENTICATED, "The token has expired.") from None
            if message["type"] == "websocket.disconnect":
                raise _Gone
            text = message.get("text")
            if not isinstance(text, str):
                raise _Close(BAD_FRAME, "Frames are JSON text.")
            await self._take(tasks, text)

    async def _take(self, tasks: asyncio.TaskGroup, text: str) -> None:
        if not text.lstrip().startswith("{"):
            raise _Close(BAD_FRAME, "A frame is a JSON object.")
        try:
            frame = _FRAME.decode(text)
        except msgspec.ValidationError as error:
            await self._tell_error(Malformed(f"{error}."), _ref_in(text))
            return
        except (msgspec.DecodeError, RecursionError) as error:
            raise _Close(BAD_FRAME, "The frame is not JSON.") from error
        try:
            await self._answer(tasks, frame)
        except ReynaError as error:
            await self._tell_error(error, frame.ref)
            if self._principal is None:
                raise _Close(NOT_AUTHENTICATED, str(error)) from error
        except (_Close, WebSocketDisconnect, OSError):
            raise
        except Exception as error:
            logger.exception("a live frame failed")
            await self._tell_error(error, frame.ref)

    async def _answer(self, tasks: asyncio.TaskGroup, frame: frames.ClientFrame) -> None:
        if isinstance(frame, frames.Authenticate):
            principal = await self._authenticate(tasks, frame.token)
            await self._tell(
                frames.Ack(
                    ref=frame.ref, user_id=principal.user_id, expires_at=principal.expires_at
                )
            )
            return
        if isinstance(frame, frames.Ping):
            await self._tell(frames.Pong(frame.ref))
            return
        listener = self._listener
        if listener is None:
            raise NotAuthenticated("Authenticate first.")
        match frame:
            case frames.Subscribe():
                await self._subscribe(tasks, listener, frame)
            case frames.Unsubscribe():
                listener.unsubscribe(_selection(frame.buckets))
                await self._tell(frames.Ack(ref=frame.ref))
            case _:
                await self._tell(await self._command(Caller(user_id=listener.owner), frame))

    async def _subscribe(
        self, tasks: asyncio.TaskGroup, listener: Listener, frame: frames.Subscribe
    ) -> None:
        if len(listener.subscriptions) >= MAX_SUBSCRIPTIONS:
            raise Conflict(f"A socket has at most {MAX_SUBSCRIPTIONS} subscriptions.")
        subscription = await self._hub.subscribe(
            listener, _selection(frame.buckets), subtree=frame.subtree
        )
        try:
            head = await self._hub.log.head()
        except ReynaError:
            listener.subscriptions.remove(subscription)
            raise
        epoch = self._hub.log.epoch
        after = frame.after
        recovered = after is None or (after <= head and frame.epoch in {None, epoch})
        start = after if recovered and after is not None else max(head, subscription.floor)
        await self._tell(
            frames.Subscribed(epoch=epoch, head=head, recovered=recovered, ref=frame.ref)
        )
        subscription.catching_up = tasks.create_task(
            self._catch_up(listener, subscription, start, frame.ref)
        )

    async def _catch_up(
        self, listener: Listener, subscription: Subscription, start: int, ref: frames.Ref
    ) -> None:
        seq = await self._hub.catch_up(listener, subscription, start)
        await self._tell(frames.Live(seq=seq, ref=ref))

    async def _command(self, caller: Caller, frame: frames.CommandFrame) -> frames.Ack:
        blobs, buckets = self._blobs, self._buckets
        blob: Answer | None = None
        bucket: Answer | None = None
        match frame:
            case frames.CreateBlobFrame():
                blob = await blobs.create(caller, frame)
            case frames.UpdateBlobFrame():
                blob = await blobs.update(caller, frame.blob_id, frame, _seqs(frame.if_match))
            case frames.DeleteBlobFrame():
                blob = await blobs.delete(caller, frame.blob_id, _seqs(frame.if_match))
            case frames.CreateBucketFrame():
                bucket = await buckets.create(caller, frame)
            case frames.UpdateBucketFrame():
                bucket = await buckets.describe(
                    caller, frame.bucket_id, frame, _seqs(frame.if_match)
                )
            case frames.MoveBucketFrame():
                bucket = await buckets.move(caller, frame.bucket_id, frame)
        if blob is not None:
            return frames.Ack(ref=frame.ref, blob_id=blob.entity_id, seq=blob.seq)
        assert bucket is not None, "every command answers"
        return frames.Ack(ref=frame.ref, bucket_id=bucket.entity_id, seq=bucket.seq)

    async def _tell_error(self, error: Exception, ref: frames.Ref) -> None:
        await self._tell(frames.ErrorFrame(problem=problem_of(error), ref=ref))

    async def _tell(self, frame: msgspec.Struct) -> None:
        """Answer in order with the events, or directly before there is a listener."""
        text = msgspec.json.encode(frame).decode()
        if self._listener is not None:
            self._listener.outbox.put(text)
        else:
            await self._send_now(text)


def _ref_in(text: str) -> frames.Ref:
    """The ref of a frame that makes no sense otherwise; _Close for what is no JSON further on."""
    try:
        return _REF.decode(text).ref
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, RecursionError) as error:
        raise _Close(BAD_FRAME, "The frame is not JSON.") from error


def _selection(buckets: frames.Buckets) -> frozenset[str] | None:
    chosen = frozenset([buckets] if isinstance(buckets, str) else buckets)
    return None if "*" in chosen else chosen


def _seqs(seq: int | None) -> frozenset[int] | None:
    return None if seq is None else frozenset([seq])
