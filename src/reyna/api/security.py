"""The edge: who is calling, and the headers every answer carries. Owns nothing else.

It is one middleware around everything, kept cheap because every request passes it. What a principal
may do is decided where it is done: queries and commands are always bound to `user_id`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from reyna.api.metrics import Metrics
from reyna.errors import NotAuthenticated
from reyna.identity.tokens import Principal

Verify = Callable[[str], Principal]

ADMIN = "admin"
"""The role of those who look after the studio; a principal's `roles` name it."""
API = "/api/"
PUBLIC = "/api/v1/auth/"
_CONTENT_SECURITY = (
    b"default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data: blob:; "
    b"object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_ALWAYS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", _CONTENT_SECURITY),
]


class Edge(ASGIMiddleware):
    """Authenticates HTTP requests to the API."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, verify: Verify) -> None:
        self._verify = verify

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Pass a request on as its caller."""
        assert scope["type"] == ScopeType.HTTP, "this middleware is for HTTP alone"
        path = scope["path"]
        if path.startswith(API) and not path.startswith(PUBLIC) and scope["method"] != "OPTIONS":
            scope["user"] = self._verify(_bearer(scope))
        await next_app(scope, receive, send)


def stamp(metrics: Metrics) -> Callable[[Message, Scope], Awaitable[None]]:
    """A hook that counts every HTTP answer, also a refusal, and adds the headers it lacks."""

    async def before_send(message: Message, scope: Scope) -> None:
        if message["type"] != "http.response.start" or scope["type"] != ScopeType.HTTP:
            return
        metrics.answered(scope["method"], message["status"])
        given = {name for name, _ in message["headers"]}
        headers = [*message["headers"], *(one for one in _ALWAYS if one[0] not in given)]
        seq = scope["state"].get("reyna_seq")
        if seq is not None:
            headers.append((b"reyna-seq", str(seq).encode()))
        message["headers"] = headers

    return before_send


def _bearer(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer" and token:
                return token.strip()
            break
    raise NotAuthenticated("This needs an access token: `Authorization: Bearer …`.")
