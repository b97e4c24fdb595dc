"""Secrets in settings: found by the schema, sealed for one user and processor, put back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reyna.commands.instances import with_defaults
from reyna.commands.secrets import CannotOpen, Vault, marked, paths_of, put_in, taken_out

SCHEMA = {
    "properties": {
        "style": {"type": "string", "default": "plain"},
        "api_key": {"writeOnly": True},
        "a/b~c": {"format": "password"},
        "mail": {"properties": {"pass": {"writeOnly": True}, "port": {"default": 25}}},
        "odd": True,
    }
}
PATHS = ["/api_key", "/a~1b~0c", "/mail/pass"]
names = st.text(max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
settings = st.dictionaries(
    st.sampled_from(["style", "api_key", "a/b~c", "mail", "odd"]) | names,
    values | st.fixed_dictionaries({}, optional={"pass": values, "port": values}),
    max_size=5,
)


def test_secrets_are_found() -> None:
    """A property that is write-only, or a password, is a secret, at any depth."""
    assert list(paths_of(SCHEMA)) == PATHS
    assert list(paths_of(True)) == list(paths_of({"properties": []})) == []


@given(settings)
def test_taken_out_and_put_in_is_the_same(given_: dict[str, object]) -> None:
    """What is taken out of settings and put back makes the same settings."""
    public, secrets = taken_out(given_, iter(PATHS))
    assert set(secrets) <= set(PATHS)
    assert taken_out(public, iter(PATHS)) == (public, {})
    assert put_in(public, secrets) == given_


@given(st.dictionaries(st.sampled_from(PATHS), values))
def test_sealed_is_opened_by_whom_it_was_sealed_for(secrets: dict[str, object]) -> None:
    """Sealed secrets come back as they were, and are never sealed the same way twice."""
    vault = Vault("k" * 32)
    sealed = vault.seal("ann", "sum", secrets)
    assert vault.open("ann", "sum", sealed) == secrets
    again = vault.seal("ann", "sum", secrets)
    assert all(sealed[path] != again[path] for path in secrets)


@pytest.mark.parametrize(
    ("vault", "owner", "processor_id", "path"),
    [
        (Vault("l" * 32), "ann", "sum", "/api_key"),
        (Vault("k" * 32), "eve", "sum", "/api_key"),
        (Vault("k" * 32), "ann", "other", "/api_key"),
        (Vault("k" * 32), "ann", "sum", "/mail/pass"),
    ],
)
def test_nobody_else_opens_it(vault: Vault, owner: str, processor_id: str, path: str) -> None:
    """Another key, user, processor or place opens nothing."""
    (sealed,) = Vault("k" * 32).seal("ann", "sum", {"/api_key": "s3cret"}).values()
    assert "s3cret" not in sealed
    with pytest.raises(CannotOpen, match=path):
        vault.open(owner, processor_id, {path: sealed})


@pytest.mark.parametrize("wrong", ["", "v1.", "v1.!!", "v1.AAAA", "plain text"])
def test_what_is_no_seal_is_not_opened(wrong: str) -> None:
    """What was damaged, or never sealed, is refused."""
    with pytest.raises(CannotOpen):
        Vault("k" * 32).open("ann", "sum", {"/api_key": wrong})


def test_defaults_fill_what_is_not_there() -> None:
    """Defaults stand for what is missing, at any depth, and never for what is there."""
    assert with_defaults(SCHEMA, {"mail": {}}) == {"mail": {"port": 25}, "style": "plain"}
    assert with_defaults(SCHEMA, {"style": None, "mail": "x"}) == {"style": None, "mail": "x"}
    assert with_defaults(True, {"a": 1}) == {"a": 1}


@pytest.mark.parametrize(
    "hidden",
    [
        {"properties": {"p": {"$ref": "#/$defs/P"}}, "$defs": {"P": {"properties": SCHEMA}}},
        {"anyOf": [{"properties": {"key": {"writeOnly": True}}}]},
        {"properties": {"keys": {"items": {"format": "password"}}}},
    ],
)
def test_a_secret_that_would_not_be_found_is_counted(hidden: object) -> None:
    """What is marked as secret anywhere counts, so that a place which is not looked at shows."""
    assert marked(SCHEMA) == len(list(paths_of(SCHEMA)))
    assert marked(hidden) > len(list(paths_of(hidden)))
