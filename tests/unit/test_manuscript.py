"""From a tree to a manuscript to its formats, and hostile texts on the way."""

from __future__ import annotations

import asyncio
import io
import itertools
import unicodedata
import zipfile

import msgspec
import pypdf
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from processors import _manuscript, _manuscript_outline, _manuscript_press
from processors._manuscript import Block, Chapter, Manuscript, Order, Piece
from processors._manuscript_epub import epub_of
from processors._manuscript_markdown import escaped, markdown_of
from processors._manuscript_outline import Settings, manuscript_of
from processors._manuscript_pdf import pdf_of
from processors._manuscript_press import Press, print_all
from processors._manuscript_text import (
    blocks_of,
    clean,
    is_rtl,
    line,
    other_scripts,
    words_in,
)
from reyna.domain.subtree import FiledBlob, FilledBucket
from reyna.errors import Permanent
from tests.books import XHTML, chapter_texts, contents_of, documents, outline_of, text_of

NOTHING = msgspec.Raw(b"{}")
NUMBERS = itertools.count(1)
HOSTILE = (
    "\x00\x01\x0b\x1b[31m\x7f\x85\ufffe\U0001ffff",
    "</p><script>alert(1)</script>&amp;&lt;]]>",
    "# h\n- l\n1. n\n> q\n---\n===\n```\n~~~\n    code\n[a]: b\n<!-- -->\n|a|\n",
    '#panic("no") $x$ \\u{0} @ref <label> *b* _i_ `c` // /* #include "/etc/passwd"',
    "\u202etxet\u202c \u2066a\u2069 \u05e9\u05dc\u05d5\u05dd abc \u0645\u0631\u062d\u0628\u0627",
    "x" * 5_000,
    "a\u0301" * 500 + "\u200d" * 500,
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \u4f60\u597d",
    "{{ x }} {% y %} ${z} %s %n",
    " \t\n\n \u2028 \u2029 \u3000",
)
TEXTS = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=60),
    st.text(st.sampled_from("\\`*_[]<>&~|$#!-+=.:()0123 \n\tab"), max_size=40),
)


def blob(content: str, **fields: object) -> FiledBlob:
    """A text in a bucket."""
    made = FiledBlob(
        blob_id=f"b{next(NUMBERS)}",
        schema_id="text-input-v1",
        data=msgspec.Raw(msgspec.json.encode({"content": content})),
        title=None,
        tags=(),
        metadata=NOTHING,
        parent_id=None,
        created_at="2026-01-01T00:00:00.000000Z",
        changed_at="2026-01-02T03:04:05.000000Z",
    )
    return msgspec.structs.replace(made, **fields)


def bucket(name: str, *within: FiledBlob | FilledBucket, **fields: object) -> FilledBucket:
    """A bucket with texts and buckets in it."""
    made = FilledBucket(
        bucket_id="5" * 32,
        name=name,
        type="folder",
        metadata=NOTHING,
        tags=(),
        blobs=tuple(one for one in within if isinstance(one, FiledBlob)),
        children=tuple(one for one in within if isinstance(one, FilledBucket)),
    )
    return msgspec.structs.replace(made, **fields)


def book(*chapters: Chapter, title: str = "A book", author: str | None = None) -> Manuscript:
    """A manuscript of some chapters."""
    return Manuscript(
        title=title,
        author=author,
        language="en",
        book_id="5" * 32,
        changed_at="2026-01-02T03:04:05.000000Z",
        chapters=chapters,
    )


def chapter(text: str, title: str = "One", markup: str = "plain", depth: int = 1) -> Chapter:
    """A chapter of one text."""
    blocks = blocks_of(text, "markdown" if markup == "markdown" else "plain")
    return Chapter(title, depth, tuple(blocks), ("b",), words_in(text))


def shape(manuscript: Manuscript) -> list[tuple[str, int, str]]:
    """Titles, depths and texts of the chapters."""
    return [
        (one.title, one.depth, " / ".join(block.text for block in one.blocks))
        for one in manuscript.chapters
    ]


