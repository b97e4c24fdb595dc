"""Words: how a text is cut into them, what a question asks of them, and where it is answered.

Texts and questions go through the same few functions, whatever the database: case, accents and
the width of letters do not matter, and scripts that are written without spaces (Chinese, Japanese,
Thai) are cut into single letters, of which a question then makes a phrase. Nothing is cut down to
a stem: writers write in many languages. Pure; where words are kept belongs to `search`.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice

import msgspec
import regex

from reyna.errors import FieldError, Invalid

MAX_QUESTION = 200
MAX_TERMS = 20
MIN_PREFIX = 2
# Letters of a word that count.
MAX_WORD = 64
# How many words an excerpt has.
WIDTH = 30
# How many places of a text are looked at for the best of them.
_MAX_HITS = 200
# The longest piece, word or what stands between two, that an excerpt shows whole.
_MAX_PIECE = 80

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = regex.compile(
    rf"[[{_UNSPACED}]&&[\p{{L}}\p{{N}}]]\p{{M}}*"
    rf"|[[\p{{L}}\p{{N}}]--[{_UNSPACED}]][[\p{{L}}\p{{N}}\p{{M}}]--[{_UNSPACED}]]*",
    regex.V1,
)
# The same for texts that are ASCII alone, many times as fast: everything else becomes a space.
_PLAIN = regex.compile(r"[A-Za-z0-9]+")
_PLAIN_LETTERS = "".join(chr(c).lower() if chr(c).isalnum() else " " for c in range(128))
_PLAIN_SEEN = "".join(chr(c) if chr(c).isprintable() else " " for c in range(128))
_SINGLE = regex.compile(rf"[{_UNSPACED}]", regex.V1)
# Accents, and the vowel points of Hebrew and Arabic; other scripts' marks make other words.
_ACCENTS = regex.compile(r"[\u0300-\u036f\u0591-\u05c7\u064b-\u0655\u0670]")
_NO_LETTER = regex.compile(r"[^\p{L}\p{N}\p{M}]")
# Not the single spaces, which are many and stay as they are.
_CONTROL = regex.compile(r"[[\p{Cc}\s]--[ ]][\p{Cc}\s]*| [\p{Cc}\s]+", regex.V1)
_SPACES = regex.compile(r" {2,}")
_UNSEEN = regex.compile(r"[\p{Cf}\p{Cs}]+")
_TERM = regex.compile(r'(-?)(?:"([^"]*)"?|([^\s"]+))')


class Term(msgspec.Struct, frozen=True):
    """Words that stand one after the other; with `prefix` the last one may go on."""

    words: tuple[str, ...]
    prefix: bool = False


class Question(msgspec.Struct, frozen=True):
    """What is searched for: each of `wanted`, at least one, and none of `unwanted`."""

    wanted: tuple[Term, ...]
    unwanted: tuple[Term, ...] = ()


class _Place(msgspec.Struct, frozen=True):
    """Where a term was found: its first and last word's numbers."""

    first: int
    last: int
    term: Term


_Spans = list[tuple[str, int, int]]


def clean(text: str) -> str:
    """A text without control and unseen characters; what is white becomes one space."""
    if text.isascii():
        return _SPACES.sub(" ", text.translate(_PLAIN_SEEN))
    return _UNSEEN.sub("", _CONTROL.sub(" ", text))


def words(text: str) -> list[str]:
    """The words of a cleaned text, in order, as they are compared."""
    if text.isascii():
        return [word[:MAX_WORD] for word in text.translate(_PLAIN_LETTERS).split()]
    return [word for found in _WORD.findall(text) if (word := _compared(found[:MAX_WORD]))]


def parse(question: str) -> Question:
    """What a caller asks for.

    All words must occur; `"these words"` one after the other, `begin*` is a beginning, and
    `-without` or `-"without this"` must not occur. Everything else is plain text. Raises Invalid.
    """
    if len(question) > MAX_QUESTION:
        raise _invalid("maxLength", f"q has at most {MAX_QUESTION} characters.")
    wanted: dict[Term, None] = {}
    unwanted: dict[Term, None] = {}
    for minus, phrase, plain in _TERM.findall(clean(question)):
        term = _term(phrase or plain, prefix=plain.endswith("*"))
        if term.words:
            (unwanted if minus else wanted)[term] = None
    if not wanted:
        raise _invalid("minLength", "q names no word to look for.")
    if len(wanted) + len(unwanted) > MAX_TERMS:
        raise _invalid("maxItems", f"q has at most {MAX_TERMS} words and phrases.")
    return Question(tuple(wanted), tuple(unwanted))


