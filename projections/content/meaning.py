"""Search by meaning: which blobs are near a vector, the nearest first, and how that goes together
with words.

Owns which embedding speaks for a blob: of those made from it that are there at the moment, the one
of its latest text. The vectors themselves are `vectors`' business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from sqlalchemy import ColumnElement, FromClause, select, tuple_

from projections.content import vectors
from projections.content.tables import blobs, holds, is_embedding
from projections.content.vectors import Ranking
from projections.content.walks import FEW, Query, Walk
from reyna.api.views import CallersView
from reyna.content import Embedding
from reyna.errors import Conflict

DEPTH = 200
"""How far the rankings by words and by meaning are looked at when both count."""
# Of a rank's weight, 1 / (_FLAT + rank): the higher, the less the first places outdo the others.
_FLAT = 60
# Embeddings looked up at once, at most: databases take no more than some 32,000 parameters.
_STEP = 8000

_embeddings = blobs.alias("embeddings")
_newer = blobs.alias("newer")
_OF_BLOB = blobs.c.blob_id == _embeddings.c.parent_id


class Hit(msgspec.Struct, frozen=True):
    """A version of a blob that was found; `similarity` is from -1 to 1, None if words found it."""

    since: int
    similarity: float | None = None


async def embedding_of(view: CallersView, blob_id: str) -> Embedding:
    """What speaks for a blob. Raises Conflict when nothing does."""
    of_blob = _embeddings.c.parent_id == blob_id
    rows = await view.tuples(select(_embeddings.c.data).where(of_blob, *_speaks(view)))
    found = vectors.decoded(rows[0][0]) if rows else None
    if found is None:
        raise Conflict(
            f"Blob {blob_id} has no embedding: switch the processor semantic-index on, and run it"
            " over what was written before."
        )
    return found


async def nearest(
    view: CallersView, embedding: Embedding, walk: Walk, wanted: Query, most: int
) -> list[Hit]:
    """The `most` blobs nearest to an embedding. `walk` and `wanted` are two ways to say of which:
    the one to gather them when they are few, the other to hold many against.

    Raises Conflict when the caller has nothing that it could be compared with.
    """
    space = (await vectors.of_caller(view)).get(vectors.place_of(embedding))
    if space is None:
        raise Conflict(
            f"None of your texts has been embedded by {embedding.model}: switch the processor"
            " semantic-index on, and run it over what was written before."
        )
    ranking = await asyncio.to_thread(space.rank, embedding.vector)
    few = await view.tuples(walk.query.limit(FEW + 1))
    if len(few) > FEW:
        return await _of_many(view, ranking, wanted, most)
    if not few:
        return []
    versions = [row[0] for row in few]
    query = select(_embeddings.c.since, blobs.c.since).where(*_speaks(view), _OF_BLOB)
    pairs = await view.tuples(query.where(blobs.c.since.in_(versions)))
    return await asyncio.to_thread(_hits, ranking, pairs, most)


def fused(by_words: Sequence[int], by_meaning: Sequence[Hit]) -> list[Hit]:
    """Two rankings as one, each place counting (reciprocal rank fusion)."""
    weights: dict[int, float] = {}
    for ranks in (by_words, [hit.since for hit in by_meaning]):
        for rank, since in enumerate(ranks, 1):
            weights[since] = weights.get(since, 0.0) + 1 / (_FLAT + rank)
    near = {hit.since: hit for hit in by_meaning}
    best = sorted(weights, key=lambda since: (-weights[since], -since))
    return [near.get(since, Hit(since)) for since in best]


async def _of_many(view: CallersView, ranking: Ranking, wanted: Query, most: int) -> list[Hit]:
    """Down the ranking in ever larger steps, until enough of what is there is wanted."""
    columns = (_embeddings.c.since, blobs.c.since)
    query = wanted.with_only_columns(*columns).where(*_speaks(view), _OF_BLOB)
    found: list[Hit] = []
    start, end = 0, min(2 * most, _STEP)
    while start < len(ranking.seqs) and len(found) < most:
        part = Ranking(ranking.seqs[start:end], ranking.similarities[start:end])
        ids = part.seqs.tolist()
        pairs = await view.tuples(query.where(_embeddings.c.since.in_(ids)))
        found += _hits(part, pairs, most - len(found))
        start, end = end, min(4 * end, end + _STEP)
    return found


def _hits(ranking: Ranking, pairs: Sequence[tuple[int, int]], most: int) -> list[Hit]:
    """The first of a ranking that are among some pairs of an embedding and a blob's version."""
    import numpy as np

    versions = dict(pairs)
    seqs = np.fromiter(versions, dtype=np.int64, count=len(versions))
    places = np.flatnonzero(np.isin(ranking.seqs, seqs))[:most]
    return [
        Hit(versions[int(ranking.seqs[at])], round(float(ranking.similarities[at]), 4))
        for at in places
    ]


def _speaks(view: CallersView) -> list[ColumnElement[bool]]:
    """What holds of an embedding that speaks for what it was made from."""
    later = tuple_(_newer.c.source_seq, _newer.c.since) > tuple_(
        _embeddings.c.source_seq, _embeddings.c.since
    )
    outdone = select(_newer.c.since).where(
        _newer.c.parent_id == _embeddings.c.parent_id, *_there(_newer, view), later
    )
    return [*_there(_embeddings, view), ~outdone.exists()]


def _there(embedding: FromClause, view: CallersView) -> list[ColumnElement[bool]]:
    return [
        embedding.c.user_id == view.user_id,
        is_embedding(embedding),
        embedding.c.source_seq.is_not(None),
        embedding.c.deleted.is_(False),
        holds(embedding, view),
    ]
