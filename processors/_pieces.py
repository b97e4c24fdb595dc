"""Cuts a long text into pieces that a model can hold. Owns where a text may be cut, and the
estimate of how many tokens it has.

What is made of the pieces is `_writing`.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterator

import msgspec
import regex

# Latin letters and blanks, and bytes beyond ASCII, that are taken for a token; a digit or a sign is
# one by itself. Fewer than most tokenizers take, for an estimate that is too high costs a cut, and
# one too low a refusal.
_LETTERS_PER_TOKEN = 3
_BYTES_PER_TOKEN = 1.5
_LETTERS = (string.ascii_letters + string.whitespace).encode()

# Where a text may be cut: at blanks, and after the full stops that need none. Matched in linear
# time, whatever the text.
_GAP = regex.compile(
    r"\s+|(?<=[\u3002\uff01\uff1f][\u300d\u300f\u201d]?)(?=[^\s\u300d\u300f\u201d])"
)
_SENTENCE_END = regex.compile(
    r"(?:[.!?\u2026][\"')\]\u00bb\u2019\u201c\u201d]{0,3}|[\u3002\uff01\uff1f][\u300d\u300f\u201d]?)\Z"
)
# The places from best to worst: between paragraphs, between lines, sentences, words.
_PARAGRAPH, _LINE, _SENTENCE, _WORD = range(4)
_LONGEST_END = 4
# How far from where it would be best a cut may be: a share of the shorter side, and characters.
_REACH = 0.3
_MAX_REACH = 1000


class Piece(msgspec.Struct, frozen=True):
    """A part of a text, and the blanks that stood before it."""

    gap: str
    text: str


def tokens_in(text: str) -> int:
    """How many tokens a text has, by an estimate on the safe side."""
    ascii_ = text.encode("ascii", "ignore")
    signs = len(ascii_.translate(None, _LETTERS))
    beyond = len(text.encode()) - len(ascii_)
    letters = len(ascii_) - signs
    return math.ceil(letters / _LETTERS_PER_TOKEN + signs + beyond / _BYTES_PER_TOKEN)


def split(text: str, size: int) -> list[Piece]:
    """A text in pieces of at most `size` tokens, of similar lengths. Gaps and pieces are together
    the text again, but for the blanks around it.
    """
    return list(split_more(Piece("", text.strip()), size))


def split_more(piece: Piece, size: int) -> Iterator[Piece]:
    """A piece in smaller ones, if it has over `size` tokens."""
    count = math.ceil(tokens_in(piece.text) / size)
    if count < 2 or len(piece.text) < 2:
        yield piece
        return
    start, end = _cut(piece.text, count // 2 / count)
    yield from split_more(Piece(piece.gap, piece.text[:start]), size)
    yield from split_more(Piece(piece.text[start:end], piece.text[end:]), size)


def _cut(text: str, share: float) -> tuple[int, int]:
    """The blanks to cut a text at, so that about `share` of it comes before them."""
    best = max(1, int(share * len(text)))
    reach = min(int(_REACH * min(best, len(text) - best)), _MAX_REACH)
    places = _GAP.finditer(text, best - reach, best + reach + 1)
    spans = [match.span() for match in places if match.start() > 0 and match.end() < len(text)]
    start, end = min(
        spans,
        key=lambda span: (_rank(text, *span), abs(span[0] - best)),
        default=(best, best),
    )
    # The blanks may begin before and end behind where places were looked for.
    return len(text[:start].rstrip()), len(text) - len(text[end:].lstrip())


def _rank(text: str, start: int, end: int) -> int:
    lines = text.count("\n", start, end)
    if lines:
        return _PARAGRAPH if lines > 1 else _LINE
    return _SENTENCE if _SENTENCE_END.search(text[max(0, start - _LONGEST_END) : start]) else _WORD
