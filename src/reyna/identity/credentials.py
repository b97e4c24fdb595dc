"""What a person signs in with. Owns how it is normalised, when it is refused, and password hashing.

Whether an account of that name exists belongs to `accounts`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar

import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from reyna.errors import FieldError, TooManyRequests

MAX_EMAIL = 254
MIN_PASSWORD = 8
MAX_PASSWORD = 1024
MAX_NAME = 200
# One hash takes 64 MiB and all cores for a moment; more at once would be no faster.
HASHING_THREADS = 2
# Hashes that may wait for a thread: some seconds of work.
MAX_PENDING = 40

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")
_PHONE_ORNAMENTS = re.compile(r"[\s\-.()\[\]]")

T = TypeVar("T")


class Identifier(msgspec.Struct, frozen=True):
    """What names an account: an email address in lower case, or a phone number in E.164."""

    kind: Literal["email", "phone"]
    value: str


def identify(email: str | None, phone: str | None) -> Identifier | FieldError:
    """The identifier in exactly one of `email` and `phone`, normalised, or what is wrong."""
    if email is not None and phone is not None:
        return FieldError("/email", "oneOf", "Give an email address or a phone number, not both.")
    if email is not None:
        address = email.strip().lower()
        if _EMAIL.fullmatch(address) and address.isprintable() and len(address) <= MAX_EMAIL:
            return Identifier("email", address)
        return FieldError("/email", "format", "This is not an email address.")
    if phone is not None:
        number = _PHONE_ORNAMENTS.sub("", phone)
        if _PHONE.fullmatch(number):
            return Identifier("phone", number)
        message = "This is not a phone number with its country code, such as +49 30 1234567."
        return FieldError("/phone", "format", message)
    return FieldError("/email", "required", "Give an email address or a phone number.")


def password_fault(password: str) -> FieldError | None:
    """What is wrong with `password` as a new password, if anything."""
    if len(password) < MIN_PASSWORD:
        message = f"The password must have at least {MIN_PASSWORD} characters."
        return FieldError("/password", "minLength", message)
    if len(password) > MAX_PASSWORD:
        message = f"The password must have at most {MAX_PASSWORD} characters."
        return FieldError("/password", "maxLength", message)
    return None


def name_fault(name: str) -> FieldError | None:
    """What is wrong with `name` as the name of a person, if anything."""
    if len(name) > MAX_NAME:
        message = f"The name must have at most {MAX_NAME} characters."
        return FieldError("/name", "maxLength", message)
    if not name.isprintable():
        message = "The name must not contain control characters."
        return FieldError("/name", "format", message)
    return None


class Passwords:
    """Hashes and checks passwords with Argon2id, off the event loop.

    The pool's size bounds memory and CPU, also when callers give up waiting: unlike a semaphore's
    place, a thread is free again only when its hash is done.
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._pending = 0
        self._threads = ThreadPoolExecutor(HASHING_THREADS, thread_name_prefix="argon2")

    async def hash(self, password: str) -> str:
        """The hash to store for `password`, its salt and parameters included."""
        return await self._run(lambda: self._hasher.hash(password))

    async def matches(self, stored: str | None, password: str) -> bool:
        """Whether `password` has the hash `stored`; never, in the same time, when there is none."""
        if stored is None:
            await self.hash(password)
            return False
        return await self._run(lambda: self._verify(stored, password))

    def outdated(self, stored: str) -> bool:
        """Whether `stored` was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except VerifyMismatchError:
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._pending >= MAX_PENDING:
            raise TooManyRequests("Too many are signing in at this moment; try again.", 2)
        self._pending += 1
        hashing = asyncio.get_running_loop().run_in_executor(self._threads, work)
        hashing.add_done_callback(self._done)
        return await hashing

    def _done(self, _: object) -> None:
        self._pending -= 1
