"""Full-text search in versions of blobs: the table of their words, and who finds what in it.

Owns what of a blob is searched, the text index and its ranking on SQLite (bm25) and PostgreSQL
(cover density). Every version keeps its words under the seq that made it, so that a search of the
past is the same search; which versions hold at a moment, and whose they are, the view's own table
says. Words are those of `words`.

Each word is kept with its owner's mark before it. So a word's list of rows is one user's alone:
another's texts are not found, do not change the ranking's idea of a rare word, and cost nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2s

import msgspec
from sqlalchemy import (
    CTE,
    ColumnElement,
    MetaData,
    Table,
    cast,
    func,
    literal,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, REAL, TSQUERY

from projections.content.words import Question, Term, clean, excerpt, opening, words
from reyna.content import Tx
from reyna.text_index import all_words, text_index

# Characters of a blob's text that are searched.
MAX_TEXT = 256 * 1024
# Characters of the texts on one page in which the place of an excerpt is looked for, and of each.
MAX_LOOKED_AT = 2 * 1024 * 1024
LEAST_LOOKED_AT = 4096
# A `tsvector` has at most a mebibyte, counted with its own bookkeeping.
_MAX_VECTOR = 900_000
_PER_WORD = 12
# How much more a word in the title counts.
_TITLE = 10.0
_TITLE_LABEL, _BODY_LABEL = "A", ""
_WEIGHTS = [0.1, 0.1, 0.1, 1.0]
# Divides a rank by the logarithm of the text's length.
_BY_LENGTH = 1


class Text(msgspec.Struct, frozen=True):
    """What is searched of a blob: its title with its tags, and all strings in its data."""

    title: str
    body: str


class Found(msgspec.Struct, frozen=True):
    """What a search has found, of which an excerpt is to be shown."""

    data: bytes
    title: str | None
    tags: tuple[str, ...]


class Version(msgspec.Struct, frozen=True):
    """A version of somebody's blob to be found: from event `since` on it had this text."""

    since: int
    user_id: str
    text: Text


def declare(metadata: MetaData) -> Table:
    """The text index among a view's tables; its `rowid` is the version's `since`."""
    return text_index("blob_texts", metadata, "title", "body")


def text_of(data: bytes | str, title: str | None, tags: Sequence[str]) -> Text:
    """The searched text of a blob, clean: the strings in its data in the order of the document,
    without names of fields, up to MAX_TEXT characters.
    """
    named = clean(" · ".join([*([title] if title else []), *tags])[:MAX_TEXT])
    return Text(named, clean("\n".join(_strings(data))[:MAX_TEXT]))


async def add(tx: Tx, declared: Table, versions: Sequence[Version]) -> None:
    """Make versions findable. Once each: a text index knows no upsert."""
    if not versions:
        return
    row = _words_row if tx.connection.dialect.name == "sqlite" else _vector_row
    # Not on the loop: a long text takes some ten milliseconds.
    rows = await asyncio.to_thread(lambda: [row(version) for version in versions])
    await tx.insert(declared, rows)


def matches(declared: Table, dialect: str, user_id: str, question: Question) -> CTE:
    """The versions of `user_id` that answer a question: `since`, and `score`, higher is better.

    To be joined with the table of versions, which restricts it to a moment and to its owner.
    """
    search = _on_sqlite if dialect == "sqlite" else _on_postgresql
    return search(declared, _mark(user_id), question)


async def excerpts(question: Question, found: Sequence[Found]) -> list[str]:
    """An excerpt for each blob, as HTML: from the body, or the title if the words are only there.
    Of the bodies of one page, MAX_LOOKED_AT characters are looked at, and of each a beginning.

    Not on the loop: long texts take some ten milliseconds each.
    """
    return await asyncio.to_thread(_excerpts, question, found)


def _excerpts(question: Question, found: Sequence[Found]) -> list[str]:
    left, shown = MAX_LOOKED_AT, []
    for one in found:
        text = text_of(one.data, one.title, one.tags)
        body = text.body[: max(left, LEAST_LOOKED_AT)]
        left -= len(body)
        shown.append(_excerpt(question, Text(text.title, body)))
    return shown


