"""A manuscript as one Markdown file (CommonMark). Owns escaping: what a person wrote stays text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from processors._manuscript import Block, Chapter, Manuscript, Piece

MAX_LEVEL = 6
# Punctuation that could begin something anywhere in a line, or at its beginning.
_ANYWHERE = re.compile(r"[\\`*_\[\]<>&~|$#!]")
_AT_BEGINNING = re.compile(r"^(?:(\d+)([.)])|([-+=:]))", re.MULTILINE)
_SIGNS = {"emphasis": "*", "strong": "**"}


def markdown_of(manuscript: Manuscript) -> bytes:
    """The whole book, with a table of contents whose entries lead to the chapters."""
    parts = [f"# {escaped(manuscript.title)}"]
    if manuscript.author:
        parts.append(escaped(manuscript.author))
    contents = "\n".join(_entries(manuscript))
    if contents:
        parts.append(contents)
    for number, chapter in enumerate(manuscript.chapters, start=1):
        parts += _chapter(number, chapter)
    return ("\n\n".join(parts) + "\n").encode()


def escaped(text: str) -> str:
    """Text in which nothing is Markdown."""
    text = _ANYWHERE.sub(r"\\\g<0>", text)
    return _AT_BEGINNING.sub(_beginning, text)


def _beginning(found: re.Match[str]) -> str:
    return f"{found[1]}\\{found[2]}" if found[1] else f"\\{found[3]}"


def _entries(manuscript: Manuscript) -> Iterator[str]:
    for number, chapter in enumerate(manuscript.chapters, start=1):
        if chapter.title:
            indent = "  " * (chapter.depth - 1)
            yield f"{indent}- [{escaped(chapter.title)}](#chapter-{number})"


def _chapter(number: int, chapter: Chapter) -> Iterator[str]:
    level = min(chapter.depth + 1, MAX_LEVEL)
    if chapter.title:
        yield f'<a id="chapter-{number}"></a>'
        yield f"{'#' * level} {escaped(chapter.title)}"
    for block in chapter.blocks:
        yield _block(block, min(level + 1, MAX_LEVEL))


def _block(block: Block, level: int) -> str:
    match block.kind:
        case "rule":
            return "---"
        case "heading":
            return f"{'#' * level} {_inline(block.pieces)}"
        case "quote":
            return _prefixed(_inline(block.pieces), "> ", "> ")
        case "item":
            return _prefixed(_inline(block.pieces), "- ", "  ")
        case "code":
            return _prefixed(block.text, "    ", "    ")
    return _inline(block.pieces)


def _prefixed(text: str, first: str, others: str) -> str:
    return first + text.replace("\n", f"\n{others}")


def _inline(pieces: tuple[Piece, ...]) -> str:
    made: list[str] = []
    before = "break"
    for piece in pieces:
        made.append(_piece(piece, beginning=before == "break", beside=before in _SIGNS))
        before = piece.style
    return "".join(made)


def _piece(piece: Piece, *, beginning: bool, beside: bool) -> str:
    if piece.style == "break":
        return "\\\n"
    text = _ANYWHERE.sub(r"\\\g<0>", piece.text)
    if beginning:
        text = _AT_BEGINNING.sub(_beginning, text)
    if piece.style == "code":
        return f"<code>{text}</code>"
    sign = _SIGNS.get(piece.style)
    if sign is None:
        return text
    # Signs count as signs only beside a letter, and not beside each other.
    if not beside and piece.text[0].isalnum() and piece.text[-1].isalnum():
        return f"{sign}{text}{sign}"
    tag = "em" if piece.style == "emphasis" else "strong"
    return f"<{tag}>{text}</{tag}>"
