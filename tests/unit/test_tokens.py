"""Access tokens: what is believed, and for how long."""

from __future__ import annotations

import base64
import json
import time

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reyna.errors import NotAuthenticated
from reyna.identity.tokens import ACCESS_LIFETIME, MAX_TOKEN, Tokens, rfc3339

SECRET = "a secret of this test, long enough to sign with HS384 too"
OTHER_SECRET = "another secret, just as long, that somebody guessed"
START = 1_795_000_000.0


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.seconds = START

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> Tokens:
    """Tokens that go by that clock."""
    return Tokens(SECRET, clock)


def signed(changes: dict[str, object], secret: str = SECRET, algorithm: str = "HS256") -> str:
    """A token as ours, with some claims changed, or left out when None."""
    claims = {
        "sub": "u1",
        "sid": "s1",
        "roles": ["user"],
        "iat": int(START),
        "exp": int(START) + ACCESS_LIFETIME,
        "iss": "reyna",
    } | changes
    kept = {name: value for name, value in claims.items() if value is not None}
    # Signed as bytes: the library would check some of the claims itself, a stranger's does not.
    return jwt.PyJWS().encode(json.dumps(kept).encode(), secret, algorithm)


def segment(value: object) -> str:
    """One part of a JWT, made by hand."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_a_token_speaks_for_whom_it_was_issued(tokens: Tokens) -> None:
    """Verifying gives back user, session, roles and expiry, the same the second time."""
    issued = tokens.issue("u1", "s1", ("user", "admin"))
    principal = tokens.verify(issued.token)
    assert (principal.user_id, principal.session_id) == ("u1", "s1")
    assert principal.roles == ("user", "admin")
    assert principal.expires == START + ACCESS_LIFETIME
    assert principal.expires_at == issued.expires_at == rfc3339(START + ACCESS_LIFETIME)
    assert tokens.verify(issued.token) == principal


def test_times_are_written_like_all_others() -> None:
    """A time is RFC 3339 in UTC with six digits after the point."""
    assert rfc3339(0) == "1970-01-01T00:00:00.000000Z"


def test_a_token_is_believed_until_its_last_second(tokens: Tokens, clock: Clock) -> None:
    """A token expires on time, also when it has been verified and remembered before."""
    token = tokens.issue("u1", "s1", ()).token
    clock.seconds = START + ACCESS_LIFETIME - 1
    tokens.verify(token)
    clock.seconds = START + ACCESS_LIFETIME
    with pytest.raises(NotAuthenticated, match="expired"):
        tokens.verify(token)


def test_an_expired_token_never_seen_before_is_refused(tokens: Tokens) -> None:
    """Expiry is checked for a token that is not remembered."""
    with pytest.raises(NotAuthenticated, match="expired"):
        tokens.verify(signed({"exp": int(START)}))


def test_a_token_of_a_server_whose_clock_is_ahead_is_believed(tokens: Tokens) -> None:
    """A time of issue in the near future is no reason to refuse."""
    assert tokens.verify(signed({"iat": int(START) + 5})).user_id == "u1"


def test_the_real_clock_is_the_default() -> None:
    """Without a clock of its own, a token lives from now on."""
    tokens = Tokens(SECRET)
    before = int(time.time())
    principal = tokens.verify(tokens.issue("u1", "s1", ()).token)
    assert before <= principal.expires - ACCESS_LIFETIME <= int(time.time())


def test_a_revoked_session_is_refused(tokens: Tokens) -> None:
    """Revoking a session refuses all its tokens, remembered or not, and no other session's."""
    remembered, fresh = tokens.issue("u1", "s1", ()), tokens.issue("u1", "s1", ("user",))
    other = tokens.issue("u1", "s2", ())
    tokens.verify(remembered.token)
    tokens.revoke("s1")
    for access in (remembered, fresh):
        with pytest.raises(NotAuthenticated, match="session has ended"):
            tokens.verify(access.token)
    assert tokens.verify(other.token).session_id == "s2"


