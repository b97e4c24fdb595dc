"""Vectors of embeddings in memory: whose, read from the versions of blobs, and how near they are.

Owns what is kept of them and for how long: a byte a number, user by user, brought up to date at
each question and let go of, the longest unused first, beyond MAX_BYTES. Which of them count for a
question is `meaning`'s business. numpy is imported late, off the loop: most of the time there is
nothing for it to do.
"""

from __future__ import annotations

import asyncio
import math
import struct
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

import msgspec
from sqlalchemy import Select, func, select
from sqlalchemy.engine import Engine

from projections.content.tables import blobs, is_embedding
from reyna.api.views import CallersView
from reyna.content import Embedding
from reyna.errors import Unavailable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_BYTES = 256 * 1024 * 1024
"""What is kept of all users, in each process; but always that of the one who asks."""
MAX_DIMENSIONS = 8192
# Embeddings read, and vectors compared, at once.
_PAGE = 1000
_ROWS = 2048
_LARGEST = 127
# Questions of one user that wait for the first reading, or do it.
_WAITING = 3

_Place: TypeAlias = tuple[str, int]
"""Vectors can be compared that are of one model and have as many dimensions."""


class Ranking(msgspec.Struct, frozen=True):
    """Embeddings by the seq of their version and how near they are, from -1 to 1, nearest first."""

    seqs: npt.NDArray[np.int64]
    similarities: npt.NDArray[np.float32]


class Space(msgspec.Struct, frozen=True):
    """Comparable vectors: row n is `codes[n] * scales[n]`, of length 1, of version `seqs[n]`."""

    seqs: npt.NDArray[np.int64]
    codes: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        """What it takes."""
        return self.seqs.nbytes + self.codes.nbytes + self.scales.nbytes

    def rank(self, vector: bytes) -> Ranking:
        """All of them, the nearest to `vector` first. Takes tens of milliseconds: in a thread."""
        import numpy as np

        given = np.frombuffer(vector, dtype="<f4").astype(np.float64)
        asked = (given / np.linalg.norm(given)).astype(np.float32)
        near = np.empty(len(self.seqs), dtype=np.float32)
        for start in range(0, len(near), _ROWS):
            some = slice(start, start + _ROWS)
            # Not `@`, which shares the work among threads that then wait for busy cores.
            near[some] = np.vecdot(self.codes[some].astype(np.float32), asked)
        near *= self.scales
        order = np.argsort(-near, kind="stable")
        return Ranking(self.seqs[order], near[order])


Spaces: TypeAlias = Mapping[_Place, Space]


class _Read(msgspec.Struct, frozen=True):
    """What is read of `embedding-v1`."""

    model: str
    dimensions: int
    vector: bytes


