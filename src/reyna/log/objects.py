"""The object store's layout: one stream, its subjects, what says what an object is. Owns the words
that are exchanged with it.

The layout is that of NATS (ADR-20), so `nats object` reads it: chunks under `$O.{bucket}.C.{nuid}`,
and one message that says what they make up under `$O.{bucket}.M.{name}`.
"""

from __future__ import annotations

import base64

import msgspec
from nats.js import api

from reyna.errors import LogUnavailable
from reyna.log.connection import Connection

BUCKET = "reyna-media"
STREAM = f"OBJ_{BUCKET}"
ALL_CHUNKS = f"$O.{BUCKET}.C.>"
ALL_INFOS = f"$O.{BUCKET}.M.>"
CHUNK = 128 * 1024
# The seq of every so many chunks is remembered: a reader need not begin at the first.
MARK_EVERY = 16
# Seconds that an answer is waited for.
TIMEOUT = 4.0


# A sweep holds very many of these, and none can be part of a cycle: the collector looks at none.
class Options(msgspec.Struct, frozen=True, gc=False):
    """How an object was cut."""

    max_chunk_size: int = CHUNK


class Marks(msgspec.Struct, frozen=True, gc=False):
    """The seqs of every MARK_EVERY-th chunk, as a text: NATS keeps nothing else here."""

    marks: str = ""


class Info(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An object as its message says it, in the names of ADR-20. `mtime` is when somebody last gave
    or needed it.
    """

    name: str
    bucket: str
    nuid: str
    size: int
    mtime: str
    chunks: int
    digest: str
    options: Options
    metadata: Marks
    deleted: bool = False


class ApiError(msgspec.Struct):
    """Why the server did not do it."""

    err_code: int = 0
    description: str = ""


class Ack(msgspec.Struct):
    """The server's answer to a message or a purge."""

    seq: int = 0
    error: ApiError | None = None


_ACK = msgspec.json.Decoder(Ack)


def chunks_of(nuid: str) -> str:
    """The subject of an object's chunks."""
    return f"$O.{BUCKET}.C.{nuid}"


def info_of(name: str) -> str:
    """The subject of an object's message."""
    return f"$O.{BUCKET}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"


def digest_of(sha256: bytes) -> str:
    """A digest as an object's message has it."""
    return f"SHA-256={base64.urlsafe_b64encode(sha256).decode()}"


async def ask(
    connection: Connection, subject: str, payload: bytes, headers: dict[str, str] | None = None
) -> Ack:
    """Send the store a message. Raises LogUnavailable: then the outcome may be unknown."""
    answer = await connection.request(subject, payload, headers, timeout=TIMEOUT)
    return _ACK.decode(answer.data)


async def purge(connection: Connection, subject: str, up_to: int | None = None) -> None:
    """Remove the messages of a subject, up to a seq and it included. Raises LogUnavailable."""
    asked: dict[str, object] = {"filter": subject}
    if up_to is not None:
        asked["seq"] = up_to + 1
    ack = await ask(connection, f"$JS.API.STREAM.PURGE.{STREAM}", msgspec.json.encode(asked))
    if ack.error is not None:
        raise LogUnavailable(f"The object store cannot be purged: {ack.error.description}")


def configuration(replicas: int) -> api.StreamConfig:
    """The stream as the NATS clients would make it for a bucket."""
    return api.StreamConfig(
        name=STREAM,
        description="The files of ReYNa Studio.",
        subjects=[ALL_CHUNKS, ALL_INFOS],
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.NEW,
        num_replicas=replicas,
        allow_direct=True,
        allow_rollup_hdrs=True,
    )
