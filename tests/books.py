"""Books for tests: a studio that compiles them, and opening what it made."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from xml.etree import ElementTree as ET

import httpx
import msgspec
import pypdf

from processors.book_compiler import BookCompiler
from reyna.content import Derived, Processor, Progress, Source
from tests.support import Json, Studio, make_blob, make_bucket, read, running_studio
from tests.writing import Writer, expanded, run_at, the_run

RUNS = "/processors/book-compiler/runs"
XHTML = "{http://www.w3.org/1999/xhtml}"


async def write_out(source: Source, progress: Progress) -> Derived:
    """An expansion by which one can tell its source."""
    original = msgspec.json.decode(source.data)["content"]
    return expanded(source, f"{original}, and so on.")


class Desk(msgspec.Struct, frozen=True):
    """A studio that compiles books, and a writer at it."""

    studio: Studio
    client: httpx.AsyncClient

    async def bucket(self, name: str, parent: str | None = None, **fields: object) -> str:
        """A new bucket's id."""
        made: str = (await make_bucket(self.client, name, parent, **fields))["bucket_id"]
        return made

    async def text(self, content: str, *buckets: str, **fields: object) -> Json:
        """A new text that has been expanded."""
        made = await make_blob(self.client, content, bucket_ids=list(buckets), **fields)
        run = await the_run(self.client, made, "completed")
        return made | {"derived_id": run["derived_id"]}

    async def run(self, bucket_id: str, **settings: object) -> Json:
        """A run over a bucket, at its end."""
        asked = {"bucket_id": bucket_id, "settings": settings}
        answer = await self.client.post(RUNS, json=asked)
        assert answer.status_code == 202, answer.text
        return await run_at(self.client, answer.json()["run_id"], "completed", "failed")

    async def book(self, bucket_id: str, **settings: object) -> Json:
        """The blob of a manuscript that has just been compiled."""
        run = await self.run(bucket_id, **settings)
        assert run["status"] == "completed", run
        return await read(self.client, f"/blobs/{run['derived_id']}", run["seq"])

    async def file(self, book: Json, format_: str) -> bytes:
        """A file of a manuscript, downloaded."""
        (entry,) = (one for one in book["data"]["files"] if one["format"] == format_)
        answer = await self.client.get(f"/blobs/{entry['blob_id']}/media")
        assert answer.status_code == 200
        assert answer.headers["etag"] == f'"{entry["sha256"]}"'
        return answer.content

    async def words(self, bucket_id: str, **settings: object) -> str:
        """What a book says, as plain Markdown without its title and contents."""
        book = await self.book(bucket_id, formats=["markdown"], **settings)
        text = (await self.file(book, "markdown")).decode()
        lines = [line for line in text.splitlines() if line and line[0] not in "<#- "]
        return " ".join(lines)


@asynccontextmanager
async def a_desk(folder: Path) -> AsyncIterator[Desk]:
    """A studio on `folder` that expands texts and compiles books."""
    processors: list[Processor] = [BookCompiler(), Writer(write_out)]
    async with (
        running_studio(folder, processors=processors) as studio,
        studio.client(studio.user().token) as client,
    ):
        yield Desk(studio, client)


def documents(epub: bytes) -> dict[str, ET.Element]:
    """The XML files of an EPUB by their names, each of which must be well-formed."""
    with zipfile.ZipFile(io.BytesIO(epub)) as archive:
        assert archive.testzip() is None
        first = archive.infolist()[0]
        assert (first.filename, first.compress_type) == ("mimetype", zipfile.ZIP_STORED)
        assert archive.read("mimetype") == b"application/epub+zip"
        return {
            name: ET.fromstring(archive.read(name))
            for name in archive.namelist()
            if name.endswith((".xhtml", ".opf", ".xml"))
        }


def chapter_texts(epub: bytes) -> list[list[str]]:
    """The texts of headings, paragraphs and the like of each chapter of an EPUB."""
    found = documents(epub)
    chapters = sorted(name for name in found if "/chapter-" in name)
    return [
        ["".join(one.itertext()) for one in found[name].find(f"{XHTML}body") or ()]
        for name in chapters
    ]


def contents_of(epub: bytes) -> list[str]:
    """The entries of the table of contents of an EPUB, in order."""
    nav = documents(epub)["EPUB/nav.xhtml"]
    return ["".join(one.itertext()) for one in nav.iter(f"{XHTML}a")]


def outline_of(pdf: bytes) -> list[str]:
    """The entries of the outline of a PDF, in order."""
    return list(_titles(pypdf.PdfReader(io.BytesIO(pdf)).outline))


def text_of(pdf: bytes) -> str:
    """What a PDF says, one blank between any two words."""
    pages = pypdf.PdfReader(io.BytesIO(pdf)).pages
    return " ".join(" ".join(page.extract_text().split()) for page in pages)


def _titles(entries: Sequence[object]) -> list[str]:
    found: list[str] = []
    for one in entries:
        found += _titles(one) if isinstance(one, list) else [str(getattr(one, "title", ""))]
    return found
