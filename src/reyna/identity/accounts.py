"""Accounts and their sessions. Owns both tables, and signing up, in and out.

What a valid email address or password is belongs to `credentials`, access tokens to `tokens`.

A session is one sign-in. Its refresh token is `family.secret`, both random: the family stays for
the session's life, the secret is new at each refresh. The family hashes to the session's id, so
only who has held a token of the session can name it: a known family with any but the current secret
is a spent token come back, and ends the session. Only the current token's SHA-256 is stored.
"""

from __future__ import annotations

import secrets
import time
from hashlib import sha256

import msgspec
from argon2 import PasswordHasher
from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    ForeignKey,
    MetaData,
    String,
    Table,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from reyna.database import reading, writing
from reyna.errors import Conflict, FieldError, Invalid, NotAuthenticated, NotFound
from reyna.identity.credentials import (
    MAX_EMAIL,
    MAX_NAME,
    MAX_PASSWORD,
    Identifier,
    Passwords,
    identify,
    name_fault,
    password_fault,
)
from reyna.identity.tokens import Tokens, rfc3339
from reyna.ids import new_id, now

# Seconds; a session lives on for as long as it is refreshed in time.
REFRESH_LIFETIME = 30 * 24 * 3600
ROLES = ("user",)

_CREATE_TABLES_LOCK = 0x7265796E61  # any number of our own; this one spells the project's name

metadata = MetaData()

_accounts = Table(
    "accounts",
    metadata,
    Column("user_id", String(32), primary_key=True),
    Column("email", String(MAX_EMAIL), unique=True),
    Column("phone", String(16), unique=True),
    Column("name", String(MAX_NAME)),
    Column("password_hash", String(255), nullable=False),
    Column("roles", JSON, nullable=False),
    Column("created_at", String(27), nullable=False),
    CheckConstraint("email IS NOT NULL OR phone IS NOT NULL"),
)

_sessions = Table(
    "sessions",
    metadata,
    Column("session_id", String(32), primary_key=True),
    Column(
        "user_id", ForeignKey("accounts.user_id", ondelete="CASCADE"), nullable=False, index=True
    ),
    Column("token_hash", String(64), nullable=False),
    Column("created_at", String(27), nullable=False),
    Column("expires_at", String(27), nullable=False),
)


class TokenGrant(msgspec.Struct, frozen=True):
    """What a sign-in gives: two tokens. `expires_at` (RFC 3339) is the access token's.

    The refresh token can be used once, within 30 days, for the next grant.
    """

    user_id: str
    access_token: str
    refresh_token: str
    expires_at: str


class Profile(msgspec.Struct, frozen=True):
    """An account as its owner sees it. Times are RFC 3339."""

    user_id: str
    email: str | None
    phone: str | None
    name: str | None
    roles: tuple[str, ...]
    created_at: str


