"""What a file is taken for, told from its bytes and what is said of it."""

from __future__ import annotations

import unicodedata
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reyna.commands.media_types import MAX_NAME, UNKNOWN, TypeCheck, file_name
from reyna.errors import Invalid

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF"
PDF = b"%PDF-1.7\n"
HTML = b"<!DOCTYPE html><html><script>"
EXE = b"MZ\x90\0" + bytes(200)
ELF = b"\x7fELF\x02\x01\x01" + bytes(50)
ZIP = b"PK\x03\x04\x14\0\6\0"
OOXML = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def found(declared: str | None, *pieces: bytes) -> str:
    """The type of a file that comes in pieces."""
    check = TypeCheck(declared)
    for piece in pieces:
        check.take(piece)
    return check.end()


@pytest.mark.parametrize(
    ("declared", "head"),
    [
        ("image/png", PNG),
        ("image/jpeg", JPEG),
        ("image/jpg", JPEG),
        ("image/gif", b"GIF89a\1\0"),
        ("image/webp", b"RIFF\0\0\0\0WEBPVP8 "),
        ("image/avif", b"\0\0\0\x20ftypavif"),
        ("image/heic", b"\0\0\0\x20ftypmif1"),
        ("application/pdf", PDF),
        ("application/zip", ZIP),
        (OOXML, ZIP),
        ("application/epub+zip", ZIP),
        ("application/gzip", b"\x1f\x8b\x08\0"),
        ("audio/mpeg", b"ID3\3\0"),
        ("audio/mpeg", b"\xff\xf3\x60\x64"),
        ("audio/wav", b"RIFF\0\0\0\0WAVEfmt "),
        ("audio/flac", b"fLaC\0\0\0"),
        ("audio/ogg", b"OggS\0\2" + bytes(22) + b"OpusHead"),
        ("video/mp4", b"\0\0\0\x20ftypisom"),
        ("video/mp4", b"\0\0\0\x20ftypiso6"),
        ("video/quicktime", b"\0\0\0\x14ftypqt  "),
        ("video/webm", bytes.fromhex("1a45dfa39f4286810142f7810142f2810442f381084282847765626d")),
        ("text/plain; charset=utf-8", "Grüße".encode()),
        ("text/html", HTML),
        ("application/json", b'{"a": 1}'),
        ("image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    ],
)
def test_what_is_said_truly_is_believed(declared: str, head: bytes) -> None:
    """A declared type that the bytes agree with is the type, however they are cut."""
    essence = declared.partition(";")[0]
    assert found(declared, head + b"...") == essence
    assert found(declared.upper(), *(bytes([byte]) for byte in head)) == essence


@pytest.mark.parametrize("declared", ["image/png", "video/mp4", "application/pdf", "audio/mpeg"])
@pytest.mark.parametrize("content", [HTML, EXE, ELF, b"", b"words", bytes(5000)])
def test_what_is_said_falsely_is_refused(declared: str, content: bytes) -> None:
    """Bytes that are not what they are said to be are refused, with the file as the place."""
    with pytest.raises(Invalid) as refused:
        found(declared, content)
    assert [error.path for error in refused.value.errors] == ["/file"]


@pytest.mark.parametrize(
    "content", [PNG, b"\xff\xfe\0w", b"a\0b", b"caf\xe9", b"cut off \xc3", EXE]
)
def test_text_is_utf_8(content: bytes) -> None:
    """What is said to be text has to be UTF-8 without zero bytes, to its very end."""
    with pytest.raises(Invalid):
        found("text/plain", b"fine so far", content)


@pytest.mark.parametrize(
    "declared", [None, "", UNKNOWN, "application/x-nobody-knows", "?", "a/b/c"]
)
@pytest.mark.parametrize(
    ("content", "type_"),
    [
        (PNG, "image/png"),
        (PDF, "application/pdf"),
        (ZIP, "application/zip"),
        (HTML, "text/html"),
        (b"words", UNKNOWN),
        (b"", UNKNOWN),
        (bytes(10_000), UNKNOWN),
    ],
)
def test_what_is_not_said_is_looked_for(declared: str | None, content: bytes, type_: str) -> None:
    """Without a type that can be checked the bytes decide, and if they say nothing it is bytes."""
    assert found(declared, content) == type_


@given(st.none() | st.text(max_size=40), st.binary(max_size=200))
def test_any_type_and_bytes_are_decided(declared: str | None, content: bytes) -> None:
    """Whatever is said and sent, it is given a type or refused."""
    with suppress(Invalid):
        assert found(declared, content)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("notes.txt", "notes.txt"),
        ("Grüße an Jürgen.pdf", "Grüße an Jürgen.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\a.png", "a.png"),
        ("a\r\nSet-Cookie: x=1.png", "aSet-Cookie: x=1.png"),
        ("gnp\u202e.exe", "gnp.exe"),
        ("..", "file"),
        ("folder/", "file"),
        ("", "file"),
        (None, "file"),
        ("x" * 300 + ".png", "x" * (MAX_NAME - 4) + ".png"),
    ],
)
def test_a_name_is_made_harmless(sent: str | None, kept: str) -> None:
    """Folders, controls and directions go; letters of any script and the ending stay."""
    assert file_name(sent) == kept


@given(st.text())
def test_any_name_is_made_harmless(sent: str) -> None:
    """A kept name is never empty, long, a path, or invisible, and stays as it is."""
    kept = file_name(sent)
    assert 0 < len(kept) <= MAX_NAME
    assert not {"/", "\\"} & set(kept)
    assert not [c for c in kept if unicodedata.category(c)[0] == "C"]
    assert kept not in {".", ".."}
