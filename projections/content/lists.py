"""Lists of blobs: by bucket, schema, source, tag or time; by words, by meaning, or like another.

Owns what a list is of, and its pages. How it is walked is `walks`; what is found is the business of
`search` (words) and `meaning`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import msgspec
from litestar import get
from litestar.di import NamedDependency, Provide
from litestar.params import FromQuery, QueryParameter
from msgspec import UNSET

from projections.content import meaning, search, walks, words
from projections.content.blobs import Blob, present, read
from projections.content.meaning import Hit
from projections.content.tables import blobs, is_listed, texts
from projections.content.walks import Query, Walk
from reyna.api.views import (
    DEFAULT_LIMIT,
    CallersView,
    Cursor,
    Limit,
    View,
    decode_cursor,
    encode_cursor,
)
from reyna.content import Embedder, Embedding
from reyna.errors import FieldError, Invalid, NotFound, Permanent, Transient, Unavailable
from reyna.log.subjects import token

_Offset = Annotated[int, msgspec.Meta(ge=0, le=100_000)]
_RANKED = ("q", "similar_to")
Sort = Literal["created_at", "-created_at", "updated_at", "-updated_at"]
By = Literal["words", "meaning", "both"]
Question: TypeAlias = Annotated[
    str | None, QueryParameter(description="What to search for; the best answers come first.")
]


class BlobPage(msgspec.Struct, frozen=True):
    """One page of blobs."""

    items: list[Blob]
    next_cursor: str | None


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which blobs a list is of; `but` is one that is not."""

    bucket_id: str | None
    recursive: bool
    schema_id: str | None
    parent_id: str | None
    tag: str | None
    trashed: bool
    but: str | None


async def embed_question(
    embedder: NamedDependency[Embedder | None], q: Question = None, by: FromQuery[By] = "words"
) -> Embedding | None:
    """The embedding of a question by meaning, before anything is read.

    Raises Invalid, and Unavailable when the model does not answer.
    """
    if q is None or by == "words":
        return None
    words.parse(q)
    if embedder is None:
        raise Unavailable("No processor that embeds texts is installed.")
    try:
        return await embedder.embed(q)
    except (Transient, Permanent) as error:
        raise Unavailable(error.detail) from error