def test_buckets_with_texts_become_chapters() -> None:
    """A bucket is a chapter when there is a text in it or below it; what is left out, is left out
    with all below it. Texts at the top stand before all chapters.
    """
    top = bucket(
        "  The\nbook ",
        blob("before"),
        bucket("Empty", bucket("Empty too")),
        bucket("Part", bucket("Empty"), bucket("Chapter", blob("a"), blob("b"))),
        bucket("Notes", bucket("Plot", blob("no")), type="notes"),
        bucket("Cut", blob("no"), tags=("not-for-print",)),
        bucket("Last", blob(" \n "), bucket("", blob("c"))),
        bucket("Empty at the end", bucket("Empty as well")),
    )
    made = manuscript_of(top, Settings())
    assert (made.title, made.changed_at) == ("The book", "2026-01-02T03:04:05.000000Z")
    assert shape(made) == [
        ("", 1, "before"),
        ("Part", 1, ""),
        ("Chapter", 2, "a / b"),
        ("Last", 1, ""),
        ("Untitled", 2, "c"),
    ]
    whole = manuscript_of(top, Settings(leave_out_types=(), leave_out_tags=(), title="Mine"))
    assert whole.title == "Mine"
    assert ("Plot", 2, "no") in shape(whole)


def test_titles_and_breaks_between_texts() -> None:
    """On request a text's title stands above it, and a break between two texts."""
    top = bucket("B", bucket("C", blob("a", title="T"), blob("b")))
    made = manuscript_of(top, Settings(blob_titles=True, scene_breaks=True))
    kinds = [(block.kind, block.text) for block in made.chapters[0].blocks]
    assert kinds == [("heading", "T"), ("paragraph", "a"), ("rule", ""), ("paragraph", "b")]


