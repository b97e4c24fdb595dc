"""The stream: append under a guard, read what a boundary needs. Owns the stream's configuration.

An append is stored whole or not at all, once, whatever is lost on the way: a lost answer is
resolved by looking the event's id up, never by guessing. Following the stream is
`reyna.log.follow`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Self

import msgspec
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, BadRequestError, NotFoundError

from reyna.domain.event import Boundary, Event, Meta
from reyna.errors import LogUnavailable, ReynaError, SetupError, TooLarge, WrongExpectedSeq
from reyna.ids import new_id, rfc3339
from reyna.log import direct, subjects
from reyna.log.connection import Connection
from reyna.log.record import Stored, decode, encode

STREAM = "REYNA"
DUPLICATE_WINDOW = 120.0
MAX_BATCH = 1000
# Events read at once to find one by its time.
LOOK_AHEAD = 100
EARLIEST_YEAR = 1970
LATEST_YEAR = 2261
# Batches on their way at once; a stream takes 50 from all processes.
BATCHES = 8
# Bytes of headers and payload. A larger message costs the connection on an ordinary server, and
# readers (`reyna.log.follow`) rely on there being none.
MAX_MESSAGE = 8 * 1024 * 1024
HEADERS = 1024
# Seconds; a client that waits for five must still hear our 503.
PUBLISH_TIMEOUT = 3.0
_CONFLICTS = frozenset({10071, 10164})
_DUPLICATE_IN_BATCH = 10201
_EXISTS_OTHERWISE = 10058
_EPOCH = "reyna-epoch"

_LEADER = f"$JS.API.STREAM.MSG.GET.{STREAM}"


class Draft(msgspec.Struct, frozen=True):
    """An event about to be appended."""

    owner: str
    entity_id: str
    event: Event
    meta: Meta


class Guard(msgspec.Struct, frozen=True):
    """The condition of an append: nothing in `boundary` after `seq` (0: nothing at all)."""

    boundary: Boundary
    seq: int


class _ApiError(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Ack(msgspec.Struct):
    seq: int = 0
    duplicate: bool = False
    error: _ApiError | None = None


_ACK = msgspec.json.Decoder(_Ack)


class Log:
    """The one stream that holds every event."""

    def __init__(self, connection: Connection, epoch: str) -> None:
        self.connection = connection
        self.epoch = epoch
        self._batches = asyncio.Semaphore(BATCHES)

    @classmethod
    async def open(cls, connection: Connection, *, replicas: int = 1) -> Self:
        """The log behind `connection`; the stream is made if it is not there."""
        manager = connection.client.jetstream()
        try:
            try:
                info = await manager.stream_info(STREAM)
            except NotFoundError:
                info = await _make(manager, replicas)
        except (APIError, TimeoutError, OSError) as error:
            raise SetupError(f"The log cannot be opened: {error}") from error
        epoch = epoch_of(info)
        if epoch is None:
            raise SetupError(f"The stream {STREAM} was not made by ReYNa: it has no {_EPOCH}.")
        return cls(connection, epoch)

    async def append(self, drafts: Sequence[Draft], guard: Guard) -> int:
        """Store all drafts, or none; answers the seq of the last. Several are contiguous.

        Raises WrongExpectedSeq when the boundary has moved, TooLarge for an event that no message
        can carry, LogUnavailable when the log cannot be reached: then the outcome is unknown only
        if the request had been sent.
        """
        if not 0 < len(drafts) <= MAX_BATCH:
            raise ReynaError(f"One append takes 1 to {MAX_BATCH} events, not {len(drafts)}.")
        messages = [_message(draft, guard) for draft in drafts]
        self._check_size(messages)
        deadline = asyncio.get_running_loop().time() + PUBLISH_TIMEOUT
        uncertain = False
        while True:
            try:
                ack = await self._publish(messages)
            except LogUnavailable:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                uncertain = True
                await self.connection.ready()
                await asyncio.sleep(random.uniform(0.02, 0.1))
                continue
            if ack.error is None:
                return ack.seq
            if ack.error.err_code not in _CONFLICTS | {_DUPLICATE_IN_BATCH}:
                raise LogUnavailable(f"The log refused the event: {ack.error.description}")
            if uncertain and (
                seq := await self._find(messages[-1].subject, drafts[-1].meta.id, guard)
            ):
                return seq
            raise WrongExpectedSeq(ack.error.description)

    async def last_of_each(self, *filters: str, up_to: int | None = None) -> list[Stored] | None:
        """The last message of each subject under the filters, in order; None if there are over
        1024, or over 64 MiB of them. With `up_to`, a seq from 1: as it was right after that one.
        """
        body: dict[str, object] = {"multi_last": filters}
        if up_to is not None:
            body["up_to_seq"] = up_to
        return await self._direct(body)

    async def since(self, filter_: str, seq: int, most: int = MAX_BATCH) -> list[Stored] | None:
        """The messages under `filter_` after `seq`, in order; None if there are more than
        `most`, or over 64 MiB of them.
        """
        found = await self._direct({"batch": most + 1, "seq": seq + 1, "next_by_subj": filter_})
        return None if found is None or len(found) > most else found

    async def last_seq(self, filter_: str) -> int:
        """The seq of the last message under `filter_`, 0 if there is none. Costs the same however
        long the log is.
        """
        found = await self._get({"last_by_subj": filter_})
        return 0 if found is None else found.seq

    async def messages(self, seqs: Iterable[int]) -> list[Stored]:
        """The messages of these seqs, in this order; what was erased is left out."""
        found = [await self._get({"seq": seq}) for seq in seqs]
        return [message for message in found if message is not None]

    async def message(self, seq: int) -> Stored | None:
        """The message `seq`, None if there is none."""
        return await self._get({"seq": seq})

    async def first_since(self, filter_: str, time: str) -> Stored | None:
        """The first message under `filter_` that was stored at or after `time`, RFC 3339; None if
        there is none.
        """
        return await self._get({"start_time": time, "next_by_subj": filter_})

    async def head(self, timeout: float = PUBLISH_TIMEOUT) -> int:
        """The seq of the last event in the log, 0 for an empty one."""
        answer = await self.connection.request(
            f"$JS.API.STREAM.INFO.{STREAM}", b"", timeout=timeout
        )
        info = msgspec.json.decode(answer.data, type=_Info)
        if info.error is not None:
            raise LogUnavailable(f"The log does not answer: {info.error.description}")
        return info.state.last_seq

    async def position_at(self, moment: datetime) -> int:
        """The seq of the last event decided no later than `moment`: it and all before it count.

        An event is stored a little after it is decided, so what was stored since is looked
        through until one is found that was decided later.
        """
        # The server counts nanoseconds in 64 bits: beyond these years they overflow.
        if moment.year < EARLIEST_YEAR:
            return 0
        if moment.year > LATEST_YEAR:
            return await self.head()
        ask: dict[str, object] = {"start_time": rfc3339(moment)}
        while True:
            ask |= {"batch": LOOK_AHEAD, "next_by_subj": subjects.ALL}
            later = await self._direct(ask, some=True)
            if not later:
                return await self.head()
            for stored in later:
                if decode(stored).time > rfc3339(moment):
                    return stored.seq - 1
            ask = {"seq": later[-1].seq + 1}

    def _check_size(self, messages: list[_Message]) -> None:
        room = min(self.connection.client.max_payload, MAX_MESSAGE) - HEADERS
        size = max(len(message.payload) for message in messages)
        if size > room:
            raise TooLarge(f"The event has {size} bytes; the log takes at most {room}.")

    async def _publish(self, messages: list[_Message]) -> _Ack:
        if len(messages) == 1:
            only = messages[0]
            return await self._send(only, only.headers)
        async with self._batches:
            return await self._publish_batch(messages)

    async def _publish_batch(self, messages: list[_Message]) -> _Ack:
        batch = new_id()
        for number, message in enumerate(messages, start=1):
            headers = {
                **message.headers,
                "Nats-Batch-Id": batch,
                "Nats-Batch-Sequence": str(number),
            }
            if number == len(messages):
                return await self._send(message, {**headers, "Nats-Batch-Commit": "1"})
            if number == 1:
                opened = await self._send(message, headers)
                if opened.error is not None:
                    return opened
            else:
                await self.connection.publish(message.subject, message.payload, headers)
        raise AssertionError("a batch has a last message")

    async def _send(self, message: _Message, headers: dict[str, str]) -> _Ack:
        answer = await self.connection.request(
            message.subject, message.payload, headers, timeout=PUBLISH_TIMEOUT
        )
        return _ACK.decode(answer.data) if answer.data else _Ack()

    async def _find(self, subject: str, event_id: str, guard: Guard) -> int:
        """The seq of the event `event_id` if it was stored after the guard's seq, else 0.

        Asks the stream's leader: a follower may not have what was just written.
        """
        seq = guard.seq + 1
        while True:
            body = msgspec.json.encode({"seq": seq, "next_by_subj": subject})
            answer = await self.connection.request(_LEADER, body, timeout=PUBLISH_TIMEOUT)
            found = msgspec.json.decode(answer.data, type=_LeaderAnswer)
            if found.message is None:
                return 0
            if _event_id(found.message.data) == event_id:
                return found.message.seq
            seq = found.message.seq + 1

    async def _get(self, body: dict[str, object]) -> Stored | None:
        return await direct.get_one(self.connection, STREAM, body, timeout=PUBLISH_TIMEOUT)

    async def _direct(self, body: dict[str, object], *, some: bool = False) -> list[Stored] | None:
        """The answers to a Direct Get with several, None when the server finds them too many.

        With `some` the first of more than were asked for will do.
        """
        found = await direct.get(self.connection, STREAM, body, timeout=PUBLISH_TIMEOUT)
        return found.messages if some or found.whole else None


class _Message(msgspec.Struct):
    subject: str
    payload: bytes
    headers: dict[str, str]


class _State(msgspec.Struct):
    last_seq: int = 0


class _Info(msgspec.Struct):
    state: _State = msgspec.field(default_factory=_State)
    error: _ApiError | None = None


class _LeaderMessage(msgspec.Struct):
    seq: int
    data: bytes


class _LeaderAnswer(msgspec.Struct):
    message: _LeaderMessage | None = None


class _Id(msgspec.Struct):
    id: str = ""


class _IdEnvelope(msgspec.Struct):
    meta: _Id = msgspec.field(default_factory=_Id)


def _event_id(payload: bytes) -> str:
    try:
        return msgspec.json.decode(payload, type=_IdEnvelope).meta.id
    except msgspec.MsgspecError:
        return ""


def _message(draft: Draft, guard: Guard) -> _Message:
    return _Message(
        subject=subjects.subject_of(draft.owner, draft.entity_id, draft.event),
        payload=encode(draft.event, draft.meta),
        headers={
            "Nats-Msg-Id": draft.meta.id,
            "Nats-Expected-Stream": STREAM,
            "Nats-Expected-Last-Subject-Sequence": str(guard.seq),
            "Nats-Expected-Last-Subject-Sequence-Subject": subjects.guard(guard.boundary),
        },
    )


async def _make(manager: JetStreamContext, replicas: int) -> api.StreamInfo:
    """Make the stream, unless another process is faster."""
    try:
        return await manager.add_stream(configuration(replicas))
    except BadRequestError as error:
        if error.err_code != _EXISTS_OTHERWISE:
            raise
        return await manager.stream_info(STREAM)


def epoch_of(info: api.StreamInfo) -> str | None:
    """The epoch of a stream, None if ReYNa did not make it."""
    return (info.config.metadata or {}).get(_EPOCH)


def configuration(replicas: int) -> api.StreamConfig:
    """The stream as it is made, with a new epoch."""
    return api.StreamConfig(
        name=STREAM,
        description="Every event of ReYNa Studio, in order. The only source of truth.",
        subjects=[subjects.STORED],
        retention=api.RetentionPolicy.LIMITS,
        storage=api.StorageType.FILE,
        num_replicas=replicas,
        duplicate_window=DUPLICATE_WINDOW,
        republish=api.RePublish(src=subjects.STORED, dest=subjects.REPUBLISH_TO),
        allow_direct=True,
        allow_atomic=True,
        allow_rollup_hdrs=False,
        metadata={_EPOCH: new_id()},
    )
