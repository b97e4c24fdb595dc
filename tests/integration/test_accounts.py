"""Accounts and sessions on a real SQLite file, and their routes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import httpx
import pytest
from argon2 import PasswordHasher
from litestar import Litestar
from litestar.di import Provide
from litestar.types import Receive, Scope, Send
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from reyna.api import auth
from reyna.api.problems import answer
from reyna.database import open_engine, reading, sqlite_url, writing
from reyna.errors import Conflict, FieldError, Invalid, NotAuthenticated, NotFound
from reyna.identity.accounts import Accounts, TokenGrant
from reyna.identity.tokens import Tokens

EMAIL = "ada@example.org"
PASSWORD = "correct horse battery staple"
# As weak as the algorithm allows: these tests are not about its strength.
WEAK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
STRONGER = PasswordHasher(time_cost=2, memory_cost=8, parallelism=1)


class CountingHasher(PasswordHasher):
    """A hasher that knows how often it has worked."""

    work = 0

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        """Hash, and count it."""
        self.work += 1
        return super().hash(password, salt=salt)

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002 - its name
        """Verify, and count it."""
        self.work += 1
        return super().verify(hash, password)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """An engine on a new SQLite file."""
    engine = open_engine(sqlite_url(tmp_path / "accounts.db"))
    yield engine
    await engine.dispose()


@pytest.fixture
def tokens() -> Tokens:
    """Access tokens with a secret of this test's."""
    return Tokens("a secret of this test, long enough to sign with")


@pytest.fixture
async def accounts(engine: AsyncEngine, tokens: Tokens) -> Accounts:
    """Accounts with their tables made, and none in them."""
    accounts = Accounts(engine, tokens, WEAK)
    await accounts.prepare()
    return accounts


async def rows(engine: AsyncEngine, query: str) -> list[tuple[object, ...]]:
    """What is really stored."""
    async with reading(engine) as connection:
        return [tuple(row) for row in await connection.execute(text(query))]


async def refused(accounts: Accounts, refresh_token: str) -> bool:
    """Whether a refresh token no longer works."""
    try:
        await accounts.refresh(refresh_token)
    except NotAuthenticated:
        return True
    return False


async def test_who_registers_can_sign_in(accounts: Accounts, tokens: Tokens) -> None:
    """An email address or a phone number, in any spelling, with the password signs in."""
    by_email = await accounts.register(EMAIL, None, PASSWORD, " Ada ")
    by_phone = await accounts.register(None, "+49 30 1234567", PASSWORD)
    assert by_email.user_id != by_phone.user_id

    again = await accounts.login(" ADA@example.org", None, PASSWORD)
    assert again.user_id == by_email.user_id
    assert (await accounts.login(None, "+49 (30) 123-4567", PASSWORD)).user_id == by_phone.user_id

    principal = tokens.verify(again.access_token)
    assert (principal.user_id, principal.roles) == (by_email.user_id, ("user",))
    assert principal.expires_at == again.expires_at


async def test_a_profile_says_what_was_registered(accounts: Accounts) -> None:
    """A profile holds the normalised identifier, the name and the roles; a stranger has none."""
    grant = await accounts.register("Ada@Example.org", None, PASSWORD, " Ada ")
    profile = await accounts.profile(grant.user_id)
    assert (profile.user_id, profile.email, profile.phone) == (grant.user_id, EMAIL, None)
    assert (profile.name, profile.roles) == ("Ada", ("user",))
    assert await accounts.exists(grant.user_id)
    assert not await accounts.exists("nobody")
    with pytest.raises(NotFound):
        await accounts.profile("nobody")


async def test_every_wrong_field_is_named(accounts: Accounts, engine: AsyncEngine) -> None:
    """A registration is refused with all its faults at once, and stores nothing."""
    with pytest.raises(Invalid) as caught:
        await accounts.register("ada", None, "short", "a\x00b")
    assert [error.path for error in caught.value.errors] == ["/email", "/password", "/name"]
    assert await rows(engine, "SELECT * FROM accounts") == []


