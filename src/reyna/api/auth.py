"""Signing up, in and out over HTTP. Owns the routes and the shapes of their bodies.

The rules belong to `reyna.identity.accounts`; who `request.user` is, and that `/me` and
`/validate-token` have one, to `reyna.api.security`; refusals as HTTP to `reyna.api.problems`.
Everything here is answered with `Cache-Control: no-store`: it is tokens or personal data.
"""

from __future__ import annotations

import msgspec
from litestar import Router, get, post
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency

from reyna.api.requests import Req, documents, read
from reyna.identity.accounts import Accounts, Profile, TokenGrant


class Registration(msgspec.Struct, frozen=True):
    """A new account: an email address or a phone number, and a password of 8 to 1024 characters."""

    password: str
    email: str | None = None
    phone: str | None = None
    name: str | None = None


class Login(msgspec.Struct, frozen=True):
    """The email address or phone number of an account, and its password."""

    password: str
    email: str | None = None
    phone: str | None = None


class RefreshToken(msgspec.Struct, frozen=True):
    """The refresh token last received."""

    refresh_token: str


class TokenStatus(msgspec.Struct, frozen=True):
    """Whom a valid access token speaks for, and until when (RFC 3339)."""

    user_id: str
    roles: tuple[str, ...]
    expires_at: str


@post(
    "/register",
    summary="Open an account and sign in",
    operation_class=documents(Registration),
)
async def register(request: Req, accounts: NamedDependency[Accounts]) -> TokenGrant:
    """409 when the email address or phone number has an account already."""
    asked = await read(request, Registration)
    return await accounts.register(asked.email, asked.phone, asked.password, asked.name)


@post("/login", status_code=200, summary="Sign in", operation_class=documents(Login))
async def login(request: Req, accounts: NamedDependency[Accounts]) -> TokenGrant:
    """401 alike for an unknown account and for a wrong password."""
    asked = await read(request, Login)
    return await accounts.login(asked.email, asked.phone, asked.password)


@post(
    "/refresh",
    status_code=200,
    summary="Exchange a refresh token for new tokens",
    operation_class=documents(RefreshToken),
)
async def refresh(request: Req, accounts: NamedDependency[Accounts]) -> TokenGrant:
    """The token given is spent. Giving a spent one again ends its session: 401."""
    return await accounts.refresh((await read(request, RefreshToken)).refresh_token)


@post(
    "/logout",
    status_code=204,
    summary="Sign out",
    operation_class=documents(RefreshToken),
)
async def logout(request: Req, accounts: NamedDependency[Accounts]) -> None:
    """Ends the session of the refresh token; 204 also when it had ended already."""
    await accounts.logout((await read(request, RefreshToken)).refresh_token)


@get("/validate-token", sync_to_thread=False, summary="Check an access token")
def validate_token(request: Req) -> TokenStatus:
    """Whom the access token speaks for; 401 when it is not valid."""
    caller = request.user
    return TokenStatus(caller.user_id, caller.roles, caller.expires_at)


@get("/me", summary="The caller's account")
async def me(request: Req, accounts: NamedDependency[Accounts]) -> Profile:
    """The account that the access token speaks for."""
    return await accounts.profile(request.user.user_id)


#: Mount under `/api/v1`; needs the dependency `accounts`.
router = Router(
    path="/",
    route_handlers=[
        Router(path="/auth", route_handlers=[register, login, refresh, logout]),
        validate_token,
        me,
    ],
    cache_control=CacheControlHeader(no_store=True),
    tags=["auth"],
)