def excerpt(question: Question, text: str) -> str | None:
    """About thirty words of a cleaned text around the best place, as HTML: the text escaped, what
    was found in `<mark>`. None if nothing is found.
    """
    spans = _spans(text)
    places = _places(question, [word for word, _, _ in spans])
    return _html(text, spans, _best(places)) if places else None


def opening(text: str) -> str:
    """The first words of a cleaned text, as HTML."""
    return _html(text, _spans(text), [])


def _term(text: str, *, prefix: bool) -> Term:
    found = tuple(words(text))
    if not prefix or not found or _SINGLE.match(found[-1]):
        return Term(found)
    if len(found[-1]) < MIN_PREFIX:
        raise _invalid("pattern", f"Write at least {MIN_PREFIX} letters before a *.")
    return Term(found, prefix=True)


def _invalid(keyword: str, message: str) -> Invalid:
    return Invalid(message, [FieldError("/q", keyword, message)])


def _spans(text: str) -> _Spans:
    """The words of a text with where they begin and end in it."""
    return [
        (word, *found.span())
        for found in _pattern(text).finditer(text)
        if (word := _compared(found.group()[:MAX_WORD]))
    ]


def _pattern(text: str) -> regex.Pattern[str]:
    return _PLAIN if text.isascii() else _WORD


@lru_cache(maxsize=50_000)
def _compared(word: str) -> str:
    """A word as it is compared: letters, digits and marks alone, perhaps none."""
    if word.isascii():
        return word.lower()
    folded = unicodedata.normalize("NFKD", word).casefold()
    plain = unicodedata.normalize("NFC", _ACCENTS.sub("", folded))
    return _NO_LETTER.sub("", plain)[:MAX_WORD]


def _places(question: Question, found: Sequence[str]) -> list[_Place]:
    """Where the wanted terms stand, in order, as many as are looked at."""
    places = [
        place for term in question.wanted for place in islice(_of_term(term, found), _MAX_HITS)
    ]
    return sorted(places, key=lambda place: place.first)[:_MAX_HITS]


def _of_term(term: Term, found: Sequence[str]) -> Iterator[_Place]:
    *head, tail = term.words
    further = len(head)
    for last in range(further, len(found)):
        word = found[last]
        if (word == tail or (term.prefix and word.startswith(tail))) and (
            not head or list(found[last - further : last]) == head
        ):
            yield _Place(last - further, last, term)


def _best(places: Sequence[_Place]) -> list[_Place]:
    """The places close together that show the most terms, the most often, the earliest."""
    best: list[_Place] = []
    most = (0, 0)
    for at, place in enumerate(places):
        end = place.first + WIDTH
        near = [p for p in islice(places, at, at + WIDTH) if p.last < end] or [place]
        shows = (len({p.term for p in near}), len(near))
        if shows > most:
            best, most = near, shows
    return best


def _html(text: str, spans: _Spans, places: Sequence[_Place]) -> str:
    if not spans:
        return ""
    start, end = _window(len(spans), places)
    opens, closes = _edges(places)
    pieces = ["…" if start else _shown(text[: spans[0][1]])]
    for number in range(start, end):
        _, begin, after = spans[number]
        if number > start:
            pieces.append(_shown(text[spans[number - 1][2] : begin]))
        pieces.append("<mark>" if number in opens else "")
        pieces.append(_shown(text[begin:after]))
        pieces.append("</mark>" if number in closes else "")
    pieces.append("…" if end < len(spans) else _shown(text[spans[-1][2] :]))
    return "".join(pieces)


def _window(count: int, places: Sequence[_Place]) -> tuple[int, int]:
    """Which words are shown: the places, in the middle, and never part of one."""
    if not places:
        return 0, min(WIDTH, count)
    first = places[0].first
    last = min(max(place.last for place in places) + 1, count)
    before = max(0, WIDTH - (last - first)) // 2
    start = max(0, min(first - before, count - WIDTH))
    return start, min(count, max(last, start + WIDTH))


def _edges(places: Sequence[_Place]) -> tuple[set[int], set[int]]:
    """The words at which a mark opens and closes; places that overlap share one."""
    opens: list[int] = []
    closes: list[int] = []
    for place in places:
        if closes and place.first <= closes[-1]:
            closes[-1] = max(closes[-1], place.last)
        else:
            opens.append(place.first)
            closes.append(place.last)
    return set(opens), set(closes)


def _shown(piece: str) -> str:
    if len(piece) > _MAX_PIECE:
        piece = piece[: _MAX_PIECE - 1] + "…"
    return html.escape(piece)
