"""A manuscript: chapters of blocks of text, as every format is made of it. Owns its limits.

What a tree of buckets comes to is `_manuscript_outline`, what a text comes to `_manuscript_text`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Style = Literal["plain", "emphasis", "strong", "code", "break"]
Kind = Literal["paragraph", "heading", "quote", "item", "code", "rule"]
Format = Literal["markdown", "epub", "pdf"]
PageSize = Literal["a4", "a5", "letter", "trade"]

# War and Peace has 3.2 million characters.
MAX_CHARACTERS = 4_000_000
MAX_PIECES = 150_000
MAX_CHAPTERS = 2_000


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """A stretch of text in one style; a `break` is the end of a line and has no text."""

    text: str
    style: Style = "plain"


class Block(msgspec.Struct, frozen=True, array_like=True):
    """A paragraph or the like; a `rule` has no pieces. `rtl`: it is written from right to left."""

    kind: Kind
    pieces: tuple[Piece, ...] = ()
    rtl: bool = False

    @property
    def text(self) -> str:
        """What it says, without styles."""
        return "".join("\n" if one.style == "break" else one.text for one in self.pieces)


class Chapter(msgspec.Struct, frozen=True):
    """A bucket of the book. `depth` counts from 1; `blob_ids` are the texts in it, in order. The
    text that stands before all chapters has no title.
    """

    title: str
    depth: int
    blocks: tuple[Block, ...]
    blob_ids: tuple[str, ...]
    words: int


class Manuscript(msgspec.Struct, frozen=True, kw_only=True):
    """A whole book. `book_id` is a UUID that stays the same when it is compiled again;
    `changed_at` is when its newest text was written, RFC 3339.
    """

    title: str
    author: str | None
    language: str
    book_id: str
    changed_at: str
    chapters: tuple[Chapter, ...]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be made of a manuscript."""

    manuscript: Manuscript
    formats: tuple[Format, ...]
    page_size: PageSize


class Printed(msgspec.Struct, frozen=True):
    """A manuscript in one format."""

    format: Format
    content: bytes
