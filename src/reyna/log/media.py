"""The object store: files in a stream beside the log. Owns who has which object, and its guards.

An object's name is `{owner}/{sha256}`: the same bytes are stored once for an owner, and never
shared between two. Which blob has which file is said by the log's events, never here; so an object
may be there that no event refers to, for a while (docs/decisions/0012).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Self

import msgspec
from nats.js.errors import APIError, NotFoundError

from reyna.errors import LogUnavailable, SetupError, WrongExpectedSeq
from reyna.ids import now
from reyna.log import direct, download
from reyna.log.connection import Connection
from reyna.log.objects import (
    ALL_CHUNKS,
    ALL_INFOS,
    BUCKET,
    STREAM,
    TIMEOUT,
    Info,
    Marks,
    Options,
    ask,
    chunks_of,
    configuration,
    digest_of,
    info_of,
    purge,
)
from reyna.log.subjects import token
from reyna.log.upload import Upload

PAGE = 1000
PAGE_BYTES = 8 * 1024 * 1024
_WRONG_SEQ = 10071


class Object(msgspec.Struct, frozen=True, gc=False):
    """A stored object; `seq` is its message's, which every change is guarded by."""

    info: Info
    seq: int


class Kept(msgspec.Struct, frozen=True):
    """What an upload came to: an object of its own (`fresh`), or the one that was there."""

    object: Object
    fresh: bool


class _Message(msgspec.Struct):
    seq: int
    time: str
    data: bytes = b""


class _Last(msgspec.Struct):
    message: _Message | None = None


class _State(msgspec.Struct):
    subjects: dict[str, int] | None = None


class _StreamInfo(msgspec.Struct):
    state: _State = msgspec.field(default_factory=_State)


_INFO = msgspec.json.Decoder(Info)


