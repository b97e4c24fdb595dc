"""Words of texts, questions in them, and excerpts: whatever strangers write."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from projections.content.search import MAX_TEXT, text_of
from projections.content.words import (
    MAX_QUESTION,
    MAX_TERMS,
    WIDTH,
    Question,
    Term,
    clean,
    excerpt,
    opening,
    parse,
    words,
)
from reyna.errors import Invalid

MARK = re.compile("</?mark>")


def one(*found: str, prefix: bool = False) -> Term:
    """A term of these words."""
    return Term(found, prefix)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Quick, brown fox!", ["the", "quick", "brown", "fox"]),
        ("don't well-known snake_case", ["don", "t", "well", "known", "snake", "case"]),
        ("Crème brûlée CAFE\u0301", ["creme", "brulee", "cafe"]),
        ("Straße, ёлка, Ὀδυσσεύς", ["strasse", "елка", "οδυσσευσ"]),
        ("İstanbul \uff26\uff55\uff4c\uff4c ﬁne Ⅷ", ["istanbul", "full", "fine", "viii"]),
        ("東京タワーに行く", ["東", "京", "タ", "ワ", "ー", "に", "行", "く"]),
        ("한국어 좋다", ["한국어", "좋다"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("שָׁלוֹם مَرْحَبًا", ["שלום", "مرحبا"]),
        ("exam\u00adple 😀 ½ --- \u0301", ["example", "12"]),
        ("", []),
    ],
)
def test_a_text_is_cut_into_words(text: str, expected: list[str]) -> None:
    """Words are letters and digits, without case and accents, in any script."""
    assert words(clean(text)) == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("brown Fox", Question((one("brown"), one("fox")))),
        ('"brown  fox" runs', Question((one("brown", "fox"), one("runs")))),
        ('"never closed', Question((one("never", "closed"),))),
        ("well-known", Question((one("well", "known"),))),
        ("東京", Question((one("東", "京"),))),
        ("expan*", Question((one("expan", prefix=True),))),
        ("well-kn*", Question((one("well", "kn", prefix=True),))),
        ("東*", Question((one("東"),))),
        ("fox -hen", Question((one("fox"),), (one("hen"),))),
        (
            'fox -"wild hen" -he*',
            Question((one("fox"),), (one("wild", "hen"), one("he", prefix=True))),
        ),
        ("fox fox - * ()", Question((one("fox"),))),
        ("OR NOT NEAR(a b)", Question((one("or"), one("not"), one("near", "a"), one("b")))),
        ("title:x' & y | !z <-> :*", Question((one("title", "x"), one("y"), one("z")))),
    ],
)
def test_a_question_is_words_phrases_beginnings_and_exclusions(
    asked: str, expected: Question
) -> None:
    """Only quotes, a star and a minus mean something; all else is text."""
    assert parse(asked) == expected


@pytest.mark.parametrize(
    "asked",
    [
        "",
        "   ",
        "-fox",
        '-"wild hen" -fox',
        "!?* \u200b",
        "a*",
        "é*",
        "x" * (MAX_QUESTION + 1),
        " ".join(str(n) for n in range(MAX_TERMS + 1)),
    ],
)
def test_a_question_without_an_answer_is_refused(asked: str) -> None:
    """No word, too many, too much, or too short a beginning is the caller's mistake, named."""
    with pytest.raises(Invalid) as refused:
        parse(asked)
    assert [error.path for error in refused.value.errors] == ["/q"]


@given(st.text(max_size=MAX_QUESTION) | st.text(alphabet='ab* "-', max_size=40))
@example('"')
@example("\x00\ud800")
def test_any_string_is_a_question_or_is_refused(asked: str) -> None:
    """Nothing but Invalid comes of a stranger's string, and words hold nothing but letters."""
    try:
        question = parse(asked)
    except Invalid:
        return
    assert question.wanted
    for term in (*question.wanted, *question.unwanted):
        assert term.words
        assert all(w and not set(w) & set("\"'\\ *()\x00") and not w.isspace() for w in term.words)


@given(st.text(max_size=MAX_QUESTION - 2))
def test_a_text_is_found_by_itself(text: str) -> None:
    """Whatever was written, asked for as a phrase it is the same words."""
    text = text.replace('"', " ")
    try:
        question = parse(f'"{text}"')
    except Invalid:
        assert words(clean(text)) == []
        return
    assert question == Question((one(*words(clean(text))),))