async def test_an_identifier_has_one_account(accounts: Accounts, engine: AsyncEngine) -> None:
    """Of many registrations of one email address at once, one wins and the others conflict."""
    spellings = [EMAIL, "ADA@example.org", " Ada@Example.Org "] * 3
    outcomes = await asyncio.gather(
        *(accounts.register(email, None, PASSWORD) for email in spellings), return_exceptions=True
    )
    assert sum(isinstance(outcome, TokenGrant) for outcome in outcomes) == 1
    conflicts = [outcome for outcome in outcomes if isinstance(outcome, Conflict)]
    assert len(conflicts) == len(spellings) - 1
    assert {error.path for conflict in conflicts for error in conflict.errors} == {"/email"}
    assert await rows(engine, "SELECT count(*) FROM accounts") == [(1,)]
    assert await rows(engine, "SELECT count(*) FROM sessions") == [(1,)]


async def test_a_stranger_cannot_tell_who_has_an_account(
    engine: AsyncEngine, tokens: Tokens
) -> None:
    """A wrong password and an unknown account get the same answer for the same work."""
    hasher = CountingHasher(time_cost=1, memory_cost=8, parallelism=1)
    accounts = Accounts(engine, tokens, hasher)
    await accounts.prepare()
    await accounts.register(EMAIL, None, PASSWORD)
    answers: list[tuple[str, tuple[FieldError, ...], int]] = []
    for email in (EMAIL, "nobody@example.org"):
        for password in (PASSWORD + "!", "", "x" * 5000):
            before = hasher.work
            with pytest.raises(NotAuthenticated) as caught:
                await accounts.login(email, None, password)
            answers.append((caught.value.detail, caught.value.errors, hasher.work - before))
    assert answers[:3] == answers[3:]
    # No more is hashed than a password can be long.
    assert [work for _, _, work in answers[:3]] == [1, 1, 0]
    assert len({(detail, errors) for detail, errors, _ in answers}) == 1


async def test_a_login_names_somebody(accounts: Accounts) -> None:
    """A login without an identifier is invalid, not merely refused."""
    with pytest.raises(Invalid) as caught:
        await accounts.login(None, None, PASSWORD)
    assert caught.value.errors[0].path == "/email"


async def test_a_refresh_token_works_once(accounts: Accounts, tokens: Tokens) -> None:
    """Each refresh gives the same session new tokens, and the newest refresh token works on."""
    first = await accounts.register(EMAIL, None, PASSWORD)
    second = await accounts.refresh(first.refresh_token)
    third = await accounts.refresh(second.refresh_token)
    assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3
    sessions = {tokens.verify(grant.access_token).session_id for grant in (first, second, third)}
    assert len(sessions) == 1
    assert tokens.verify(third.access_token).roles == ("user",)


async def test_a_spent_token_ends_its_session(accounts: Accounts, tokens: Tokens) -> None:
    """Whoever presents a spent token ends the session for thief and owner, and no other session."""
    stolen = await accounts.register(EMAIL, None, PASSWORD)
    elsewhere = await accounts.login(EMAIL, None, PASSWORD)
    spent = await accounts.refresh(stolen.refresh_token)
    current = await accounts.refresh(spent.refresh_token)
    assert await refused(accounts, stolen.refresh_token)
    assert await refused(accounts, current.refresh_token)
    with pytest.raises(NotAuthenticated):
        tokens.verify(current.access_token)
    tokens.verify(elsewhere.access_token)
    assert not await refused(accounts, elsewhere.refresh_token)


async def test_of_two_refreshes_at_once_one_wins(accounts: Accounts) -> None:
    """However many present one refresh token at the same time, one gets new tokens."""
    grant = await accounts.register(EMAIL, None, PASSWORD)
    lost = await asyncio.gather(*(refused(accounts, grant.refresh_token) for _ in range(8)))
    assert sorted(lost) == [False] + [True] * 7


@pytest.mark.parametrize("token", ["", ".", "a", "a.b", "\x00", "é.é", "x" * 100_000])
async def test_an_unknown_refresh_token_is_refused(accounts: Accounts, token: str) -> None:
    """A token nobody was given is refused by refresh, and nothing to logout."""
    await accounts.register(EMAIL, None, PASSWORD)
    assert await refused(accounts, token)
    await accounts.logout(token)


async def test_knowing_a_session_id_ends_nothing(accounts: Accounts, tokens: Tokens) -> None:
    """The session id in an access token is not enough to end the session."""
    grant = await accounts.register(EMAIL, None, PASSWORD)
    session_id = tokens.verify(grant.access_token).session_id
    await accounts.logout(f"{session_id}.guess")
    assert await refused(accounts, f"{session_id}.guess")
    assert not await refused(accounts, grant.refresh_token)


