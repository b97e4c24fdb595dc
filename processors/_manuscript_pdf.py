"""A manuscript as a PDF, typeset by Typst from `_manuscript.typ`. Owns where a word breaks that
fits on no line.
"""

from __future__ import annotations

import re
from datetime import datetime
from importlib.resources import files

import msgspec
import typst

from processors._manuscript import Block, Manuscript, PageSize, Piece

_SOURCE = files(__package__).joinpath("_manuscript.typ").read_bytes()
# Longer than any line, and of a script that has blanks between its words.
_ENDLESS = re.compile("[^\\s\u2e80-\U0010ffff]{40}(?=[^\\s\u2e80-\U0010ffff])")


class _Chapter(msgspec.Struct):
    title: str
    depth: int
    blocks: list[Block]


class _Book(msgspec.Struct):
    title: str
    author: str | None
    lang: str
    region: str | None
    chapters: list[_Chapter]


class _Order(msgspec.Struct):
    page_size: PageSize
    book: _Book


def pdf_of(manuscript: Manuscript, page_size: PageSize) -> bytes:
    """The whole book, with page numbers, a table of contents and an outline.

    Raises typst.TypstError.
    """
    language, _, rest = manuscript.language.partition("-")
    region = next((part for part in rest.split("-") if len(part) == len("GB")), None)
    book = _Book(
        title=_breakable(manuscript.title),
        author=manuscript.author and _breakable(manuscript.author),
        lang=language.lower(),
        region=region and region.upper(),
        chapters=[
            _Chapter(_breakable(one.title), one.depth, [_fitting(block) for block in one.blocks])
            for one in manuscript.chapters
        ],
    )
    order = msgspec.json.encode(_Order(page_size, book)).decode()
    made = typst.compile(
        _SOURCE,
        format="pdf",
        sys_inputs={"order": order},
        timestamp=int(datetime.fromisoformat(manuscript.changed_at).timestamp()),
    )
    assert isinstance(made, bytes)
    return made


def _fitting(block: Block) -> Block:
    pieces = tuple(Piece(_breakable(one.text), one.style) for one in block.pieces)
    return Block(block.kind, pieces, block.rtl)


def _breakable(text: str) -> str:
    """The text with places to break a line at in words that are longer than any line."""
    return _ENDLESS.sub("\\g<0>\u200b", text)
