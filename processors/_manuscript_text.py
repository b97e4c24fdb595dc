"""From what a person typed to blocks of a manuscript. Owns which characters may stand in a book.

A text is plain, and then every sign in it is meant as it stands; or it is Markdown (CommonMark
without HTML), of which emphasis, headings, quotations, lists, code and rules are kept.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Literal

from markdown_it import MarkdownIt
from markdown_it.token import Token

from processors._manuscript import Block, Kind, Manuscript, Piece, Style

Markup = Literal["plain", "markdown"]

_NEW_LINES = re.compile("\r\n?|[\v\f\x1c-\x1e\x85\u2028]")
# What XML does not take, and what turns the direction of the text that follows.
_NOT_FOR_BOOKS = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufff9-\uffff]"
    "|[" + "".join(chr(0x10000 * plane + 0xFFFE) + chr(0x10000 * plane + 0xFFFF)
                   for plane in range(1, 17)) + "]"
)  # fmt: skip
_PARAGRAPHS = re.compile(r"\n[^\S\n]*\n\s*")
_BLANKS = re.compile(r"[^\S\n\u00a0\u3000]+")
# Fonts that come with the typesetter have them; for others the machine's fonts are taken.
_COVERED = frozenset({"LATIN", "GREEK", "CYRILLIC", "HEBREW", "MODIFIER", "FEMININE", "MASCULINE"})
_WORDS = re.compile(r"\w+(?:['\u2019-]\w+)*")

_MARKDOWN = MarkdownIt("commonmark", {"html": False})
_KINDS: dict[str, Kind] = {
    "heading_open": "heading",
    "blockquote_open": "quote",
    "list_item_open": "item",
}
_STYLES: dict[str, Style] = {"em_open": "emphasis", "strong_open": "strong"}


def clean(text: str) -> str:
    """The text in NFC without what has no place in a book: controls, noncharacters, overrides of
    direction. Every end of a line is a line feed.
    """
    text = _NEW_LINES.sub("\n", text).replace("\u2029", "\n\n")
    return unicodedata.normalize("NFC", _NOT_FOR_BOOKS.sub("", text))


def line(text: str) -> str:
    """The text on one line, for titles and names."""
    return " ".join(clean(text).split())


def words_in(text: str) -> int:
    """How many words there are; a script without blanks has one wherever it has no stop."""
    return sum(1 for _ in _WORDS.finditer(text))


def blocks_of(text: str, markup: Markup) -> list[Block]:
    """The blocks of a text."""
    text = clean(text)
    return list(_marked(_MARKDOWN.parse(text)) if markup == "markdown" else _plain(text))


def heading(text: str) -> Block:
    """A heading inside a chapter."""
    return _block("heading", [Piece(line(text))])


def is_rtl(text: str) -> bool:
    """Whether the first letter that has a direction is written from right to left."""
    for character in text:
        direction = unicodedata.bidirectional(character)
        if direction in {"L", "R", "AL"}:
            return direction != "L"
    return False


def other_scripts(manuscript: Manuscript) -> list[str]:
    """The scripts in a book, by their names in Unicode, for which a PDF needs fonts of the
    machine's.
    """
    letters: set[str] = set(manuscript.title + (manuscript.author or ""))
    for chapter in manuscript.chapters:
        letters.update(chapter.title)
        for block in chapter.blocks:
            letters.update(block.text)
    names = (unicodedata.name(one, "") for one in letters if unicodedata.category(one)[0] == "L")
    scripts = {name.split(maxsplit=1)[0].split("-")[0] for name in names if name}
    return sorted(script.lower() for script in scripts - _COVERED)


def _plain(text: str) -> Iterator[Block]:
    for paragraph in _PARAGRAPHS.split(text):
        pieces = _lines(paragraph)
        if pieces:
            yield _block("paragraph", pieces)


def _lines(paragraph: str, style: Style = "plain") -> list[Piece]:
    """The lines of a paragraph, with a break between any two."""
    pieces: list[Piece] = []
    for one in paragraph.strip().split("\n"):
        if pieces:
            pieces.append(Piece("", "break"))
        if kept := _BLANKS.sub(" ", one).strip():
            pieces.append(Piece(kept, style))
    return pieces


def _marked(tokens: Sequence[Token]) -> Iterator[Block]:
    around: list[Kind] = []
    for token in tokens:
        if token.type in _KINDS:
            around.append(_KINDS[token.type])
        elif token.nesting < 0 and token.type.replace("close", "open") in _KINDS:
            around.pop()
        elif token.type == "inline":
            pieces = list(_inline(token.children or ()))
            if pieces:
                yield _block(around[-1] if around else "paragraph", pieces)
        elif token.type in {"fence", "code_block"}:
            pieces = _verbatim(token.content)
            if pieces:
                yield _block("code", pieces)
        elif token.type == "hr":
            yield Block("rule")


def _inline(tokens: Sequence[Token]) -> Iterator[Piece]:
    styles: list[Style] = []
    for token in tokens:
        if token.nesting > 0:
            # Of a link the text is kept.
            styles.append(_STYLES.get(token.type, styles[-1] if styles else "plain"))
        elif token.nesting < 0:
            styles.pop()
        elif token.type == "hardbreak":
            yield Piece("", "break")
        elif token.type == "softbreak":
            yield Piece(" ")
        elif token.content:
            style = "code" if token.type == "code_inline" else styles[-1] if styles else "plain"
            yield Piece(_BLANKS.sub(" ", clean(token.content)), style)


def _verbatim(text: str) -> list[Piece]:
    pieces: list[Piece] = []
    for one in clean(text).rstrip("\n").split("\n"):
        if pieces:
            pieces.append(Piece("", "break"))
        if one:
            pieces.append(Piece(one.expandtabs(4), "code"))
    return pieces


def _block(kind: Kind, pieces: list[Piece]) -> Block:
    return Block(kind, tuple(pieces), is_rtl("".join(piece.text for piece in pieces)))
