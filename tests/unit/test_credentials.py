"""What an account may be named, and what a password may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reyna.errors import FieldError
from reyna.identity.credentials import Identifier, identify, name_fault, password_fault


@pytest.mark.parametrize(
    ("email", "phone", "expected"),
    [
        (" Ada@Example.ORG\n", None, Identifier("email", "ada@example.org")),
        ("ä@bücher.example", None, Identifier("email", "ä@bücher.example")),
        (None, "+49 (30) 123-45.67", Identifier("phone", "+49301234567")),
        (None, "+1234567", Identifier("phone", "+1234567")),
        (None, "+123456789012345", Identifier("phone", "+123456789012345")),
    ],
)
def test_spellings_of_one_identifier_are_one(
    email: str | None, phone: str | None, expected: Identifier
) -> None:
    """Case and blanks of an email address, and the ornaments of a phone number, do not count."""
    assert identify(email, phone) == expected


@pytest.mark.parametrize(
    ("email", "phone", "path"),
    [
        (None, None, "/email"),
        ("ada@example.org", "+49301234567", "/email"),
        ("", None, "/email"),
        ("ada", None, "/email"),
        ("@example.org", None, "/email"),
        ("ada@", None, "/email"),
        ("a@b@c", None, "/email"),
        ("a b@example.org", None, "/email"),
        ("a\x00b@example.org", None, "/email"),
        ("a\u200b@example.org", None, "/email"),
        ("a" * 243 + "@example.org", None, "/email"),
        (None, "", "/phone"),
        (None, "030 1234567", "/phone"),
        (None, "+0301234567", "/phone"),
        (None, "+123456", "/phone"),
        (None, "+1234567890123456", "/phone"),
        (None, "+4930123456x", "/phone"),
        (None, "+49３０1234567", "/phone"),  # noqa: RUF001 - other digits are what is tested
    ],
)
def test_what_names_nobody_is_refused(email: str | None, phone: str | None, path: str) -> None:
    """Exactly one well-formed identifier is taken, and the fault says which field is wrong."""
    fault = identify(email, phone)
    assert isinstance(fault, FieldError)
    assert fault.path == path


@given(st.text() | st.emails())
def test_a_normal_email_address_is_its_own_normal_form(text: str) -> None:
    """Normalising twice is the same as once, and the result fits its column."""
    who = identify(text, None)
    if isinstance(who, Identifier):
        assert identify(who.value, None) == who
        assert len(who.value) <= 254


@given(st.text(alphabet="+0123456789 -.()[]x\n"))
def test_a_normal_phone_number_is_its_own_normal_form(text: str) -> None:
    """Normalising twice is the same as once, and the result fits its column."""
    who = identify(None, text)
    if isinstance(who, Identifier):
        assert identify(None, who.value) == who
        assert len(who.value) <= 16


@given(st.integers(0, 1100))
def test_a_password_has_8_to_1024_characters(length: int) -> None:
    """Nothing but its length makes a password unfit."""
    assert (password_fault("ü" * length) is None) == (8 <= length <= 1024)


@pytest.mark.parametrize("name", ["a" * 201, "a\x00b", "line\nbreak", "\x1b[31mred"])
def test_a_name_is_one_short_line(name: str) -> None:
    """A name too long, or with characters that are not text, is refused."""
    fault = name_fault(name)
    assert fault is not None
    assert fault.path == "/name"


def test_names_of_people_are_taken() -> None:
    """Letters of any script, blanks and marks make a name."""
    assert name_fault("Zoë O'Neil-李 小龍 🌱") is None
