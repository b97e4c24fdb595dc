"""The page's static files, served from memory. Owns their caching; the page itself is in `web/`."""

from __future__ import annotations

import hashlib
import mimetypes
from importlib.resources import files
from importlib.resources.abc import Traversable

import msgspec
from litestar import Request, get
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Response

from reyna.errors import NotFound

_NO_PAGE = b"""<!doctype html><meta charset="utf-8"><title>ReYNa Studio</title>
<p>The API is running, but the page was not built into this installation.
<p>Build it with <code>npm ci &amp;&amp; npm run build</code> in <code>web/</code>."""


class _File(msgspec.Struct, frozen=True):
    content: bytes
    media_type: str
    etag: str
    cache: str


def routes() -> list[HTTPRouteHandler]:
    """GET / and the files beside it."""
    found = _load()

    def serve(request: Request[object, object, State], path: str) -> Response[bytes]:
        file = found.get(path)
        if file is None:
            raise NotFound("There is no such file.")
        headers = {"ETag": file.etag, "Cache-Control": file.cache}
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(b"", status_code=304, headers=headers)
        return Response(file.content, headers=headers, media_type=file.media_type)

    @get("/", include_in_schema=False, sync_to_thread=False)
    def index(request: Request[object, object, State]) -> Response[bytes]:
        """The page."""
        return serve(request, "index.html")

    @get("/{path:path}", include_in_schema=False, sync_to_thread=False)
    def file(request: Request[object, object, State], path: FromPath[str]) -> Response[bytes]:
        """A file of the page."""
        return serve(request, path.lstrip("/"))

    return [index, file]


def _load() -> dict[str, _File]:
    root = files("reyna") / "static"
    found = dict(_walk(root, "")) if root.is_dir() else {}
    if "index.html" not in found:
        found["index.html"] = _file("index.html", _NO_PAGE)
    return found


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, _File]]:
    found: list[tuple[str, _File]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found.extend(_walk(entry, f"{prefix}{entry.name}/"))
        else:
            path = f"{prefix}{entry.name}"
            found.append((path, _file(path, entry.read_bytes())))
    return found


def _file(path: str, content: bytes) -> _File:
    media_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
    # Names under assets/ carry a digest of their content: they never change.
    cache = "public, max-age=31536000, immutable" if path.startswith("assets/") else "no-cache"
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return _File(content, media_type, etag, cache)
