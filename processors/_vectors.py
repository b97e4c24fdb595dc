"""Vectors on their way from a model into a blob: pieces of a text averaged, brought to length 1.

Owns what both kinds of model answer. numpy is imported late: it takes a while, which nothing but an
embedding has to wait for.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from reyna.content import Embedding
from reyna.errors import Transient

MAX_DIMENSIONS = 8192


class Piece(msgspec.Struct, frozen=True):
    """What a model says of a piece of a text; `weight` is the piece's length, of any unit."""

    numbers: Sequence[float]
    weight: float


class Embedded(msgspec.Struct, frozen=True):
    """A text's embedding, and the tokens that were read, if somebody is to count them."""

    embedding: Embedding
    tokens: int | None = None


def averaged(model: str, pieces: Sequence[Piece]) -> Embedding:
    """The embedding of a text from those of its pieces, each counting by its length.

    Raises Transient for what is no vector: of no length, or pieces of different dimensions.
    """
    import numpy as np

    sizes = {len(piece.numbers) for piece in pieces}
    if len(sizes) != 1 or not 0 < max(sizes) <= MAX_DIMENSIONS:
        raise Transient(f"The model answered vectors of {sorted(sizes)} dimensions.")
    rows = np.array([piece.numbers for piece in pieces], dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.all(np.isfinite(lengths)) or not np.all(lengths > 0):
        raise Transient("The model answered a vector without a direction.")
    mean = np.average(rows / lengths, axis=0, weights=[piece.weight for piece in pieces])
    length = np.linalg.norm(mean)
    if length == 0:
        raise Transient("The pieces of this text cancel each other out.")
    return Embedding(model, (mean / length).astype("<f4").tobytes())