def test_a_revoked_session_stays_refused_while_others_are_revoked(
    tokens: Tokens, clock: Clock
) -> None:
    """Forgetting old revocations never forgets one whose tokens are still in force."""
    token = tokens.issue("u1", "s1", ()).token
    tokens.revoke("s1")
    clock.seconds = START + ACCESS_LIFETIME - 1
    tokens.revoke("s2")
    with pytest.raises(NotAuthenticated, match="session has ended"):
        tokens.verify(token)


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": 10**30},
        {"exp": -1},
        {"iss": None},
        {"iss": "somebody"},
        {"sub": None},
        {"sub": 7},
        {"sid": None},
        {"iat": None},
        {"roles": None},
        {"roles": "admin"},
        {"roles": [1]},
    ],
)
def test_a_token_must_say_everything(tokens: Tokens, changes: dict[str, object]) -> None:
    """A well-signed token with a claim missing, or of a wrong type, is refused."""
    with pytest.raises(NotAuthenticated, match="not valid"):
        tokens.verify(signed(changes))


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(signed({}, OTHER_SECRET), id="another secret"),
        pytest.param(
            signed({}, SECRET, "HS384"),
            id="another algorithm",
        ),
        pytest.param(signed({}, "", "none"), id="no signature"),
        pytest.param(
            ".".join([segment({"alg": "nOnE"}), signed({}).split(".")[1], ""]), id="none, disguised"
        ),
        pytest.param(".".join([segment({"alg": ["HS256"]}), "e30", "e30"]), id="alg is a list"),
        pytest.param(".".join([segment({"alg": {}}), "e30", "e30"]), id="alg is an object"),
        pytest.param(
            ".".join([segment({"alg": "HS256", "b64": False, "crit": ["b64"]}), "e30", "e30"]),
            id="detached payload",
        ),
        pytest.param(segment([]) + ".e30.e30", id="header is a list"),
        pytest.param(
            base64.urlsafe_b64encode(b"[" * 2900).decode() + ".e30.e30", id="deeply nested header"
        ),
        pytest.param("a" * (MAX_TOKEN + 1), id="too long"),
        pytest.param("", id="empty"),
        pytest.param("...", id="dots"),
        pytest.param("\ud800.é.\x00", id="not even ASCII"),
        pytest.param("****.****.****", id="not base64"),
    ],
)
def test_what_is_not_ours_is_refused(tokens: Tokens, token: str) -> None:
    """Only a token signed with HS256 and our secret is believed, whatever else comes."""
    with pytest.raises(NotAuthenticated, match="not valid"):
        tokens.verify(token)


@given(st.data())
def test_no_changed_token_is_believed(data: st.DataObject) -> None:
    """A token with any one character changed, added or removed is refused."""
    tokens = Tokens(SECRET, Clock())
    token = tokens.issue("u1", "s1", ("user",)).token
    at = data.draw(st.integers(0, len(token) - 1))
    put = data.draw(st.characters(codec="latin-1") | st.just(""))
    removed = data.draw(st.integers(0, 1))
    changed = token[:at] + put + token[at + removed :]
    if changed != token:
        with pytest.raises(NotAuthenticated):
            tokens.verify(changed)


@given(
    st.dictionaries(
        st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk"]),
        st.sampled_from(["HS256", "none", "b64", None, True, 0, [], ["b64"], [[]], {}, {"k": ""}]),
    )
)
def test_no_header_breaks_the_reader(header: dict[str, object]) -> None:
    """Whatever a forged header holds, the answer is that nobody is signed in."""
    with pytest.raises(NotAuthenticated):
        Tokens(SECRET, Clock()).verify(f"{segment(header)}.{segment({'sub': 'u1'})}.c2ln")


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    """Any text that is not a token means nobody is signed in."""
    with pytest.raises(NotAuthenticated):
        Tokens(SECRET, Clock()).verify(text)