async def test_an_expired_refresh_token_is_refused(accounts: Accounts, engine: AsyncEngine) -> None:
    """A session that was not refreshed in time is over."""
    grant = await accounts.register(EMAIL, None, PASSWORD)
    await expire_sessions(engine)
    assert await refused(accounts, grant.refresh_token)


async def test_expired_sessions_do_not_pile_up(accounts: Accounts, engine: AsyncEngine) -> None:
    """A sign-in clears away its account's expired sessions."""
    await accounts.register(EMAIL, None, PASSWORD)
    await expire_sessions(engine)
    await accounts.login(EMAIL, None, PASSWORD)
    assert await rows(engine, "SELECT count(*) FROM sessions") == [(1,)]


async def expire_sessions(engine: AsyncEngine) -> None:
    """Let every session have ended long ago."""
    async with writing(engine) as connection:
        await connection.execute(text("UPDATE sessions SET expires_at = '2001-01-01'"))


async def test_signing_out_ends_the_session(accounts: Accounts, tokens: Tokens) -> None:
    """After logout neither token works, another session does, and a second logout is no error."""
    grant = await accounts.register(EMAIL, None, PASSWORD)
    elsewhere = await accounts.login(EMAIL, None, PASSWORD)
    tokens.verify(grant.access_token)
    await accounts.logout(grant.refresh_token)
    await accounts.logout(grant.refresh_token)
    assert await refused(accounts, grant.refresh_token)
    with pytest.raises(NotAuthenticated):
        tokens.verify(grant.access_token)
    assert not await refused(accounts, elsewhere.refresh_token)


async def test_sessions_go_with_their_account(accounts: Accounts, engine: AsyncEngine) -> None:
    """An account that is deleted leaves no session behind."""
    grant = await accounts.register(EMAIL, None, PASSWORD)
    async with writing(engine) as connection:
        await connection.execute(text("DELETE FROM accounts"))
    assert await rows(engine, "SELECT * FROM sessions") == []
    assert await refused(accounts, grant.refresh_token)


async def test_a_login_renews_an_outdated_hash(
    accounts: Accounts, engine: AsyncEngine, tokens: Tokens
) -> None:
    """A sign-in under new hashing parameters stores the password's hash anew, once."""
    query = "SELECT password_hash FROM accounts"
    await accounts.register(EMAIL, None, PASSWORD)
    (before,) = await rows(engine, query)
    stronger = Accounts(engine, tokens, STRONGER)
    await stronger.login(EMAIL, None, PASSWORD)
    (renewed,) = await rows(engine, query)
    assert renewed != before
    assert ",t=2," in str(renewed)
    await stronger.login(EMAIL, None, PASSWORD)
    assert await rows(engine, query) == [renewed]


def bytes_in(folder: Path) -> bytes:
    """All that the files of a folder hold."""
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def test_secrets_are_nowhere_in_plain(
    tmp_path: Path, tokens: Tokens, caplog: pytest.LogCaptureFixture
) -> None:
    """No password and no token is in a log line or in a byte of the database."""
    caplog.set_level(logging.DEBUG)
    engine = open_engine(sqlite_url(tmp_path / "accounts.db"))
    accounts = Accounts(engine, tokens, WEAK)
    await accounts.prepare()
    first = await accounts.register(EMAIL, None, PASSWORD)
    second = await accounts.refresh(first.refresh_token)
    with pytest.raises(Conflict) as taken:
        await accounts.register(EMAIL, None, PASSWORD)
    with pytest.raises(NotAuthenticated) as wrong:
        await accounts.login("nobody@example.org", None, PASSWORD)
    logging.getLogger().error("as a server would log it", exc_info=taken.value)
    logging.getLogger().error("as a server would log it", exc_info=wrong.value)
    stored = await asyncio.to_thread(bytes_in, tmp_path)
    await engine.dispose()
    assert EMAIL.encode() in stored
    assert "as a server would log it" in caplog.text
    for secret in (PASSWORD, first.refresh_token, second.refresh_token, second.access_token):
        assert secret.encode() not in stored
        assert secret not in caplog.text


async def test_servers_may_prepare_at_once_and_again(engine: AsyncEngine, tokens: Tokens) -> None:
    """Preparing makes the tables once, whoever else does so too, and keeps what is in them."""
    servers = [Accounts(engine, tokens, WEAK) for _ in range(4)]
    await asyncio.gather(*(server.prepare() for server in servers))
    grant = await servers[0].register(EMAIL, None, PASSWORD)
    await servers[1].prepare()
    assert await servers[2].exists(grant.user_id)