def test_the_text_of_a_blob_is_its_strings_in_order() -> None:
    """Names of fields and numbers are left out; title and tags stand apart; controls are gone."""
    data = (
        '{"b": "one\\u0000\\n", "a": {"z": ["two", 3, null, {"y": "th\\u200bree"}]}, "c": "four"}'
    )
    text = text_of(data.encode(), "A\ttitle", ("tag", "other tag"))
    assert text.title == "A title · tag · other tag"
    assert text.body == "one two three four"


@pytest.mark.parametrize("data", ["", "{", "[" * 100_000, '"\\ud800"', "12", "null"])
def test_what_holds_no_text_has_none(data: str) -> None:
    """Data that is no JSON, or has no strings, has an empty text and breaks nothing."""
    assert text_of(data, None, ()).title == ""
    assert text_of(data, None, ()).body in {"", "\ufffd"}


def test_a_text_is_bounded() -> None:
    """No more than MAX_TEXT characters are searched."""
    data = b'["' + b"word " * MAX_TEXT + b'"]'
    assert len(text_of(data, "t" * 2 * MAX_TEXT, ()).body) == MAX_TEXT
    assert len(text_of(data, "t" * 2 * MAX_TEXT, ()).title) == MAX_TEXT


def test_an_excerpt_shows_the_place_with_the_most_terms() -> None:
    """It is about thirty words around where the terms stand together, each marked."""
    far = " ".join(f"w{n}" for n in range(100))
    text = clean(f"a fox {far} then the Quick brown fox {far}")
    shown = excerpt(parse("quick fox"), text)
    assert shown is not None
    assert "the <mark>Quick</mark> brown <mark>fox</mark> w0" in shown
    assert shown.startswith("…")
    assert shown.endswith("…")
    assert len(shown.split()) == WIDTH


def test_an_excerpt_marks_phrases_beginnings_and_letters() -> None:
    """A phrase is one mark, a beginning marks its word, neighbours that overlap share a mark."""
    assert excerpt(parse('"brown fox"'), "A brown, fox.") == "A <mark>brown, fox</mark>."
    assert excerpt(parse("expan*"), "It expands.") == "It <mark>expands</mark>."
    assert excerpt(parse("東京"), "私は東京に") == "私は<mark>東京</mark>に"
    assert excerpt(parse('"a b" "b c"'), "a b c") == "<mark>a b c</mark>"
    assert excerpt(parse("creme"), "la Crème") == "la <mark>Crème</mark>"
    assert excerpt(parse("fox"), "no hen") is None
    assert opening("no hen & so on") == "no hen &amp; so on"


def test_an_excerpt_is_safe_html() -> None:
    """The text is escaped, marks that stand in it included."""
    text = "<script>fox</script> <mark>hen</mark> & 'x' \"y\""
    assert excerpt(parse("fox"), text) == (
        "&lt;script&gt;<mark>fox</mark>&lt;/script&gt; &lt;mark&gt;hen&lt;/mark&gt; &amp; "
        "&#x27;x&#x27; &quot;y&quot;"
    )


WILD = st.text(alphabet="abé東<>&\"' \u0301\u200b\n", max_size=200) | st.text(max_size=200)


@given(WILD, st.text(alphabet='ab東é* "-', max_size=20))
def test_an_excerpt_holds_text_and_marks_alone(text: str, asked: str) -> None:
    """Without its marks an excerpt is escaped text, every mark is closed, and it is short."""
    try:
        question = parse(asked)
    except Invalid:
        return
    shown = excerpt(question, clean(text))
    if shown is None:
        return
    marks = MARK.findall(shown)
    assert marks == ["<mark>", "</mark>"] * (len(marks) // 2)
    bare = MARK.sub("", shown)
    assert "<" not in bare
    assert ">" not in bare
    assert html.unescape(bare).strip("…") in clean(text).strip("…")


def test_an_excerpt_of_anything_long_is_short() -> None:
    """Endless words, gaps and repetitions make no endless excerpt."""
    for text in ("fox" + "-" * 200_000 + "x", "x" * 200_000 + " fox", "fox " * 60_000):
        shown = excerpt(parse("fox"), text)
        assert shown is not None
        assert len(shown) < 5_000
