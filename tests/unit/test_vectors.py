"""Vectors: how pieces become one, what is kept of them, and how near they are."""

from __future__ import annotations

from array import array

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from processors._vectors import MAX_DIMENSIONS, Piece, averaged
from projections.content import vectors
from reyna.errors import Transient

EXACT = 0.02
"""How far a similarity may be off, of numbers that are kept as one byte each."""


def packed(*numbers: float) -> bytes:
    """Numbers as an embedding holds them."""
    return array("f", numbers).tobytes()


def data(vector: bytes, model: str = "m", dimensions: int | None = None) -> str:
    """The data of an embedding's blob."""
    size = len(vector) // 4 if dimensions is None else dimensions
    said = {"model": model, "dimensions": size, "vector": vector, "text_sha256": "0" * 64}
    return msgspec.json.encode(said).decode()


def test_pieces_count_by_their_length() -> None:
    """The embedding of a text is the mean of its pieces' directions, weighted, of length 1."""
    made = averaged("m", [Piece([2.0, 0.0], 3), Piece([0.0, 9.0], 1)])
    assert made.model == "m"
    found = np.frombuffer(made.vector, "<f4")
    assert np.allclose(found, np.array([3, 1]) / np.sqrt(10))


@pytest.mark.parametrize(
    "pieces",
    [
        [Piece([], 1)],
        [Piece([0.0, 0.0], 1)],
        [Piece([float("nan"), 1.0], 1)],
        [Piece([float("inf"), 1.0], 1)],
        [Piece([1.0], 1), Piece([1.0, 0.0], 1)],
        [Piece([1.0], 1), Piece([-1.0], 1)],
        [Piece([1.0] * (MAX_DIMENSIONS + 1), 1)],
    ],
)
def test_what_is_no_vector_is_refused(pieces: list[Piece]) -> None:
    """Nothing without a direction, and nothing of several dimensions, becomes an embedding."""
    with pytest.raises(Transient):
        averaged("m", pieces)


@given(
    arrays(np.float32, (20, 8), elements=st.floats(-1, 1, width=32)),
    arrays(np.float32, 8, elements=st.floats(-1, 1, width=32)),
)
def test_similarities_are_cosines(rows: np.ndarray, asked: np.ndarray) -> None:
    """Every vector with a direction is ranked by its cosine, within what a byte can tell."""
    asked[0] += 2
    page = [(seq, data(row.tobytes())) for seq, row in enumerate(rows)]
    space = vectors._decoded(page).get(("m", 8))
    assert space is not None
    ranking = space.rank(asked.tobytes())
    assert list(ranking.similarities) == sorted(ranking.similarities, reverse=True)
    for seq, similarity in zip(ranking.seqs, ranking.similarities, strict=True):
        row = rows[seq].astype(np.float64)
        cosine = row @ asked / np.linalg.norm(row) / np.linalg.norm(asked)
        assert abs(cosine - similarity) < EXACT


@pytest.mark.parametrize(
    "broken",
    [
        "{}",
        "not JSON",
        data(packed(1, 0), dimensions=3),
        data(b"", dimensions=0),
        data(packed(1, 0), dimensions=-2),
        data(b"abc", dimensions=1),
        '{"model": "m", "dimensions": 1, "vector": "%%%"}',
        '{"model": 7, "dimensions": 1, "vector": "AACAPw=="}',
    ],
)
def test_what_is_no_embedding_is_passed_by(broken: str) -> None:
    """A blob that says to be an embedding and is none is not kept, and spoils no other."""
    assert vectors.decoded(broken) is None
    spaces = vectors._decoded([(1, broken), (2, data(packed(1, 0)))])
    assert {place: list(space.seqs) for place, space in spaces.items()} == {("m", 2): [2]}


def test_numbers_without_a_direction_are_passed_by() -> None:
    """Zeros, infinities and what is no number are in no ranking; the smallest and largest are."""
    none = [(0.0, 0.0), (float("inf"), 1.0), (float("nan"), 1.0)]
    page = [(seq, data(packed(*numbers))) for seq, numbers in enumerate(none)]
    assert [vectors.decoded(one) for _, one in page] == [None, None, None]
    edges = [(7, data(packed(0, -3e38))), (8, data(packed(0, -1e-45)))]
    assert list(vectors._decoded([*page, *edges])["m", 2].seqs) == [7, 8]
    space = vectors._decoded([*page, (9, data(packed(0, -1)))])["m", 2]
    assert list(space.seqs) == [9]
    assert space.rank(packed(0, -5)).similarities == pytest.approx([1])


def test_models_and_dimensions_stay_apart() -> None:
    """What cannot be compared is not: each model, and each number of dimensions, is by itself."""
    page = [(1, data(packed(1, 0))), (2, data(packed(1, 0), "n")), (3, data(packed(1, 0, 0)))]
    assert set(vectors._decoded(page)) == {("m", 2), ("n", 2), ("m", 3)}
