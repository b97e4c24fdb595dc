"""How a text is written, in figures: sentences, words, readability, tone. Pure and costly.

It is run in a process of its own, so it imports nothing but what it counts with, and that late, for
the server imports this module too. The formulas are `readsight`'s, the ends of sentences
`sentencex`'s, the tone words `textblob`'s; what a word is, is said here.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections import defaultdict
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec
import regex

if TYPE_CHECKING:
    from readsight import ReadSight

LANGUAGES = {
    "en": "en-us",
    "cs": "cs",
    "da": "da",
    "de": "de-1996",
    "es": "es",
    "fi": "fi",
    "fr": "fr",
    "it": "it",
    "nb": "nb",
    "nl": "nl",
    "pl": "pl",
    "pt": "pt",
    "ro": "ro",
    "ru": "ru",
    "sv": "sv",
    "tr": "tr",
    "uk": "uk",
}
"""The languages, with their names in `readsight`."""

# These two rest on lists of easy words, which the library replaces by a guess.
_GUESSED = {"dale_chall", "spache"}
_WORD = regex.compile(r"\p{L}[\p{L}\p{M}]*(?:[-'\u2019]\p{L}[\p{L}\p{M}]*)*")
# Letters. What is longer is no word, and the time to divide it grows with its square.
_LONGEST_WORD = 64
_LONG_WORD = 7
_TONE_WORDS = 20


class Sentences(msgspec.Struct, frozen=True):
    """How many sentences, and how many words they have."""

    count: int
    words_mean: float
    words_median: float
    words_deviation: float
    words_fewest: int
    words_most: int


class Words(msgspec.Struct, frozen=True):
    """How many words, how many different ones, how many of seven letters or more."""

    count: int
    different: int
    long: int
    letters_mean: float
    syllables_mean: float


class ToneWord(msgspec.Struct, frozen=True):
    """A word that sets the tone, with what was said about it (`not good`)."""

    word: str
    count: int
    polarity: float
    subjectivity: float


class Tone(msgspec.Struct, frozen=True):
    """Polarity is from -1, dark, to 1, bright; subjectivity from 0, plain, to 1."""

    polarity: float
    subjectivity: float
    words: list[ToneWord]


class Style(msgspec.Struct, frozen=True):
    """`style-analysis-v1`. Readability is the score of each formula that the language has; the
    tone of a language other than English is not known.
    """

    language: str
    sentences: Sentences
    words: Words
    readability: dict[str, float]
    tone: Tone | None


def style_of(text: str, language: str) -> bytes | None:
    """The style of a text as JSON; None if there is no word of the language in it."""
    import sentencex

    counts = [len(_WORD.findall(one)) for one in sentencex.segment(language, text)]
    counts = [count for count in counts if count]
    words = [word[:_LONGEST_WORD] for word in _WORD.findall(text)]
    if not words:
        return None
    engine = _engine(language)
    # One word a line: so the library's words are ours.
    found = dataclasses.replace(
        engine.analyze("\n".join(words)),
        sentence_count=len(counts),
        average_words_per_sentence=len(words) / len(counts),
    )
    if not found.letter_count:
        return None
    style = Style(
        language=language,
        sentences=_sentences(counts),
        words=Words(
            count=len(words),
            different=len({word.casefold() for word in words}),
            long=sum(len(word) >= _LONG_WORD for word in words),
            letters_mean=round(found.letter_count / len(words), 2),
            syllables_mean=round(found.average_syllables_per_word, 2),
        ),
        readability={
            name: engine.formula_registry.calculate(name, engine.language, found).score
            for name in sorted(set(engine.get_supported_formulas()) - _GUESSED)
        },
        tone=_tone(text) if language == "en" else None,
    )
    return msgspec.json.encode(style)


def _sentences(counts: list[int]) -> Sentences:
    return Sentences(
        count=len(counts),
        words_mean=round(statistics.fmean(counts), 2),
        words_median=statistics.median(counts),
        words_deviation=round(statistics.pstdev(counts), 2),
        words_fewest=min(counts),
        words_most=max(counts),
    )


def _tone(text: str) -> Tone:
    """The strongest words first: by polarity, and how often they come."""
    import textblob

    polarity, subjectivity, assessed = textblob.TextBlob(text).sentiment_assessments
    found: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for parts, bright, subjective, _ in assessed:
        word = " ".join(part for part in parts if _WORD.search(part))
        if word and (bright or subjective):
            found[word].append((bright, subjective))
    words = [_tone_word(word, scores) for word, scores in found.items()]
    words.sort(key=lambda one: (-abs(one.polarity) * one.count, -one.subjectivity, one.word))
    return Tone(round(polarity, 2), round(subjectivity, 2), words[:_TONE_WORDS])


def _tone_word(word: str, scores: list[tuple[float, float]]) -> ToneWord:
    """A word with its mean scores: an exclamation mark strengthens them here and there."""
    bright, subjective = (
        round(statistics.fmean(column), 2) for column in zip(*scores, strict=True)
    )
    return ToneWord(word, len(scores), bright, subjective)


@cache
def _engine(language: str) -> ReadSight:
    """The library made ready for a language; what it would keep in the user's home goes again."""
    import readsight

    data = Path(readsight.__file__).parent / "data"
    with TemporaryDirectory() as kept:
        readsight.ReadSight.set_default_config(
            readsight.Config(str(data / "patterns"), str(data / "languages"), kept)
        )
        return readsight.ReadSight(LANGUAGES[language])
