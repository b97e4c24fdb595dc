"""A manuscript as an EPUB 3.3 file: a zip of XHTML. Owns that the same book gives the same bytes.

Every document is built as a tree and written by the standard library's XML writer, so that no text
can be markup.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID
from xml.etree import ElementTree as ET

from processors._manuscript import Block, Chapter, Manuscript

MAX_LEVEL = 6
_XHTML = "http://www.w3.org/1999/xhtml"
_OPS = "http://www.idpf.org/2007/ops"
_OPF = "http://www.idpf.org/2007/opf"
_DC = "http://purl.org/dc/elements/1.1/"
_CONTAINER = """<?xml version="1.0" encoding="utf-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="EPUB/package.opf" media-type="application/oebps-package+xml"/>\
</rootfiles>
</container>
"""
_STYLE = """body { line-height: 1.4; }
h1, h2, h3, h4, h5, h6 { text-align: center; page-break-after: avoid; }
p { margin: 0; text-indent: 1.5em; text-align: justify; }
h1 + p, h2 + p, h3 + p, h4 + p, h5 + p, h6 + p, hr + p { text-indent: 0; }
hr { border: 0; text-align: center; margin: 1em 0; }
hr::after { content: "* * *"; }
pre { white-space: pre-wrap; }
.author { text-align: center; text-indent: 0; }
"""
_TAGS = {"paragraph": "p", "quote": "p", "item": "p", "code": "pre", "rule": "hr"}
_INLINE = {"emphasis": "em", "strong": "strong", "code": "code"}


def epub_of(manuscript: Manuscript) -> bytes:
    """The whole book: a title page, a document for each chapter, and the table of contents."""
    names = [f"chapter-{number:04}.xhtml" for number in range(1, len(manuscript.chapters) + 1)]
    files: list[tuple[str, str]] = [
        ("META-INF/container.xml", _CONTAINER),
        ("EPUB/package.opf", _package(manuscript, names)),
        ("EPUB/nav.xhtml", _navigation(manuscript, names)),
        ("EPUB/style.css", _STYLE),
        ("EPUB/title.xhtml", _title_page(manuscript)),
    ]
    for name, chapter in zip(names, manuscript.chapters, strict=True):
        files.append((f"EPUB/{name}", _chapter(manuscript, chapter)))
    return _zipped(manuscript, files)


def _zipped(manuscript: Manuscript, files: Sequence[tuple[str, str]]) -> bytes:
    changed = datetime.fromisoformat(manuscript.changed_at)
    time = (max(changed.year, 1980), *changed.timetuple()[1:6])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        # First, and as it is: this is how a reader knows an EPUB.
        kind = zipfile.ZipInfo("mimetype", time)
        archive.writestr(kind, "application/epub+zip", zipfile.ZIP_STORED)
        for name, text in files:
            archive.writestr(zipfile.ZipInfo(name, time), text, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _package(manuscript: Manuscript, names: Sequence[str]) -> str:
    package = ET.Element(
        "package",
        {
            "xmlns": _OPF,
            "xmlns:dc": _DC,
            "version": "3.0",
            "unique-identifier": "book",
            "xml:lang": manuscript.language,
        },
    )
    metadata = ET.SubElement(package, "metadata")
    identifier = f"urn:uuid:{UUID(manuscript.book_id)}"
    _add(metadata, "dc:identifier", identifier, id="book")
    _add(metadata, "dc:title", manuscript.title)
    _add(metadata, "dc:language", manuscript.language)
    if manuscript.author:
        _add(metadata, "dc:creator", manuscript.author)
    modified = f"{manuscript.changed_at[:19]}Z"
    _add(metadata, "meta", modified, property="dcterms:modified")
    manifest = ET.SubElement(package, "manifest")
    xhtml = "application/xhtml+xml"
    item = {"id": "nav", "href": "nav.xhtml", "media-type": xhtml, "properties": "nav"}
    ET.SubElement(manifest, "item", item)
    ET.SubElement(manifest, "item", {"id": "style", "href": "style.css", "media-type": "text/css"})
    spine = ET.SubElement(package, "spine")
    for name in ("title.xhtml", *names):
        named = name.removesuffix(".xhtml")
        ET.SubElement(manifest, "item", {"id": named, "href": name, "media-type": xhtml})
        ET.SubElement(spine, "itemref", {"idref": named})
        if name == "title.xhtml":
            ET.SubElement(spine, "itemref", {"idref": "nav"})
    return _written(package)


def _navigation(manuscript: Manuscript, names: Sequence[str]) -> str:
    document, body = _document(manuscript, manuscript.title)
    nav = ET.SubElement(body, "nav", {"epub:type": "toc", "id": "toc"})
    _add(nav, "h1", manuscript.title, dir="auto")
    lists = [ET.SubElement(nav, "ol")]
    _entry(lists[0], manuscript.title, "title.xhtml")
    for name, chapter in zip(names, manuscript.chapters, strict=True):
        if not chapter.title:
            continue
        del lists[chapter.depth :]
        if len(lists) < chapter.depth:
            lists.append(ET.SubElement(lists[-1][-1], "ol"))
        _entry(lists[-1], chapter.title, name)
    return _written(document)


def _entry(entries: ET.Element, title: str, href: str) -> None:
    _add(ET.SubElement(entries, "li"), "a", title, href=href, dir="auto")


def _title_page(manuscript: Manuscript) -> str:
    document, body = _document(manuscript, manuscript.title)
    _add(body, "h1", manuscript.title, dir="auto")
    if manuscript.author:
        _add(body, "p", manuscript.author, **{"class": "author", "dir": "auto"})
    return _written(document)


def _chapter(manuscript: Manuscript, chapter: Chapter) -> str:
    document, body = _document(manuscript, chapter.title or manuscript.title)
    if chapter.title:
        _add(body, f"h{min(chapter.depth, MAX_LEVEL)}", chapter.title, dir="auto")
    for block in chapter.blocks:
        _block(body, block, min(chapter.depth + 1, MAX_LEVEL))
    if not len(body):
        ET.SubElement(body, "p")
    return _written(document)


def _block(body: ET.Element, block: Block, level: int) -> None:
    around = body
    if block.kind == "quote":
        around = ET.SubElement(body, "blockquote")
    elif block.kind == "item":
        last = body[-1] if len(body) else None
        items = last if last is not None and last.tag == "ul" else ET.SubElement(body, "ul")
        around = ET.SubElement(items, "li")
    made = ET.SubElement(around, _TAGS.get(block.kind, f"h{level}"))
    if block.pieces:
        made.set("dir", "rtl" if block.rtl else "ltr")
    for piece in block.pieces:
        if piece.style == "break":
            ET.SubElement(made, "br")
        elif piece.style in _INLINE:
            _add(made, _INLINE[piece.style], piece.text)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + piece.text
        else:
            made.text = (made.text or "") + piece.text


def _document(manuscript: Manuscript, title: str) -> tuple[ET.Element, ET.Element]:
    language = manuscript.language
    names = {"xmlns": _XHTML, "xmlns:epub": _OPS, "xml:lang": language, "lang": language}
    document = ET.Element("html", names)
    head = ET.SubElement(document, "head")
    _add(head, "title", title)
    ET.SubElement(head, "link", {"rel": "stylesheet", "type": "text/css", "href": "style.css"})
    return document, ET.SubElement(document, "body")


def _add(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text


def _written(root: ET.Element) -> str:
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode")
