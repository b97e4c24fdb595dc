"""The caller's account: signing up, in and out. What is signed in is kept by `session`."""

from __future__ import annotations

import msgspec

from reyna.client.model import Profile, Tokens, TokenStatus
from reyna.client.transport import Call, RefreshToken, Transport, encode


class _Registration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    email: str | None = None
    phone: str | None = None
    password: str
    name: str | None = None


class _Login(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    email: str | None = None
    phone: str | None = None
    password: str


class _Code(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    email: str | None = None
    phone: str | None = None
    code: str | None = None


class Account:
    """`studio.account`. An account is named by an email address or by a phone number."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def register(
        self,
        *,
        email: str | None = None,
        phone: str | None = None,
        password: str,
        name: str | None = None,
    ) -> Tokens:
        """Open an account and be signed in.

        Raises Invalid that names each wrong field, Conflict when there is such an account.
        """
        body = _Registration(email=email, phone=phone, password=password, name=name)
        # Without a user there is no Idempotency-Key: whether a lost one came true, login tells.
        return await self._sign_in("register", body, repeatable=False)

    async def login(
        self, *, email: str | None = None, phone: str | None = None, password: str
    ) -> Tokens:
        """Be signed in. Raises Unauthorized when the account or the password is wrong."""
        return await self._sign_in("login", _Login(email=email, phone=phone, password=password))

    async def send_code(self, *, email: str | None = None, phone: str | None = None) -> None:
        """Have a one-time code sent, if there is such an account."""
        call = Call(
            method="POST",
            path="/auth/codes",
            body=encode(_Code(email=email, phone=phone)),
            repeatable=False,
            anonymous=True,
        )
        await self._transport.send(call)

    async def verify_code(
        self, *, email: str | None = None, phone: str | None = None, code: str
    ) -> Tokens:
        """Be signed in by a one-time code. Raises Unauthorized when it is wrong."""
        body = _Code(email=email, phone=phone, code=code)
        return await self._sign_in("codes/verify", body, repeatable=False)

    async def logout(self) -> None:
        """End the session, and forget it."""
        session = self._transport.session
        await session.settle()
        refresh_token = session.refresh_token
        session.end()
        if refresh_token is not None:
            body = encode(RefreshToken(refresh_token))
            call = Call(method="POST", path="/auth/logout", body=body, anonymous=True)
            await self._transport.send(call)

    async def get(self) -> Profile:
        """The account itself."""
        return await self._transport.get("/me", Profile)

    async def token(self) -> TokenStatus:
        """Whom the access token speaks for. Raises Unauthorized when it is not valid."""
        return await self._transport.get("/validate-token", TokenStatus)

    async def erase(self) -> None:
        """Erase the account and all that belongs to it, for good."""
        await self._transport.delete("/me", None)
        self._transport.session.end()

    async def _sign_in(self, verb: str, body: msgspec.Struct, *, repeatable: bool = True) -> Tokens:
        call = Call(
            method="POST",
            path=f"/auth/{verb}",
            body=encode(body),
            repeatable=repeatable,
            anonymous=True,
        )
        answer = await self._transport.send(call)
        tokens = answer.read(Tokens)
        self._transport.session.start(tokens, answer.server_time)
        return tokens
