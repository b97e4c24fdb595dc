"""Reading requests and shaping answers: bodies, ids, headers. Owns what the conventions say of
both.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema

from reyna.commands.handler import Caller, IfMatch
from reyna.errors import FieldError, Malformed
from reyna.identity.tokens import Principal

T = TypeVar("T")
Req = Request[Principal, str, State]

MAX_KEY = 255
_AT = re.compile(r" - at `(?:key in )?\$(?P<path>[^`]*)`\Z")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_ETAG = re.compile(r'"(\d{1,19})"\Z')


def decode(body: bytes, into: type[T]) -> T:
    """The body as `into`. Raises Malformed that names the place."""
    try:
        return msgspec.json.decode(body, type=into)
    except msgspec.ValidationError as error:
        raise wrong_type(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"The body is not JSON: {error}.") from None
    except RecursionError:
        raise Malformed("The JSON is nested too deeply.") from None


def wrong_type(error: msgspec.ValidationError) -> Malformed:
    """What to tell about a value of another type than asked for, with its place."""
    message = str(error)
    found = _AT.search(message)
    path = _pointer(found["path"]) if found else ""
    sentence = message[: found.start()] if found else message
    return Malformed(f"{path or 'The body'}: {sentence}.", [FieldError(path, "type", sentence)])


async def read(request: Req, into: type[T]) -> T:
    """The request's JSON body as `into`. Raises Malformed."""
    return decode(await request.body(), into)


async def caller_of(request: Req) -> Caller:
    """Who asks; for a POST with its Idempotency-Key and the digest of the request."""
    key = key_of(request)
    if key is None:
        return Caller(user_id=request.user.user_id)
    digest = hashlib.sha256(request.url.path.encode() + b"\0" + await request.body())
    return Caller(user_id=request.user.user_id, key=key, fingerprint=digest.hexdigest())


def key_of(request: Req) -> str | None:
    """A POST's Idempotency-Key. Raises Malformed."""
    key = request.headers.get("idempotency-key")
    if key is None or request.method != "POST":
        return None
    if not 0 < len(key) <= MAX_KEY or not key.isascii() or not key.isprintable():
        raise Malformed(f"An Idempotency-Key has 1 to {MAX_KEY} printable ASCII characters.")
    return key


def if_match(request: Req) -> IfMatch:
    """The seqs in If-Match; None without the header or for `*`. A foreign ETag matches nothing."""
    header = request.headers.get("if-match")
    if header is None or header.strip() == "*":
        return None
    tags = (_ETAG.match(part.strip()) for part in header.split(","))
    return frozenset(int(tag[1]) for tag in tags if tag)


def documents(body: type[object]) -> type[Operation]:
    """An OpenAPI operation whose request body is `body`: handlers decode it themselves."""
    (reference,), components = msgspec.json.schema_components([body], schema_hook=any_json)
    schema = components[body.__name__] if "$ref" in reference else reference

    @dataclass
    class WithBody(Operation):
        def __post_init__(self) -> None:
            self.request_body = RequestBody(
                content={"application/json": OpenAPIMediaType(schema=Literal(schema))},
                required=True,
            )

    return WithBody


def any_json(_: type) -> dict[str, object]:
    """`object` in a body means any JSON."""
    return {"description": "Any JSON."}


class Literal(Schema):
    """A schema that is already JSON."""

    def __init__(self, schema: dict[str, object]) -> None:
        super().__init__()
        self._schema = schema

    def to_schema(self) -> dict[str, object]:
        """The JSON itself."""
        return self._schema


def _pointer(path: str) -> str:
    return "".join(f"/{step[0] or step[1]}" for step in _STEP.findall(path))