class Accounts:
    """The accounts in one database. `hasher` sets the cost of passwords."""

    def __init__(
        self, engine: AsyncEngine, tokens: Tokens, hasher: PasswordHasher | None = None
    ) -> None:
        self._engine = engine
        self._tokens = tokens
        self._passwords = Passwords(hasher)

    async def prepare(self) -> None:
        """Create the tables that are missing."""
        async with writing(self._engine) as connection:
            if self._engine.dialect.name == "postgresql":
                # Two servers may start at once, and PostgreSQL lets both find a table missing.
                await connection.exec_driver_sql(
                    f"SELECT pg_advisory_xact_lock({_CREATE_TABLES_LOCK})"
                )
            await connection.run_sync(metadata.create_all)

    async def register(
        self, email: str | None, phone: str | None, password: str, name: str | None = None
    ) -> TokenGrant:
        """Open an account and its first session.

        Raises Invalid naming every wrong field, Conflict when the email address or phone is taken.
        """
        name = (name or "").strip() or None
        who = identify(email, phone)
        faults = [who, password_fault(password), name_fault(name or "")]
        errors = [fault for fault in faults if isinstance(fault, FieldError)]
        if isinstance(who, FieldError) or errors:
            raise Invalid("The account cannot be made like this.", errors)
        user_id, password_hash = new_id(), await self._passwords.hash(password)
        account = insert(_accounts).values(
            user_id=user_id,
            name=name,
            password_hash=password_hash,
            roles=ROLES,
            created_at=now(),
        )
        try:
            async with writing(self._engine) as connection:
                await connection.execute(account.values({who.kind: who.value}))
                return await self._open_session(connection, user_id, ROLES)
        except IntegrityError as error:
            raise _taken(who) from error

    async def login(self, email: str | None, phone: str | None, password: str) -> TokenGrant:
        """Open a session. An unknown account and a wrong password are one and the same refusal.

        Raises Invalid when no account is named, NotAuthenticated when the two do not fit together.
        """
        who = identify(email, phone)
        if isinstance(who, FieldError):
            raise Invalid("It is not clear who is signing in.", [who])
        column = _accounts.c[who.kind]
        query = select(_accounts.c.user_id, _accounts.c.password_hash, _accounts.c.roles)
        async with reading(self._engine) as connection:
            account = (await connection.execute(query.where(column == who.value))).one_or_none()
        stored = account.password_hash if account else None
        fits = len(password) <= MAX_PASSWORD and await self._passwords.matches(stored, password)
        if account is None or not fits:
            raise NotAuthenticated("The account or the password is wrong.")
        outdated = self._passwords.outdated(account.password_hash)
        renewed = await self._passwords.hash(password) if outdated else account.password_hash
        async with writing(self._engine) as connection:
            if outdated:
                await connection.execute(
                    update(_accounts)
                    .where(_accounts.c.user_id == account.user_id)
                    .where(_accounts.c.password_hash == account.password_hash)
                    .values(password_hash=renewed)
                )
            return await self._open_session(connection, account.user_id, tuple(account.roles))

    async def refresh(self, refresh_token: str) -> TokenGrant:
        """Spend `refresh_token` for the session's next tokens.

        A spent token that comes back has been copied, nobody knows by whom: it ends the session.
        Raises NotAuthenticated then, and for a token that is unknown or expired.
        """
        family = _family(refresh_token)
        session_id, fresh = _session_id(family), _new_refresh_token(family)
        this_session = _sessions.c.session_id == session_id
        async with writing(self._engine) as connection:
            spend = (
                update(_sessions)
                .where(this_session)
                .where(_sessions.c.token_hash == _digest(refresh_token))
                .where(_sessions.c.expires_at > now())
                .values(token_hash=_digest(fresh), expires_at=_refresh_expiry())
                .returning(_sessions.c.user_id)
            )
            user_id = (await connection.execute(spend)).scalar_one_or_none()
            if user_id is not None:
                whose = select(_accounts.c.roles).where(_accounts.c.user_id == user_id)
                roles = tuple((await connection.execute(whose)).scalar_one())
                return self._grant(user_id, session_id, roles, fresh)
            await self._end_session(connection, session_id)
        raise NotAuthenticated("The refresh token is not valid; sign in again.")

    async def logout(self, refresh_token: str) -> None:
        """End the session of `refresh_token`; nothing happens if there is none."""
        async with writing(self._engine) as connection:
            await self._end_session(connection, _session_id(_family(refresh_token)))

    async def profile(self, user_id: str) -> Profile:
        """The account of `user_id`. Raises NotFound when there is none."""
        columns = [_accounts.c[field] for field in Profile.__struct_fields__]
        query = select(*columns).where(_accounts.c.user_id == user_id)
        async with reading(self._engine) as connection:
            account = (await connection.execute(query)).one_or_none()
        if account is None:
            raise NotFound("There is no such account.")
        return msgspec.convert(account._mapping, Profile)

    async def exists(self, user_id: str) -> bool:
        """Whether `user_id` has an account."""
        query = select(_accounts.c.user_id).where(_accounts.c.user_id == user_id)
        async with reading(self._engine) as connection:
            return (await connection.execute(query)).one_or_none() is not None

    async def _open_session(
        self, connection: AsyncConnection, user_id: str, roles: tuple[str, ...]
    ) -> TokenGrant:
        family = secrets.token_urlsafe(16)
        session_id, token = _session_id(family), _new_refresh_token(family)
        expired = (_sessions.c.user_id == user_id) & (_sessions.c.expires_at <= now())
        await connection.execute(delete(_sessions).where(expired))
        await connection.execute(
            insert(_sessions).values(
                session_id=session_id,
                user_id=user_id,
                token_hash=_digest(token),
                created_at=now(),
                expires_at=_refresh_expiry(),
            )
        )
        return self._grant(user_id, session_id, roles, token)

    async def _end_session(self, connection: AsyncConnection, session_id: str) -> None:
        ended = await connection.execute(
            delete(_sessions).where(_sessions.c.session_id == session_id)
        )
        # Only for a session there was, or any caller could fill the list of the revoked.
        if ended.rowcount:
            self._tokens.revoke(session_id)

    def _grant(
        self, user_id: str, session_id: str, roles: tuple[str, ...], refresh_token: str
    ) -> TokenGrant:
        access = self._tokens.issue(user_id, session_id, roles)
        return TokenGrant(user_id, access.token, refresh_token, access.expires_at)


def _taken(who: Identifier) -> Conflict:
    what = "email address" if who.kind == "email" else "phone number"
    message = f"There is an account with this {what} already."
    return Conflict(message, [FieldError(f"/{who.kind}", "unique", message)])


def _new_refresh_token(family: str) -> str:
    return f"{family}.{secrets.token_urlsafe(32)}"


def _family(refresh_token: str) -> str:
    return refresh_token.partition(".")[0]


def _session_id(family: str) -> str:
    return _digest(family)[:32]


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _refresh_expiry() -> str:
    return rfc3339(time.time() + REFRESH_LIFETIME)