def client_of(accounts: Accounts, tokens: Tokens) -> httpx.AsyncClient:
    """A client of the auth routes; a bearer token names the caller."""
    app = Litestar(
        [auth.router],
        dependencies={"accounts": Provide(lambda: accounts, sync_to_thread=False)},
        exception_handlers={Exception: answer},
        openapi_config=None,
    )

    async def as_caller(scope: Scope, receive: Receive, send: Send) -> None:
        bearer = dict(scope["headers"]).get(b"authorization", b"").removeprefix(b"Bearer ")
        if bearer:
            scope["user"] = tokens.verify(bearer.decode())
        await app(scope, receive, send)

    return httpx.AsyncClient(
        transport=httpx.ASGITransport(as_caller),  # type: ignore[arg-type]  # a Scope is a mapping
        base_url="http://reyna.test",
    )


async def test_the_routes_walk_a_session(accounts: Accounts, tokens: Tokens) -> None:
    """Register, ask who one is, sign in, refresh, sign out: each answers as the contract says."""
    async with client_of(accounts, tokens) as client:
        body = {"email": EMAIL, "password": PASSWORD, "name": "Ada", "newer_field": 1}
        registered = await client.post("/auth/register", json=body)
        assert registered.status_code == 201
        assert registered.headers["Cache-Control"] == "no-store"
        grant = registered.json()
        assert set(grant) == {"user_id", "access_token", "refresh_token", "expires_at"}

        bearer = {"Authorization": f"Bearer {grant['access_token']}"}
        status = await client.get("/validate-token", headers=bearer)
        assert status.json() == {
            "user_id": grant["user_id"],
            "roles": ["user"],
            "expires_at": grant["expires_at"],
        }
        me = (await client.get("/me", headers=bearer)).json()
        assert me.pop("created_at") < grant["expires_at"]
        assert me == {
            "user_id": grant["user_id"],
            "email": EMAIL,
            "phone": None,
            "name": "Ada",
            "roles": ["user"],
        }

        login = await client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})
        assert (login.status_code, set(login.json())) == (200, set(grant))
        spent = {"refresh_token": login.json()["refresh_token"]}
        refreshed = await client.post("/auth/refresh", json=spent)
        assert (refreshed.status_code, set(refreshed.json())) == (200, set(grant))
        assert (await client.post("/auth/logout", json=refreshed.json())).status_code == 204
        assert (await client.post("/auth/logout", json=refreshed.json())).status_code == 204
        assert (await client.post("/auth/refresh", json=refreshed.json())).status_code == 401


@pytest.mark.parametrize(
    ("body", "status", "path"),
    [
        (b"{", 400, None),
        (b'{"email": 7, "password": "12345678"}', 400, "/email"),
        (b'{"email": "ada@example.org"}', 400, ""),
        (b'{"password": "12345678"}', 422, "/email"),
        (b'{"email": "ada@example.org", "password": "1234567"}', 422, "/password"),
        (b'{"phone": "0815", "password": "12345678"}', 422, "/phone"),
        (b'{"email": "\\ud800@example.org", "password": "12345678"}', 400, None),
    ],
)
async def test_a_bad_registration_gets_a_problem(
    accounts: Accounts, tokens: Tokens, body: bytes, status: int, path: str | None
) -> None:
    """Malformed bodies are 400, unfit values 422, and the problem points at the field."""
    async with client_of(accounts, tokens) as client:
        response = await client.post("/auth/register", content=body)
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    assert [error["path"] for error in response.json().get("errors", [])] == (
        [] if path is None else [path]
    )


async def test_refusals_over_http_are_alike(accounts: Accounts, tokens: Tokens) -> None:
    """A wrong password and an unknown account are the same 401, byte for byte."""
    await accounts.register(EMAIL, None, PASSWORD)
    async with client_of(accounts, tokens) as client:
        wrong = await client.post("/auth/login", json={"email": EMAIL, "password": "wrong"})
        unknown = await client.post("/auth/login", json={"email": "x@y.z", "password": "wrong"})
        taken = await client.post("/auth/register", json={"email": EMAIL, "password": PASSWORD})
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.content == unknown.content
    assert wrong.headers == unknown.headers
    assert (taken.status_code, taken.json()["errors"][0]["path"]) == (409, "/email")
