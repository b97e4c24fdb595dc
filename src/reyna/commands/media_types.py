"""What a file really is, told from its bytes, against what it is said to be. Owns which types are
believed, and how a file may be called.

puremagic knows the signatures. It misses some brands of MP4 and most bare MP3 frames, so those two
are looked at here.
"""

from __future__ import annotations

import codecs
import re
import unicodedata

import puremagic
from puremagic.main import magic_header_array

from reyna.errors import FieldError, Invalid

UNKNOWN = "application/octet-stream"
# Bytes at the beginning that tell what a file is.
HEAD = 4096
MAX_NAME = 200
_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,90}\Z")
_TEXT = frozenset(
    {
        "application/json",
        "application/x-ndjson",
        "application/xml",
        "application/javascript",
        "application/ecmascript",
        "application/yaml",
        "application/toml",
        "application/sql",
        "application/x-sh",
    }
)
_TEXT_ENDINGS = ("+json", "+xml", "+yaml")
_ISO_MEDIA = frozenset(
    {
        "video/mp4",
        "audio/mp4",
        "video/quicktime",
        "audio/m4a",
        "audio/x-m4a",
        "audio/x-m4b",
        "video/x-m4v",
        "video/3gpp",
        "video/3gpp2",
        "image/heic",
        "image/heif",
        "image/avif",
    }
)
_MPEG_AUDIO = frozenset({"audio/mpeg", "audio/mp3", "audio/mpga"})
_ZIP = frozenset({"application/zip", "application/x-zip-compressed", "application/java-archive"})
_ZIP_BEGINNINGS = (
    "application/vnd.openxmlformats-officedocument.",
    "application/vnd.oasis.opendocument.",
    "application/epub",
)
# Several names of one thing, or one container of several.
_FAMILIES = (
    _ISO_MEDIA,
    _MPEG_AUDIO,
    frozenset({"audio/aac", "audio/x-aac", "audio/aacp"}),
    frozenset({"audio/ogg", "video/ogg", "application/ogg", "audio/opus", "audio/vorbis"}),
    frozenset({"video/webm", "audio/webm", "video/x-matroska", "audio/x-matroska"}),
    frozenset({"audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"}),
    frozenset({"audio/flac", "audio/x-flac"}),
    frozenset({"audio/aiff", "audio/x-aiff"}),
    frozenset({"audio/midi", "audio/x-midi", "audio/mid"}),
    frozenset({"image/jpeg", "image/jpg", "image/pjpeg"}),
    frozenset({"image/bmp", "image/x-bmp", "image/x-ms-bmp"}),
    frozenset({"image/x-icon", "image/vnd.microsoft.icon"}),
    frozenset({"video/x-msvideo", "video/avi", "video/msvideo"}),
    frozenset({"application/gzip", "application/x-gzip"}),
    frozenset({"application/vnd.rar", "application/x-rar", "application/x-rar-compressed"}),
)
_FAMILY = {name: family for family in _FAMILIES for name in family}
# The types whose files can be told by their bytes.
_SIGNED = ({row.mime_type.lower() for row in magic_header_array} | set(_FAMILY) | _ZIP) - {
    UNKNOWN,
    "",
}
# Below this a match is a byte or two, which anything may begin with.
_SURE = 0.3


class TypeCheck:
    """Looks at a file while it passes. `declared` is what its sender says; None or unknown: we look
    for ourselves.
    """

    def __init__(self, declared: str | None) -> None:
        essence = (declared or UNKNOWN).partition(";")[0].strip().lower()
        self._declared = essence if _TYPE.match(essence) else UNKNOWN
        self._head = b""
        self._found: str | None = None
        self._text = None
        if is_text(self._declared):
            self._text = codecs.getincrementaldecoder("utf-8")("strict")

    def take(self, data: bytes) -> None:
        """Look at the next bytes. Raises Invalid once they contradict what was declared."""
        if self._text is not None:
            self._decode(data, final=False)
        elif self._found is None:
            self._head += data[: HEAD - len(self._head)]
            if len(self._head) == HEAD:
                self._found = self._judge()

    def end(self) -> str:
        """The file's type, when all of it has passed. Raises Invalid."""
        if self._text is not None:
            self._decode(b"", final=True)
            return self._declared
        if self._found is None:
            self._found = self._judge()
        return self._found

    def _decode(self, data: bytes, *, final: bool) -> None:
        assert self._text is not None
        try:
            self._text.decode(data, final)
        except UnicodeDecodeError:
            raise self._contradiction("it is not text in UTF-8") from None
        if b"\0" in data:
            raise self._contradiction("it is not text")

    def _judge(self) -> str:
        candidates = _candidates(self._head)
        known = self._declared in _SIGNED or self._declared.startswith(_ZIP_BEGINNINGS)
        if not known:
            return candidates[0] if candidates else UNKNOWN
        if not _agrees(self._declared, self._head, _candidates(self._head, sure=0.0)):
            seems = f"it looks like {candidates[0]}" if candidates else "it does not look like that"
            raise self._contradiction(seems)
        return self._declared

    def _contradiction(self, but: str) -> Invalid:
        sentence = f"It is said to be {self._declared}, but {but}."
        return Invalid(
            "The file is not what it is said to be.",
            [FieldError("/file", "contentMediaType", sentence)],
        )


def is_text(content_type: str) -> bool:
    """Whether files of a type are text, which must then be UTF-8."""
    return (
        content_type.startswith("text/")
        or content_type in _TEXT
        or content_type.endswith(_TEXT_ENDINGS)
    )


def file_name(sent: str | None) -> str:
    """A file's name as it may be kept: no folders, nothing invisible, not too long."""
    name = unicodedata.normalize("NFC", (sent or "").replace("\\", "/").rpartition("/")[2])
    name = "".join(c for c in name if unicodedata.category(c)[0] != "C").strip(". \u3000")
    if len(name) > MAX_NAME:
        stem, dot, ending = name.rpartition(".")
        keeps = dot + ending if stem and len(ending) <= 16 else ""
        name = name[: MAX_NAME - len(keeps)] + keeps
    return name or "file"


def _candidates(head: bytes, sure: float = _SURE) -> list[str]:
    """What the bytes may be, the likeliest first."""
    found: list[str] = []
    if head[4:8] == b"ftyp":
        found.append("video/mp4")
    if head:
        try:
            matches = puremagic.magic_string(head)
        except puremagic.PureError:
            matches = []
        named = [one.mime_type.lower() for one in matches if one.confidence >= sure]
        found = [name for name in named if name] + found
    if head.startswith(b"PK\3\4") and not (found and found[0] == "application/epub+zip"):
        found.insert(0, "application/zip")
    return found


def _agrees(declared: str, head: bytes, candidates: list[str]) -> bool:
    if declared in _MPEG_AUDIO and head[:1] == b"\xff" and head[1:2] >= b"\xe0":
        return True
    if declared in _ZIP or declared.startswith(_ZIP_BEGINNINGS):
        return head.startswith(b"PK")
    family = _FAMILY.get(declared, frozenset({declared}))
    return any(name in family for name in candidates)
