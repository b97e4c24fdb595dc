"""Access tokens: signed, short-lived statements of who is calling. Owns issuing and verifying.

Refresh tokens and sessions belong to `accounts`; finding a token in a request to `reyna.api`.
A revoked session is refused at once by the process that revoked it. Other processes do not hear of
it and accept its access tokens until they expire, at most `ACCESS_LIFETIME` later.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated

import jwt
import msgspec

from reyna import ids
from reyna.errors import NotAuthenticated

ALGORITHM = "HS256"
ISSUER = "reyna"
# Seconds.
ACCESS_LIFETIME = 15 * 60
MAX_TOKEN = 4096
CACHED = 4096

_LAST_SECOND = 253_402_300_799  # of the year 9999, the last that RFC 3339 can write


class Principal(msgspec.Struct, frozen=True):
    """The verified caller. `expires_at` is RFC 3339, `expires` the same in seconds of the epoch."""

    user_id: str
    session_id: str
    roles: tuple[str, ...]
    expires_at: str
    expires: int


class AccessToken(msgspec.Struct, frozen=True):
    """A signed token and when it expires (RFC 3339)."""

    token: str
    expires_at: str


class _Claims(msgspec.Struct, frozen=True):
    sub: str
    sid: str
    roles: tuple[str, ...]
    iat: int
    exp: Annotated[int, msgspec.Meta(ge=0, le=_LAST_SECOND)]
    iss: str = ISSUER


class Tokens:
    """Issues and verifies access tokens with one shared secret. `clock` gives epoch seconds."""

    def __init__(self, secret: str, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._clock = clock
        # A signature is checked once a token: checking costs more than a small request.
        self._read = lru_cache(CACHED)(self._verify_signature)
        self._revoked: dict[str, float] = {}

    def issue(self, user_id: str, session_id: str, roles: tuple[str, ...]) -> AccessToken:
        """A new token for `user_id`, valid for `ACCESS_LIFETIME` seconds."""
        issued = int(self._clock())
        expires = issued + ACCESS_LIFETIME
        claims = _Claims(user_id, session_id, roles, issued, expires)
        token = jwt.encode(msgspec.to_builtins(claims), self._secret, ALGORITHM)
        return AccessToken(token, rfc3339(expires))

    def verify(self, token: str) -> Principal:
        """Who `token` speaks for. Raises NotAuthenticated for all but our own tokens in force."""
        if len(token) > MAX_TOKEN or not token.isascii():
            raise NotAuthenticated("The access token is not valid.")
        principal = self._read(token)
        if principal.expires <= self._clock():
            raise NotAuthenticated("The access token has expired.")
        if principal.session_id in self._revoked:
            raise NotAuthenticated("The session has ended.")
        return principal

    def revoke(self, session_id: str) -> None:
        """Refuse the access tokens of `session_id` from now on, in this process."""
        now = self._clock()
        # Every token of a session revoked longer ago than a token's life has expired by itself.
        self._revoked = {kept: until for kept, until in self._revoked.items() if until > now}
        self._revoked[session_id] = now + ACCESS_LIFETIME

    def _verify_signature(self, token: str) -> Principal:
        try:
            payload = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                # `verify` checks the expiry, for remembered tokens too. Two servers' clocks differ,
                # so a token from the near future is no forgery.
                options={
                    "verify_exp": False,
                    "verify_iat": False,
                    "require": ["exp", "iss", "sub"],
                },
            )
            claims = msgspec.convert(payload, _Claims)
        except (jwt.InvalidTokenError, msgspec.ValidationError) as error:
            raise NotAuthenticated("The access token is not valid.") from error
        return Principal(claims.sub, claims.sid, claims.roles, rfc3339(claims.exp), claims.exp)


def rfc3339(seconds: float) -> str:
    """`seconds` of the epoch as RFC 3339 in UTC."""
    return ids.rfc3339(datetime.fromtimestamp(seconds, UTC))