class MediaStore:
    """The one bucket that holds every file."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, connection: Connection, *, replicas: int = 1) -> Self:
        """The store behind `connection`; its stream is made if it is not there."""
        manager = connection.client.jetstream()
        try:
            try:
                await manager.stream_info(STREAM)
            except NotFoundError:
                await manager.add_stream(configuration(replicas))
        except (APIError, TimeoutError, OSError) as error:
            raise SetupError(f"The object store cannot be opened: {error}") from error
        return cls(connection)

    def upload(self) -> Upload:
        """A new file, of which nothing is stored yet."""
        return Upload(self._connection)

    def read(self, found: Object, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """The bytes of an object from `start` up to but not including `stop`: `download.read`."""
        return download.read(self._connection, found.info, start, stop)

    async def find(self, owner: str, sha256: str) -> Object | None:
        """An owner's object with these bytes, None if there is none. Raises LogUnavailable."""
        found = await self._latest(name_of(owner, sha256))
        return None if found is None or found.info.deleted else found

    async def keep(self, upload: Upload, owner: str) -> Kept:
        """Make a finished upload an object, unless its owner has one with the same bytes.

        The object that is answered counts as new, so that no sweep takes it before an event refers
        to it. Raises LogUnavailable; the upload is then `committed` if the outcome is unknown.
        """
        name = name_of(owner, upload.sha256.hex())
        while True:
            known = await self._latest(name)
            try:
                if known is not None and not known.info.deleted:
                    touched = msgspec.structs.replace(known.info, mtime=now())
                    return Kept(await self._put(touched, known.seq), False)
                upload.committed = True
                made = await self._put(_describe(upload, name), known.seq if known else 0)
            except WrongExpectedSeq:
                upload.committed = False
                continue
            last = await self._last(chunks_of(upload.nuid))
            if (last.seq if last else 0) != upload.last_seq:
                # Somebody's sweep took this for broken off: we have slept too long.
                await self.remove(made)
                raise LogUnavailable("The upload took too long; send the file again.")
            return Kept(made, True)

    async def remove(self, found: Object) -> bool:
        """Remove an object and its chunks. False if somebody has needed it since it was found."""
        try:
            gone = await self._put(msgspec.structs.replace(found.info, deleted=True), found.seq)
        except WrongExpectedSeq:
            return False
        await self.forget(gone)
        return True

    async def forget(self, gone: Object) -> None:
        """Remove what is left of an object that was marked as deleted."""
        await self.purge(gone.info.nuid)
        await purge(self._connection, info_of(gone.info.name), up_to=gone.seq)

    async def purge(self, nuid: str) -> None:
        """Remove chunks that no object refers to."""
        await purge(self._connection, chunks_of(nuid))

    async def objects(self) -> AsyncGenerator[Object, None]:
        """All objects, the oldest change first; deleted ones are those not yet forgotten."""
        seq = 1
        while True:
            body: dict[str, object] = {"seq": seq, "next_by_subj": ALL_INFOS}
            body |= {"batch": PAGE, "max_bytes": PAGE_BYTES}
            page = (await direct.get(self._connection, STREAM, body, timeout=TIMEOUT)).messages
            for stored in page:
                yield Object(_INFO.decode(stored.payload), stored.seq)
            if not page:
                return
            seq = page[-1].seq + 1

    async def chunk_sets(self) -> set[str]:
        """The nuids that there are chunks of."""
        found: set[str] = set()
        offset = 0
        while True:
            body = msgspec.json.encode({"subjects_filter": ALL_CHUNKS, "offset": offset})
            answer = await self._connection.request(
                f"$JS.API.STREAM.INFO.{STREAM}", body, timeout=TIMEOUT
            )
            page = msgspec.json.decode(answer.data, type=_StreamInfo).state.subjects
            if not page:
                return found
            offset += len(page)
            found.update(subject.rpartition(".")[2] for subject in page)

    async def claim(self, nuid: str, before: str) -> bool:
        """Take a set of chunks for oneself if nothing came to it since a time: whoever was still
        writing it cannot make it an object any more.
        """
        last = await self._last(chunks_of(nuid))
        if last is None or last.time >= before:
            return False
        ack = await ask(self._connection, chunks_of(nuid), b"", _guard(last.seq))
        return ack.error is None

    async def _latest(self, name: str) -> Object | None:
        last = await self._last(info_of(name))
        return None if last is None else Object(_INFO.decode(last.data), last.seq)

    async def _last(self, subject: str) -> _Message | None:
        """The last message of a subject, asked of the leader: a follower may not have it yet."""
        answer = await self._connection.request(
            f"$JS.API.STREAM.MSG.GET.{STREAM}",
            msgspec.json.encode({"last_by_subj": subject}),
            timeout=TIMEOUT,
        )
        return msgspec.json.decode(answer.data, type=_Last).message

    async def _put(self, info: Info, seq: int) -> Object:
        """Say what an object is now, if nobody has since `seq`. Raises WrongExpectedSeq."""
        headers = {**_guard(seq), "Nats-Rollup": "sub"}
        payload = msgspec.json.encode(info)
        ack = await ask(self._connection, info_of(info.name), payload, headers)
        if ack.error is None:
            return Object(info, ack.seq)
        if ack.error.err_code == _WRONG_SEQ:
            raise WrongExpectedSeq(ack.error.description)
        raise LogUnavailable(f"The object store refused it: {ack.error.description}")


def name_of(owner: str, sha256: str) -> str:
    """The name of an owner's object."""
    return f"{token(owner)}/{sha256}"


def _guard(seq: int) -> dict[str, str]:
    return {"Nats-Expected-Last-Subject-Sequence": str(seq)}


def _describe(upload: Upload, name: str) -> Info:
    return Info(
        name=name,
        bucket=BUCKET,
        nuid=upload.nuid,
        size=upload.size,
        mtime=now(),
        chunks=upload.chunks,
        digest=digest_of(upload.sha256),
        options=Options(),
        metadata=Marks(" ".join(map(str, upload.marks))),
    )
