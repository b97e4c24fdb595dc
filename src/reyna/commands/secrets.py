"""Secrets in settings: which ones they are, and how they are sealed. Owns their encryption.

A secret is a property of the settings schema that says `"writeOnly": true` or
`"format": "password"`. It is sealed with AES-GCM under a key that HKDF derives from
REYNA_SECRET_KEY for one user and one processor, so a sealed one is worth nothing anywhere else.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator, Mapping

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from reyna.errors import ReynaError

Json = dict[str, object]

NONCE = 12
VERSION = "v1."


class CannotOpen(ReynaError):
    """A sealed secret cannot be opened: REYNA_SECRET_KEY is another one now."""


class Vault:
    """Seals and opens under one master key."""

    def __init__(self, master: str) -> None:
        self._master = master.encode()

    def seal(self, owner: str, processor_id: str, secrets_: Mapping[str, object]) -> dict[str, str]:
        """Secrets by JSON Pointer, each sealed."""
        return {
            path: self._cipher(owner, processor_id).seal(path, value)
            for path, value in secrets_.items()
        }

    def open(self, owner: str, processor_id: str, sealed: Mapping[str, str]) -> Json:
        """Secrets by JSON Pointer, as they were. Raises CannotOpen."""
        return {
            path: self._cipher(owner, processor_id).open(path, value)
            for path, value in sealed.items()
        }

    def _cipher(self, owner: str, processor_id: str) -> _Cipher:
        context = f"reyna settings\x1f{owner}\x1f{processor_id}".encode()
        key = HKDF(algorithm=SHA256(), length=32, salt=None, info=context).derive(self._master)
        return _Cipher(AESGCM(key), context)


class _Cipher:
    def __init__(self, cipher: AESGCM, context: bytes) -> None:
        self._cipher = cipher
        self._context = context

    def seal(self, path: str, value: object) -> str:
        nonce = secrets.token_bytes(NONCE)
        sealed = self._cipher.encrypt(nonce, msgspec.json.encode(value), self._bound(path))
        return VERSION + base64.b64encode(nonce + sealed).decode()

    def open(self, path: str, sealed: str) -> object:
        try:
            raw = base64.b64decode(sealed.removeprefix(VERSION), validate=True)
            value = self._cipher.decrypt(raw[:NONCE], raw[NONCE:], self._bound(path))
        except (ValueError, InvalidTag) as error:
            raise CannotOpen(f"The secret {path} cannot be opened any more: set it again.") from (
                error
            )
        return msgspec.json.decode(value)

    def _bound(self, path: str) -> bytes:
        return self._context + b"\x1f" + path.encode()


def paths_of(schema: object, path: str = "") -> Iterator[str]:
    """The JSON Pointers of the secrets in settings of a schema: properties, and theirs."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return
    for name, below in properties.items():
        place = f"{path}/{_escaped(name)}"
        if not isinstance(below, dict):
            continue
        if below.get("writeOnly") is True or below.get("format") == "password":
            yield place
        else:
            yield from paths_of(below, place)


def marked(schema: object) -> int:
    """How many places of a schema say that they are secret, wherever they stand."""
    if isinstance(schema, list):
        return sum(map(marked, schema))
    if not isinstance(schema, dict):
        return 0
    if schema.get("writeOnly") is True or schema.get("format") == "password":
        return 1
    return sum(map(marked, schema.values()))


def taken_out(settings: Json, paths: Iterator[str]) -> tuple[Json, Json]:
    """Settings without their secrets, and the secrets that were there by JSON Pointer."""
    rest: Json = msgspec.json.decode(msgspec.json.encode(settings))
    found: Json = {}
    for path in paths:
        *above, last = _steps(path)
        holder: object = rest
        for step in above:
            holder = holder.get(step) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and last in holder:
            found[path] = holder.pop(last)
    return rest, found


def put_in(settings: Json, found: Mapping[str, object]) -> Json:
    """Settings with their secrets where they belong."""
    whole: Json = msgspec.json.decode(msgspec.json.encode(settings))
    for path, value in found.items():
        *above, last = _steps(path)
        holder: object = whole
        for step in above:
            holder = holder.setdefault(step, {}) if isinstance(holder, dict) else None
        if isinstance(holder, dict):
            holder[last] = value
    return whole


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _steps(path: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]