@pytest.mark.parametrize(
    ("limit", "value"), [("MAX_CHARACTERS", 3), ("MAX_PIECES", 3), ("MAX_CHAPTERS", 1)]
)
def test_a_book_too_large_is_refused(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    """More than a book may have is refused in a sentence."""
    monkeypatch.setattr(_manuscript_outline, limit, value)
    top = bucket("B", bucket("C", blob("ab\n\ncd")), bucket("D", blob("e")))
    with pytest.raises(Permanent, match=f"at most {value} "):
        manuscript_of(top, Settings())


def test_plain_text_keeps_paragraphs_and_lines() -> None:
    """Blank lines part paragraphs, ends of lines stay; nothing else is read into a text."""
    blocks = blocks_of("  a *b*\r\nc\u2028d \n \t\n\n# e\u2029f", "plain")
    assert [block.text for block in blocks] == ["a *b*\nc\nd", "# e", "f"]


def test_markdown_keeps_what_a_book_has() -> None:
    """Emphasis, headings, quotations, items, code and rules are kept, of links the text; HTML is
    text.
    """
    text = "# H\n\na *b* **c** `d` [e](http://a.b)<i>\n\n> q\n\n- i\n\n---\n\n    x\n\ny  \nz"
    blocks = blocks_of(text, "markdown")
    assert [(block.kind, block.text) for block in blocks] == [
        ("heading", "H"),
        ("paragraph", "a b c d e<i>"),
        ("quote", "q"),
        ("item", "i"),
        ("rule", ""),
        ("code", "x"),
        ("paragraph", "y\nz"),
    ]
    styles = {piece.text: piece.style for piece in blocks[1].pieces}
    assert (styles["b"], styles["c"], styles["d"]) == ("emphasis", "strong", "code")


@given(TEXTS)
def test_a_clean_text_can_stand_in_xml(text: str) -> None:
    """No control, noncharacter or override of direction is left; cleaning again does nothing."""
    kept = clean(text)
    assert clean(kept) == kept
    assert all(one in "\n\t" or unicodedata.category(one) not in {"Cc", "Cs"} for one in kept)
    assert not any(0x202A <= ord(one) <= 0x202E or ord(one) & 0xFFFE == 0xFFFE for one in kept)
    assert "\n" not in line(text)


@given(TEXTS, st.sampled_from(["plain", "markdown"]))
@example("1) a\n2. b", "plain")
def test_the_formats_are_whole_whatever_the_text(text: str, markup: str) -> None:
    """An EPUB of any text, title and author is a zip of well-formed documents that say the text;
    and the Markdown of a plain text, read as Markdown, says it too.
    """
    made = book(
        chapter(text, line(text), markup), chapter("e", "E"), title=line(text) or "T", author="&"
    )
    epub = epub_of(made)
    first, second = chapter_texts(epub)
    wanted = [block.text.replace("\n", "") for block in made.chapters[0].blocks]
    said = [one for one in first if one]
    assert "".join(said) == (made.chapters[0].title + "".join(wanted))
    assert second == ["E", "e"]
    assert epub == epub_of(made)
    markdown = markdown_of(made).decode()
    if markup == "plain":
        assert paragraphs_in(markdown)[1:-1] == wanted


def paragraphs_in(markdown: str) -> list[str]:
    """What the paragraphs of a Markdown file say."""
    tokens = MarkdownIt("commonmark").parse(markdown)
    said = [
        "".join(child.content for child in inline.children or ())
        for opening, inline in itertools.pairwise(tokens)
        if opening.type == "paragraph_open" and opening.level == 0
    ]
    return [one for one in said if not one.startswith('<a id="')]


@given(TEXTS.map(line))
def test_nothing_in_an_escaped_text_is_markdown(text: str) -> None:
    """A title in a heading reads as it stands."""
    tokens = MarkdownIt("commonmark").parse(f"# {escaped(text)}")
    assert tokens[0].type == "heading_open"
    assert "".join(child.content for child in tokens[1].children or ()) == text


@settings(max_examples=25)
@given(st.lists(TEXTS, min_size=1, max_size=4), st.sampled_from(["plain", "markdown"]))
@example(list(HOSTILE), "plain")
@example(list(HOSTILE), "markdown")
def test_a_pdf_can_be_made_of_any_text(texts: list[str], markup: str) -> None:
    """Typst makes a PDF with an outline of whatever people write; none of it is a command."""
    made = book(*(chapter(text, line(text)[:200], markup) for text in texts), title="T")
    pdf = pdf_of(made, "a5")
    assert len(pypdf.PdfReader(io.BytesIO(pdf)).pages) >= 1
    titles = [one.title for one in made.chapters if one.title]
    assert len([one for one in outline_of(pdf) if one != "Contents"]) == len(titles)


def test_the_same_book_has_the_same_bytes() -> None:
    """Every format of a book is the same whenever and wherever it is made, and of another book
    another.
    """
    made = book(chapter("a\n\nb *c*", markup="markdown"), author="Me")
    order = Order(manuscript=made, formats=("markdown", "epub", "pdf"), page_size="a4")
    assert print_all(order) == print_all(order) == asyncio.run(Press().print(order))
    other = msgspec.structs.replace(order, manuscript=book(chapter("a"), author="Me"))
    assert not set(print_all(order)) & set(print_all(other))


def test_an_epub_says_what_it_is() -> None:
    """The package names title, author, language and time, and lists every document; entries of the
    table of contents lead to documents, parts above their chapters.
    """
    made = book(
        chapter("p", ""),
        Chapter("Part", 1, (), (), 0),
        chapter("a", "A", depth=2),
        chapter("b", "B", depth=2),
        chapter("c", "C"),
        author="Me & you",
    )
    epub = epub_of(made)
    found = documents(epub)
    package = found["EPUB/package.opf"]
    said = {one.tag.rpartition("}")[2]: one.text for one in package.iter() if one.text}
    assert (said["title"], said["creator"], said["language"]) == ("A book", "Me & you", "en")
    assert said["identifier"] == "urn:uuid:55555555-5555-5555-5555-555555555555"
    assert said["meta"] == "2026-01-02T03:04:05Z"
    with zipfile.ZipFile(io.BytesIO(epub)) as archive:
        names = set(archive.namelist())
    listed = {f"EPUB/{one.get('href')}" for one in package.iter() if one.get("href")}
    assert listed | {"mimetype", "META-INF/container.xml", "EPUB/package.opf"} == names
    nav = found["EPUB/nav.xhtml"]
    targets = {one.get("href") for one in nav.iter(f"{XHTML}a")}
    assert {f"EPUB/{one}" for one in targets} < names
    assert contents_of(epub) == ["A book", "Part", "A", "B", "C"]
    inner = nav.findall(f".//{XHTML}li/{XHTML}ol/{XHTML}li/{XHTML}a")
    assert [one.text for one in inner] == ["A", "B"]


def test_text_from_right_to_left_is_marked_so() -> None:
    """A paragraph has the direction of its first letter."""
    assert [is_rtl(text) for text in ("1. \u05e9 a", "a \u05e9", "", "\u0645")] == [
        True,
        False,
        False,
        True,
    ]
    body = documents(epub_of(book(chapter("\u05e9\u05dc\u05d5\u05dd\n\na"))))
    found = [one.get("dir") for one in body["EPUB/chapter-0001.xhtml"].iter(f"{XHTML}p")]
    assert found == ["rtl", "ltr"]


def test_scripts_that_need_fonts_of_the_machine_are_named() -> None:
    """Latin, Greek, Cyrillic and Hebrew have fonts; what else is in a book is named."""
    covered = "\u00c4\u00f1\u1ea5 \u03b5\u03bb \u041f\u0440 \u05e9 1\u20ac\u2026"
    assert other_scripts(book(chapter(covered))) == []
    pdf = text_of(pdf_of(book(chapter("\u00c4rger \u0395\u03bb\u03bb \u041f\u0440\u0438")), "a5"))
    assert "\u00c4rger \u0395\u03bb\u03bb \u041f\u0440\u0438" in pdf
    mixed = book(chapter("\u4f60 \u3042 \ud55c \u0645 a"))
    assert other_scripts(mixed) == ["arabic", "cjk", "hangul", "hiragana"]


async def test_printing_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A book that is not printed in time is given up for good, and its process is gone."""
    started: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec

    async def noting(*arguments: str, **options: object) -> asyncio.subprocess.Process:
        started.append(await start(*arguments, **options))  # type: ignore[arg-type]  # as given
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noting)
    order = Order(manuscript=book(chapter("a")), formats=("pdf",), page_size="a5")
    with monkeypatch.context() as impatient:
        impatient.setattr(_manuscript_press, "TIME_LIMIT", 0.0)
        with pytest.raises(Permanent, match="takes more than"):
            await Press().print(order)
    cancelled = asyncio.create_task(Press().print(order))
    while len(started) < 2:  # noqa: ASYNC110 - there is nothing to wait for but the process itself
        await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert all(process.returncode for process in started)


async def test_printing_that_fails_says_so() -> None:
    """A process that ends before it has printed is an error that does not pass."""
    wrong = msgspec.structs.replace(book(chapter("a")), changed_at="never")
    order = Order(manuscript=wrong, formats=("epub",), page_size="a5")
    with pytest.raises(Permanent, match="Printing"):
        await Press().print(order)


@pytest.mark.parametrize("style", ["emphasis", "strong", "code"])
@pytest.mark.parametrize("text", ["a", " a ", "*", "a*", "**a**", "<b>", "`"])
def test_styles_in_markdown_hold_any_text(style: _manuscript.Style, text: str) -> None:
    """Styled text says in Markdown what it said, also beside other styled text."""
    pieces = (Piece("x "), Piece(text, style), Piece("y", "strong"), Piece(" z"))
    made = book(Chapter("One", 1, (Block("paragraph", pieces),), ("b",), 1))
    rendered = MarkdownIt("commonmark").parse(markdown_of(made).decode())[-2]
    said = [one.content for one in rendered.children or () if one.type == "text"]
    assert "".join(said) == f"x {text}y z"
