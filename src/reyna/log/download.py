"""A file on its way out of the object store. Owns reading ahead, and noticing what is missing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing

from reyna.errors import ReynaError
from reyna.log import direct
from reyna.log.connection import Connection
from reyna.log.objects import MARK_EVERY, STREAM, TIMEOUT, Info, chunks_of, digest_of
from reyna.log.record import Stored

# Chunks asked for at a time; as many again are asked for while these are handed on.
AHEAD = 8


async def read(
    connection: Connection, info: Info, start: int, stop: int
) -> AsyncGenerator[bytes, None]:
    """The bytes from `start` up to but not including `stop`, in pieces; none is empty.

    Raises LogUnavailable, and ReynaError when a chunk is missing or the digest of the whole is
    wrong: always before the last piece is handed out.
    """
    if start >= stop:
        return
    size, digest, whole = info.options.max_chunk_size, hashlib.sha256(), (0, info.size)
    # Reading begins at a chunk whose seq is known; what comes before `start` is left out.
    number = start // size // MARK_EVERY * MARK_EVERY
    async with aclosing(_batches(connection, info, number, (stop - 1) // size)) as batches:
        async for chunks in batches:
            for chunk in chunks:
                base = number * size
                piece = chunk[max(0, start - base) : stop - base]
                number += 1
                if (start, stop) == whole:
                    digest.update(piece)
                    if number == info.chunks and digest_of(digest.digest()) != info.digest:
                        raise ReynaError(f"Object {info.nuid} is damaged.")
                if piece:
                    yield piece


async def _batches(
    connection: Connection, info: Info, number: int, last: int
) -> AsyncGenerator[list[bytes], None]:
    """The chunks from `number`, a marked one, to `last`. The next batch is read while one is handed
    on.
    """
    marks = [int(mark) for mark in info.metadata.marks.split()]
    seq = marks[number // MARK_EVERY]
    ahead: asyncio.Task[list[Stored]] | None = None
    try:
        while number <= last:
            count = min(AHEAD, last - number + 1)
            found = await (ahead or _fetch(connection, info, seq, count))
            _check(info, marks, number, count, found)
            number, seq = number + count, found[-1].seq + 1
            if number <= last:
                count = min(AHEAD, last - number + 1)
                ahead = asyncio.create_task(_fetch(connection, info, seq, count))
            yield [stored.payload for stored in found]
    finally:
        if ahead is not None:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)


async def _fetch(connection: Connection, info: Info, seq: int, count: int) -> list[Stored]:
    body = {"batch": count, "seq": seq, "next_by_subj": chunks_of(info.nuid)}
    return (await direct.get(connection, STREAM, body, timeout=TIMEOUT)).messages


def _check(info: Info, marks: list[int], number: int, count: int, found: list[Stored]) -> None:
    """Raise ReynaError unless these are the `count` chunks from `number` on."""
    size = info.options.max_chunk_size
    for stored in found:
        expected = min(size, info.size - number * size)
        marked = number % MARK_EVERY == 0
        if len(stored.payload) != expected or (
            marked and stored.seq != marks[number // MARK_EVERY]
        ):
            break
        number, count = number + 1, count - 1
    if count:
        raise ReynaError(f"Object {info.nuid} lacks its chunk {number}.")