def _excerpt(question: Question, text: Text) -> str:
    return excerpt(question, text.body) or excerpt(question, text.title) or opening(text.body)


def _strings(data: bytes | str) -> Iterable[str]:
    """The strings in JSON in the order of the document; none if it is not JSON."""
    try:
        pending: list[object] = [msgspec.json.decode(data)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    while pending:
        match pending.pop():
            case str() as text:
                yield text
            case dict() as members:
                pending.extend(reversed(members.values()))
            case list() as items:
                pending.extend(reversed(items))
            case _:
                continue


@lru_cache(maxsize=10_000)
def _mark(user_id: str) -> str:
    """What stands before each of a user's words: always as long, so none begins another's."""
    return blake2s(user_id.encode(), digest_size=8).hexdigest()


def _words_row(version: Version) -> dict[str, object]:
    mark = _mark(version.user_id)
    return {
        "rowid": version.since,
        "title": _marked(mark, words(version.text.title)),
        "body": _marked(mark, words(version.text.body)),
    }


def _marked(mark: str, found: Sequence[str]) -> str:
    return mark + f" {mark}".join(found) if found else ""


def _vector_row(version: Version) -> dict[str, object]:
    mark = _mark(version.user_id)
    return {
        "rowid": version.since,
        "title": _vector(mark, words(version.text.title), _TITLE_LABEL),
        "body": _vector(mark, words(version.text.body), _BODY_LABEL),
    }


def _vector(mark: str, found: Sequence[str], label: str) -> str:
    """Words as the text of a `tsvector`, as many as fit into one."""
    places: dict[str, list[str]] = {}
    size = 0
    # The first place stays free, so that no phrase reaches from the title into the body.
    for place, word in enumerate(found, 2):
        size += _PER_WORD if word in places else _PER_WORD + len(mark) + len(word.encode())
        if size > _MAX_VECTOR // 2:
            break
        places.setdefault(word, []).append(f"{place}{label}")
    return " ".join(f"'{mark}{word}':{','.join(at)}" for word, at in places.items())


def _on_sqlite(declared: Table, mark: str, question: Question) -> CTE:
    index: ColumnElement[str] = literal_column(declared.name)
    score = -func.bm25(index, _TITLE, 1.0)
    return (
        select(declared.c.rowid.label("since"), score.label("score"))
        .where(index.op("MATCH")(_fts5(mark, question)))
        .cte("matches")
        # Else SQLite may ask the index once for each version.
        .prefix_with("MATERIALIZED")
    )


def _fts5(mark: str, question: Question) -> str:
    def said(term: Term) -> str:
        return f'"{" ".join(mark + word for word in term.words)}"{"*" if term.prefix else ""}'

    wanted = " AND ".join(said(term) for term in question.wanted)
    if not question.unwanted:
        return wanted
    return f"({wanted}) NOT ({' OR '.join(said(term) for term in question.unwanted)})"


def _on_postgresql(declared: Table, mark: str, question: Question) -> CTE:
    asked = cast(literal(_tsquery(mark, question)), TSQUERY)
    vector = all_words(declared)
    weights = cast(literal(_WEIGHTS, ARRAY(REAL)), ARRAY(REAL))
    score = func.ts_rank_cd(weights, vector, asked, _BY_LENGTH)
    return (
        select(declared.c.rowid.label("since"), score.label("score"))
        .where(vector.op("@@")(asked))
        .cte("matches")
        .prefix_with("MATERIALIZED")
    )


def _tsquery(mark: str, question: Question) -> str:
    def said(term: Term) -> str:
        phrase = " <-> ".join(f"'{mark}{word}'" for word in term.words)
        return f"({phrase}{':*' if term.prefix else ''})"

    return " & ".join(
        [*(said(term) for term in question.wanted), *(f"!{said(t)}" for t in question.unwanted)]
    )
