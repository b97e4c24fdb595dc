"""The book compiler: a bucket with all below it becomes one manuscript, as Markdown, EPUB and PDF.

Owns what a run answers. What is a chapter and which text of a blob counts is `_manuscript_outline`,
the formats are `_manuscript_*`, and who prints them `_manuscript_press`.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

import msgspec

from processors._manuscript import Format, Manuscript, Order, Printed
from processors._manuscript_outline import TEXTS, Settings, manuscript_of
from processors._manuscript_press import Press
from processors._manuscript_text import other_scripts
from reyna.content import Derived, DerivedFile, ProcessorSpec, Progress, Readiness, Source
from reyna.domain.bucket import BUCKET_SCHEMA
from reyna.errors import Permanent
from reyna.settings import Settings as Studio

_FILES: dict[Format, tuple[str, str]] = {
    "markdown": ("md", "text/markdown"),
    "epub": ("epub", "application/epub+zip"),
    "pdf": ("pdf", "application/pdf"),
}
_NAMES = {"type": "array", "items": {"type": "string", "maxLength": 100}, "maxItems": 50}
SETTINGS_SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "use": {
            "enum": ["expansion", "original"],
            "default": "expansion",
            "description": "Which text of a blob: its expansion where there is one, or its own.",
        },
        "markup": {
            "enum": ["plain", "markdown"],
            "default": "plain",
            "description": "How texts are read: as they stand, or as Markdown.",
        },
        "title": {"type": "string", "maxLength": 300, "description": "Else the bucket's name."},
        "author": {"type": "string", "maxLength": 300},
        "language": {
            "type": "string",
            "pattern": "^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$",
            "default": "en",
            "description": "The language of the book, for example de or pt-BR.",
        },
        "leave_out_types": {
            **_NAMES,
            "default": ["notes"],
            "description": "Buckets of these types are left out, with all below them.",
        },
        "leave_out_tags": {
            **_NAMES,
            "default": ["not-for-print"],
            "description": "Buckets with one of these tags are left out, with all below them.",
        },
        "blob_titles": {
            "type": "boolean",
            "default": False,
            "description": "Whether a text's title stands above it.",
        },
        "scene_breaks": {
            "type": "boolean",
            "default": False,
            "description": "Whether a break stands between two texts of a chapter.",
        },
        "page_size": {"enum": ["a4", "a5", "letter", "trade"], "default": "a5"},
        "formats": {
            "type": "array",
            "items": {"enum": ["markdown", "epub", "pdf"]},
            "minItems": 1,
            "uniqueItems": True,
            "default": ["markdown", "epub", "pdf"],
        },
    },
}


class ChapterEntry(msgspec.Struct, frozen=True):
    """A chapter in `manuscript-v1`; `blob_ids` are those whose texts stand in it."""

    title: str
    depth: int
    words: int
    blob_ids: tuple[str, ...]


class FileEntry(msgspec.Struct, frozen=True):
    """A file in `manuscript-v1`; `blob_id` is its blob."""

    format: str
    blob_id: str
    file_name: str
    bytes: int
    sha256: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """`manuscript-v1`. `seq` is the last event that the book knows of; `other_scripts` are those
    for which the PDF depends on the fonts of the machine that made it.
    """

    bucket_id: str
    title: str
    author: str | None
    language: str
    seq: int
    words: int
    chapters: tuple[ChapterEntry, ...]
    files: tuple[FileEntry, ...]
    other_scripts: tuple[str, ...]


class BookCompiler:
    """The processor."""

    spec = ProcessorSpec(
        processor_id="book-compiler",
        name="Book compiler",
        description="Makes one manuscript of a bucket and all below it: Markdown, EPUB and PDF.",
        version="1",
        input_schema_id=BUCKET_SCHEMA,
        output_schema_id="manuscript-v1",
        subscribe_events=(),
        settings_schema=msgspec.Raw(msgspec.json.encode(SETTINGS_SCHEMA)),
        # Others' books may be printed first; how long one takes is bounded by itself.
        attempt_timeout=2 * 3600.0,
    )

    def __init__(self) -> None:
        self._press = Press()

    def lifespan(self, settings: Studio) -> AbstractAsyncContextManager[None]:
        """Nothing to open."""
        self._press = Press()
        return nullcontext()

    def readiness(self) -> Readiness:
        """Always ready."""
        return Readiness(True)

    async def run(self, source: Source, progress: Progress) -> Derived:
        """Compile the bucket of `source`. Raises Permanent when there is nothing to compile, or
        more than a book may have.
        """
        if source.contents is None or source.bucket_id is None:
            raise Permanent("A book is compiled from a bucket.")
        began = time.perf_counter()
        settings = msgspec.json.decode(source.settings, type=Settings)
        top = await source.contents.read(tuple(TEXTS))
        book = await asyncio.to_thread(manuscript_of, top, settings)
        await progress(f"{len(book.chapters)} chapters\n")
        order = Order(manuscript=book, formats=settings.formats, page_size=settings.page_size)
        files = _files(book, await self._press.print(order))
        entry = await asyncio.to_thread(_entry, source, source.contents.seq, book, files)
        return Derived(
            data=msgspec.Raw(msgspec.json.encode(entry)),
            title=book.title,
            files=files,
            seconds=round(time.perf_counter() - began, 3),
        )


def _files(book: Manuscript, printed: Sequence[Printed]) -> tuple[DerivedFile, ...]:
    name = re.sub(r"[^\w.-]+", "-", book.title).strip("-.")[:80] or "book"
    made: list[DerivedFile] = []
    for one in printed:
        ending, content_type = _FILES[one.format]
        made.append(
            DerivedFile(
                key=one.format,
                file_name=f"{name}.{ending}",
                content_type=content_type,
                content=one.content,
            )
        )
    return tuple(made)


def _entry(source: Source, seq: int, book: Manuscript, files: Sequence[DerivedFile]) -> Entry:
    return Entry(
        bucket_id=source.bucket_id or "",
        title=book.title,
        author=book.author,
        language=book.language,
        seq=seq,
        words=sum(one.words for one in book.chapters),
        chapters=tuple(
            ChapterEntry(one.title, one.depth, one.words, one.blob_ids) for one in book.chapters
        ),
        files=tuple(
            FileEntry(
                format=one.key,
                blob_id=source.file_id(one.key),
                file_name=one.file_name,
                bytes=len(one.content),
                sha256=hashlib.sha256(one.content).hexdigest(),
            )
            for one in files
        ),
        other_scripts=tuple(other_scripts(book)),
    )


processor = BookCompiler()