class _User:
    """One user's vectors, as of all events up to `position`."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.waiting = 0
        self.position = 0
        self.spaces: Spaces = {}
        self._count = 0

    @property
    def nbytes(self) -> int:
        return sum(space.nbytes for space in self.spaces.values())

    @asynccontextmanager
    async def in_turn(self) -> AsyncIterator[None]:
        """Have the vectors to oneself. Raises Unavailable when several wait for the first reading,
        which may take seconds: each holds a connection that others could read by.
        """
        if not self.position and self.waiting >= _WAITING:
            raise Unavailable("Your texts are being made ready to be compared; try again soon.")
        self.waiting += 1
        try:
            async with self.turn:
                yield
        finally:
            self.waiting -= 1

    async def catch_up(self, view: CallersView) -> None:
        """Read what has come since. What was read stays: versions do not change."""
        if view.position <= self.position:
            return
        before = await view.tuples(_of(view, func.count()).where(blobs.c.since <= self.position))
        if before != [(self._count,)]:
            # A record that had been set aside was applied later, or the view is another one.
            self.spaces, self._count, self.position = {}, 0, 0
        parts: list[Spaces] = [self.spaces]
        count, last = self._count, self.position
        while True:
            query = _of(view, blobs.c.since, blobs.c.data).where(blobs.c.since > last)
            page = await view.tuples(query.order_by(blobs.c.since).limit(_PAGE))
            if page:
                parts.append(await asyncio.to_thread(_decoded, page))
                count, last = count + len(page), page[-1][0]
            if len(page) < _PAGE:
                break
        if len(parts) > 1:
            self.spaces = await asyncio.to_thread(_joined, parts)
        self._count, self.position = count, view.position


_users: WeakKeyDictionary[Engine, OrderedDict[str, _User]] = WeakKeyDictionary()


async def of_caller(view: CallersView) -> Spaces:
    """All vectors of the caller's, of every moment up to the view's. Raises Unavailable."""
    users = _users.setdefault(view.connection.engine.sync_engine, OrderedDict())
    user = users.setdefault(view.user_id, _User())
    users.move_to_end(view.user_id)
    async with user.in_turn():
        await user.catch_up(view)
    kept = sum(one.nbytes for one in users.values())
    while kept > MAX_BYTES and next(iter(users)) != view.user_id:
        _, gone = users.popitem(last=False)
        kept -= gone.nbytes
    return user.spaces


def decoded(data: str) -> Embedding | None:
    """The embedding in the data of a blob, None if it is none, or has no direction."""
    found = _read(data)
    if found is None:
        return None
    length = math.hypot(*struct.unpack(f"<{found.dimensions}f", found.vector))
    return Embedding(found.model, found.vector) if 0 < length < math.inf else None


def place_of(embedding: Embedding) -> _Place:
    """Which vectors an embedding can be compared with."""
    return embedding.model, len(embedding.vector) // 4


def _of(view: CallersView, *columns: Any) -> Select[Any]:
    # No more conditions than the index of embeddings answers: they are counted at each question.
    return select(*columns).where(blobs.c.user_id == view.user_id, is_embedding(blobs))


def _read(data: str) -> _Read | None:
    try:
        found = msgspec.json.decode(data, type=_Read)
    except msgspec.MsgspecError:
        return None
    sound = 0 < found.dimensions <= MAX_DIMENSIONS and len(found.vector) == 4 * found.dimensions
    return found if sound else None


def _decoded(page: Sequence[tuple[Any, ...]]) -> Spaces:
    """The vectors of a page of (since, data), as far as they are any."""
    found: dict[_Place, list[tuple[int, bytes]]] = {}
    for since, data in page:
        one = _read(data)
        if one is not None:
            found.setdefault((one.model, one.dimensions), []).append((since, one.vector))
    return {place: _space(place[1], rows) for place, rows in found.items()}


def _space(dimensions: int, rows: Sequence[tuple[int, bytes]]) -> Space:
    import numpy as np

    numbers = np.frombuffer(b"".join(vector for _, vector in rows), dtype="<f4")
    matrix = numbers.reshape(-1, dimensions).astype(np.float64)
    seqs = np.array([since for since, _ in rows], dtype=np.int64)
    lengths = np.linalg.norm(matrix, axis=1)
    whole = np.isfinite(lengths) & (lengths > 0)
    matrix, lengths = matrix[whole], lengths[whole]
    peaks = np.abs(matrix).max(axis=1, initial=0)
    codes = np.rint(matrix / peaks[:, None] * _LARGEST).astype(np.int8)
    return Space(seqs[whole], codes, (peaks / _LARGEST / lengths).astype(np.float32))


def _joined(parts: Sequence[Spaces]) -> Spaces:
    import numpy as np

    together: dict[_Place, list[Space]] = {}
    for part in parts:
        for place, space in part.items():
            together.setdefault(place, []).append(space)
    return {
        place: Space(
            np.concatenate([one.seqs for one in spaces]),
            np.concatenate([one.codes for one in spaces]),
            np.concatenate([one.scales for one in spaces]),
        )
        for place, spaces in together.items()
    }
