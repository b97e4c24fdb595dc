"""What the style analysis declares, counts and refuses."""

from __future__ import annotations

import msgspec
import pytest

import schemas
from processors import _style
from processors.style_analysis import processor
from reyna.content import Processor

# 2 sentences, 14 words, 15 syllables.
PLAIN = "The cat sat on the mat. It was a sunny day for a walk."


def style_of(text: str, language: str = "en") -> _style.Style:
    """The style of a text that has one."""
    found = _style.style_of(text, language)
    assert found is not None
    return msgspec.json.decode(found, type=_style.Style)


def test_it_is_a_processor_that_reads_both_texts_and_is_off() -> None:
    """It turns what was written and what was written out into figures, for who wants them."""
    assert isinstance(processor, Processor)
    spec = processor.spec
    assert spec.processor_id == "style-analysis"
    assert spec.reads == ("text-input-v1", "expanded-text-v1")
    assert spec.output_schema_id in {one.schema_id for one in schemas.load()}
    assert not spec.default_active
    assert not processor.readiness().ready


def test_figures_are_those_of_the_formulas() -> None:
    """Counts are those one makes by hand, and scores what the published formulas make of them."""
    style = style_of(PLAIN)
    assert (style.sentences.count, style.words.count, style.words.different) == (2, 14, 12)
    assert (style.sentences.words_fewest, style.sentences.words_most) == (6, 8)
    per_sentence, per_word = 7, style.words.syllables_mean
    assert per_word == pytest.approx(15 / 14, abs=0.01)
    ease = 206.835 - 1.015 * per_sentence - 84.6 * 15 / 14
    grade = 0.39 * per_sentence + 11.8 * 15 / 14 - 15.59
    assert style.readability["flesch_reading_ease"] == pytest.approx(ease, abs=0.1)
    assert style.readability["flesch_kincaid_grade_level"] == pytest.approx(grade, abs=0.1)


def test_harder_texts_score_harder() -> None:
    """Officialese is harder than a plain text by every formula."""
    plain = style_of(PLAIN).readability
    hard = style_of(
        "Notwithstanding the aforementioned considerations, organisational responsibilities"
        " necessitate comprehensive documentation of interdepartmental communications, irrespective"
        " of individual preferences regarding administrative methodologies."
    ).readability
    assert hard.pop("flesch_reading_ease") < plain.pop("flesch_reading_ease")
    assert set(hard) == set(plain)
    assert all(hard[name] > plain[name] for name in plain)


def test_abbreviations_and_decimals_end_no_sentence() -> None:
    """A sentence ends where a reader says it does."""
    style = style_of("Dr. Smith arrived 3.5 hours later. Nobody minded, it seems!\n\nA new day")
    assert style.sentences.count == 3


def test_tone_words_come_strongest_first_with_what_was_said_about_them() -> None:
    """Tone words are told with their count; a negation turns them."""
    tone = style_of("A horrible storm. Lovely, lovely rain! The soup was not good.").tone
    assert tone is not None
    assert [(word.word, word.count) for word in tone.words] == [
        ("lovely", 2),
        ("horrible", 1),
        ("not good", 1),
    ]
    assert [word.polarity > 0 for word in tone.words] == [True, False, False]


@pytest.mark.parametrize("language", _style.LANGUAGES)
def test_every_language_has_scores(language: str) -> None:
    """Each language that can be chosen has formulas, and is divided into sentences."""
    text = "Пример текста. Ещё один." if language in {"ru", "uk"} else "Anna fara. Una mala cosa!"
    style = style_of(text, language)
    assert style.sentences.count == 2
    assert {"ari", "lix"} <= set(style.readability)
    assert (style.tone is None) == (language != "en")


@pytest.mark.parametrize("text", ["", " \n", "... 12 — !", "海は静かだ。"])
def test_a_text_without_a_word_of_the_language_has_no_style(text: str) -> None:
    """What has no words has no figures."""
    assert _style.style_of(text, "en") is None


def test_a_word_without_an_end_costs_no_more_than_its_letters() -> None:
    """A hundred thousand letters without a space are counted as one word of bounded length."""
    assert style_of("é" * 100_000).words.letters_mean == 64
