"""From a tree of buckets to a manuscript: which buckets are chapters, and which text of a blob
counts.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from processors._manuscript import (
    MAX_CHAPTERS,
    MAX_CHARACTERS,
    MAX_PIECES,
    Block,
    Chapter,
    Format,
    Manuscript,
    PageSize,
)
from processors._manuscript_text import Markup, blocks_of, heading, line, words_in
from reyna.domain.blob import chosen_variant
from reyna.domain.subtree import FiledBlob, FilledBucket
from reyna.errors import Permanent
from reyna.ids import id_of

# The schemas that have a text, and where.
TEXTS = {"text-input-v1": "content", "expanded-text-v1": "expanded"}
EXPANSION = "expanded-text-v1"
NOTHING = "There is no text in this bucket, nor below it in what is not left out."


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a book is compiled. `leave_out_types` and `leave_out_tags` are of buckets, which are left
    out with all below them.
    """

    use: Literal["expansion", "original"] = "expansion"
    markup: Markup = "plain"
    title: str | None = None
    author: str | None = None
    language: str = "en"
    leave_out_types: tuple[str, ...] = ("notes",)
    leave_out_tags: tuple[str, ...] = ("not-for-print",)
    blob_titles: bool = False
    scene_breaks: bool = False
    page_size: PageSize = "a5"
    formats: tuple[Format, ...] = ("markdown", "epub", "pdf")


def manuscript_of(top: FilledBucket, settings: Settings) -> Manuscript:
    """The manuscript of a bucket. Raises Permanent when it has no text, or too much."""
    outline = _Outline(settings)
    outline.add(top, 0)
    if not any(chapter.blocks for chapter in outline.chapters):
        raise Permanent(NOTHING)
    return Manuscript(
        title=line(settings.title or "") or line(top.name) or "Untitled",
        author=line(settings.author or "") or None,
        language=settings.language,
        book_id=id_of("book", top.bucket_id),
        changed_at=outline.changed_at,
        chapters=tuple(outline.chapters),
    )


def text_of(blob: FiledBlob, settings: Settings) -> FiledBlob:
    """The blob whose text stands in the book for `blob`: itself, or an expansion of it.

    The one that its `chosen` metadata name; else the newest that was made of its text as it is now.
    """
    if settings.use == "original":
        return blob
    expansions = {one.blob_id: one for one in blob.variants if one.schema_id == EXPANSION}
    named = expansions.get(chosen_variant(blob.metadata, EXPANSION) or "")
    if named is not None:
        return named
    fresh = [one for one in expansions.values() if not one.stale]
    return fresh[-1] if fresh else blob


class _Outline:
    """Chapters, in the order of the tree."""

    def __init__(self, settings: Settings) -> None:
        self.chapters: list[Chapter] = []
        self.changed_at = ""
        self._settings = settings
        self._characters = 0
        self._pieces = 0

    def add(self, top: FilledBucket, depth: int) -> None:
        """A bucket and all below it. One without any text does not become a chapter."""
        pending: list[tuple[FilledBucket, int]] = [(top, depth)]
        while pending:
            bucket, depth = pending.pop()
            while self.chapters and self._is_empty_beside(depth):
                self.chapters.pop()
            self._add(bucket, depth)
            kept = [child for child in bucket.children if not self._left_out(child)]
            pending.extend((child, depth + 1) for child in reversed(kept))
        while self.chapters and not self.chapters[-1].blocks:
            self.chapters.pop()

    def _is_empty_beside(self, depth: int) -> bool:
        """Whether the last chapter has neither text nor, as the next is at `depth`, one below."""
        last = self.chapters[-1]
        return not last.blocks and last.depth >= depth

    def _left_out(self, bucket: FilledBucket) -> bool:
        return bucket.type in self._settings.leave_out_types or not set(bucket.tags).isdisjoint(
            self._settings.leave_out_tags
        )

    def _add(self, bucket: FilledBucket, depth: int) -> None:
        blocks: list[Block] = []
        blob_ids: list[str] = []
        for blob in bucket.blobs:
            text = text_of(blob, self._settings)
            found = self._blocks(text)
            if not found:
                continue
            if self._settings.scene_breaks and blocks:
                blocks.append(Block("rule"))
            if self._settings.blob_titles and blob.title and line(blob.title):
                blocks.append(heading(blob.title))
            blocks += found
            blob_ids.append(text.blob_id)
            self.changed_at = max(self.changed_at, text.changed_at)
        if depth == 0 and not blocks:
            return
        words = sum(words_in(block.text) for block in blocks)
        title = line(bucket.name) or "Untitled"
        self.chapters.append(
            Chapter(title if depth else "", max(depth, 1), tuple(blocks), tuple(blob_ids), words)
        )
        if len(self.chapters) > MAX_CHAPTERS:
            raise Permanent(f"A book has at most {MAX_CHAPTERS} chapters.")

    def _blocks(self, blob: FiledBlob) -> list[Block]:
        text = _text(blob)
        self._characters += len(text)
        if self._characters > MAX_CHARACTERS:
            raise Permanent(f"A book has at most {MAX_CHARACTERS} characters.")
        blocks = blocks_of(text, self._settings.markup)
        self._pieces += len(blocks) + sum(len(block.pieces) for block in blocks)
        if self._pieces > MAX_PIECES:
            raise Permanent(f"A book has at most {MAX_PIECES} paragraphs and lines.")
        return blocks


def _text(blob: FiledBlob) -> str:
    data = msgspec.json.decode(blob.data)
    text = data.get(TEXTS[blob.schema_id], "") if isinstance(data, dict) else ""
    return text if isinstance(text, str) else ""