@get("/blobs", tags=["blobs"], dependencies={"ahead": Provide(embed_question)})
async def list_blobs(
    view: View,
    ahead: NamedDependency[Embedding | None] = None,
    bucket_id: FromQuery[str | None] = None,
    recursive: Annotated[
        bool, QueryParameter(description="With `bucket_id`: also what is below it.")
    ] = False,
    schema_id: FromQuery[str | None] = None,
    parent_id: FromQuery[str | None] = None,
    tag: Annotated[str | None, QueryParameter(max_length=100)] = None,
    trashed: Annotated[bool, QueryParameter(description="What is in the trash instead.")] = False,
    q: Question = None,
    by: FromQuery[By] = "words",
    similar_to: Annotated[
        str | None, QueryParameter(description="A blob: those whose texts mean the like.")
    ] = None,
    sort: FromQuery[Sort] = "-created_at",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> BlobPage:
    """The caller's blobs, newest first unless `sort` says otherwise; with `q` or `similar_to` the
    best first.
    """
    choice = Choice(
        bucket_id=bucket_id,
        recursive=recursive,
        schema_id=schema_id,
        parent_id=parent_id,
        tag=tag,
        trashed=trashed,
        but=similar_to,
    )
    if q is None and similar_to is None:
        walk = await _walk(view, choice, sort.lstrip("-"))
        return await _page(view, walk, sort.startswith("-"), limit, cursor)
    offset = 0 if cursor is None else decode_cursor(cursor, tuple[_Offset])[0]
    most = offset + limit + 1
    if similar_to is not None:
        if q is not None:
            raise _either_or()
        hits = await _alike(view, choice, similar_to, most)
    elif ahead is None:
        hits = await _by_words(view, choice, q or "", most)
    elif by == "meaning":
        hits = await _near(view, choice, ahead, most)
    else:
        hits = meaning.fused(
            [hit.since for hit in await _by_words(view, choice, q or "", meaning.DEPTH)],
            await _near(view, choice, ahead, meaning.DEPTH),
        )
    items = await _found(view, hits[offset : offset + limit], q)
    return BlobPage(items, encode_cursor(offset + limit) if len(hits) >= most else None)


async def _page(
    view: CallersView, walk: Walk, descending: bool, limit: int, cursor: str | None
) -> BlobPage:
    after = None if cursor is None else decode_cursor(cursor, tuple[str, str])
    found = await view.tuples(walk.page(descending=descending, after=after, most=limit + 1))
    page = await read(view, [since for since, _, _ in found[:limit]])
    more = encode_cursor(*found[limit - 1][1:]) if len(found) > limit else None
    return BlobPage(page, more)


async def _walk(view: CallersView, choice: Choice, by: str) -> Walk:
    """The blobs chosen, along the table that has the fewest to pass by."""
    wanted = _basic(view, choice)
    if choice.bucket_id is not None:
        if choice.tag is not None:
            wanted = wanted.where(walks.has_tag(view, choice.tag))
        into = walks.below_bucket if choice.recursive else walks.in_bucket
        return await into(view, token(choice.bucket_id), wanted, by)
    if choice.tag is not None:
        return walks.with_tag(view, choice.tag, wanted, by)
    if choice.parent_id is not None:
        return walks.gathered(wanted.with_only_columns(blobs.c.since), by)
    return walks.along_blobs(wanted, by)


async def _wanted(view: CallersView, choice: Choice) -> Query:
    """The blobs chosen, as conditions on each."""
    wanted = _basic(view, choice)
    if choice.tag is not None:
        wanted = wanted.where(walks.has_tag(view, choice.tag))
    if choice.bucket_id is not None:
        bucket_id, recursive = token(choice.bucket_id), choice.recursive
        wanted = wanted.where(await walks.is_in(view, bucket_id, recursive=recursive))
    return wanted


def _basic(view: CallersView, choice: Choice) -> Query:
    wanted = present(view, trashed=choice.trashed)
    if choice.schema_id is None:
        wanted = wanted.where(is_listed(blobs))
    else:
        wanted = wanted.where(blobs.c.schema_id == choice.schema_id)
    if choice.parent_id is not None:
        wanted = wanted.where(blobs.c.parent_id == token(choice.parent_id))
    if choice.but is not None:
        wanted = wanted.where(blobs.c.blob_id != token(choice.but))
    return wanted


async def _by_words(view: CallersView, choice: Choice, q: str, most: int) -> list[Hit]:
    """Those that answer a question, the best first. Ranks are no places: a cursor counts."""
    wanted = await _wanted(view, choice)
    hits = search.matches(texts, view.connection.dialect.name, view.user_id, words.parse(q))
    found = await view.tuples(walks.ranked(hits, wanted, most=most))
    return [Hit(since) for (since,) in found]


async def _near(view: CallersView, choice: Choice, embedding: Embedding, most: int) -> list[Hit]:
    walk, wanted = await _walk(view, choice, "created_at"), await _wanted(view, choice)
    return await meaning.nearest(view, embedding, walk, wanted, most)


async def _alike(view: CallersView, choice: Choice, blob_id: str, most: int) -> list[Hit]:
    there = present(view).with_only_columns(blobs.c.since).where(blobs.c.blob_id == token(blob_id))
    if not await view.tuples(there):
        raise NotFound(f"There is no blob {blob_id}.")
    return await _near(view, choice, await meaning.embedding_of(view, blob_id), most)


async def _found(view: CallersView, hits: Sequence[Hit], q: str | None) -> list[Blob]:
    """The blobs of some hits: how near each is, and an excerpt when words were asked for."""
    page = await read(view, [hit.since for hit in hits])
    items = [
        msgspec.structs.replace(blob, similarity=UNSET if near is None else near)
        for blob, near in zip(page, [hit.similarity for hit in hits], strict=True)
    ]
    if q is None:
        return items
    shown = await search.excerpts(
        words.parse(q),
        [search.Found(bytes(blob.data), blob.title, blob.tags) for blob in items],
    )
    return [
        msgspec.structs.replace(blob, excerpt=excerpt)
        for blob, excerpt in zip(items, shown, strict=True)
    ]


def _either_or() -> Invalid:
    sentence = "Ask for one of q and similar_to."
    return Invalid(sentence, [FieldError(f"/{name}", "oneOf", sentence) for name in _RANKED])


routes = (list_blobs,)
