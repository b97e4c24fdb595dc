"""Settings: one typed object, read once from the environment and `.env`. Owns names, ranges,
defaults.

A wrong value fails at start and names its variable. Nothing else in the program reads the
environment.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from dotenv import dotenv_values

from reyna.errors import SetupError

MIN_SECRET = 32
Value = str | float | int | tuple[str, ...] | tuple[float, float]
_ORIGIN = re.compile(r"https?://[^/\s]+\Z")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings. Sizes in bytes, times in seconds, the text model's window in tokens, its price
    in US dollars for a million tokens read and written. None means: not set.
    """

    nats_url: str | None = None
    nats_token: str | None = None
    database_url: str | None = None
    secret_key: str | None = None
    sync: str = "always"
    wait_timeout: float = 5.0
    max_depth: int = 32
    max_blob_bytes: int = 1024 * 1024
    max_media_bytes: int = 1024 * 1024 * 1024
    runs_at_once: int = 4
    runs_per_user: int = 3
    tokens_per_day: int | None = None
    allowed_origins: tuple[str, ...] = ()
    text_base_url: str | None = None
    text_model: str | None = None
    text_window: int = 4096
    text_price: tuple[float, float] | None = None
    openai_api_key: str | None = None
    embed_base_url: str | None = None
    embed_model: str | None = None


def load(environment: Mapping[str, str], dotenv: Path | None = Path(".env")) -> Settings:
    """The settings in `environment`, and in the file `dotenv` for what is not there.

    Raises SetupError naming the variable whose value is wrong.
    """
    values: dict[str, str] = {}
    if dotenv is not None and dotenv.is_file():
        values.update({k: v for k, v in dotenv_values(dotenv).items() if v is not None})
    values.update(environment)
    found: dict[str, Value] = {}
    for field, (variable, read) in _VARIABLES.items():
        raw = values.get(variable, "").strip()
        if raw:
            try:
                found[field] = read(raw)
            except ValueError as error:
                raise SetupError(f"{variable} is wrong: {error}.") from error
    return msgspec.convert(found, Settings)


def _url(*schemes: str) -> Callable[[str], str]:
    def read(raw: str) -> str:
        if not raw.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValueError(f"it must begin with {' or '.join(f'{s}://' for s in schemes)}")
        return raw

    return read


def _database(raw: str) -> str:
    if not raw.startswith(("sqlite", "postgresql")):
        raise ValueError("it must begin with sqlite: or postgresql:")
    return raw


def _secret(raw: str) -> str:
    if len(raw) < MIN_SECRET:
        raise ValueError(f"it must have at least {MIN_SECRET} characters")
    return raw


def _sync(raw: str) -> str:
    if raw not in {"always", "interval"}:
        raise ValueError("it must be always or interval")
    return raw


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(raw: str) -> int:
        if not raw.isascii() or not raw.isdigit() or not low <= int(raw) <= high:
            raise ValueError(f"it must be a whole number from {low} to {high}")
        return int(raw)

    return read


def _seconds(raw: str) -> float:
    try:
        value = float(raw)
    except ValueError:
        value = -1.0
    if not 0 < value <= 300:
        raise ValueError("it must be a number of seconds above 0, at most 300")
    return value


def _price(raw: str) -> tuple[float, float]:
    try:
        read, written = (float(part) for part in raw.split("/"))
    except ValueError:
        read = written = -1.0
    if not (0 <= read < 1e6 and 0 <= written < 1e6):
        raise ValueError("it must be two prices in dollars for a million tokens, such as 0.15/0.6")
    return read, written


def _origins(raw: str) -> tuple[str, ...]:
    origins = tuple(part.strip().rstrip("/") for part in raw.split(",") if part.strip())
    for origin in origins:
        if not _ORIGIN.match(origin):
            raise ValueError(f"{origin!r} is not an origin such as https://studio.example")
    return origins


_VARIABLES: dict[str, tuple[str, Callable[[str], Value]]] = {
    "nats_url": ("REYNA_NATS_URL", _url("nats", "tls", "ws", "wss")),
    "nats_token": ("REYNA_NATS_TOKEN", str),
    "database_url": ("REYNA_DATABASE_URL", _database),
    "secret_key": ("REYNA_SECRET_KEY", _secret),
    "sync": ("REYNA_SYNC", _sync),
    "wait_timeout": ("REYNA_WAIT_TIMEOUT", _seconds),
    "max_depth": ("REYNA_MAX_DEPTH", _whole(1, 1000)),
    "max_blob_bytes": ("REYNA_MAX_BLOB_BYTES", _whole(1024, 4 * 1024 * 1024)),
    "max_media_bytes": ("REYNA_MAX_MEDIA_BYTES", _whole(1024, 16 * 1024 * 1024 * 1024)),
    "runs_at_once": ("REYNA_RUNS_AT_ONCE", _whole(1, 1000)),
    "runs_per_user": ("REYNA_RUNS_PER_USER", _whole(1, 1000)),
    "tokens_per_day": ("REYNA_TOKENS_PER_DAY", _whole(1, 10**12)),
    "allowed_origins": ("REYNA_ALLOWED_ORIGINS", _origins),
    "text_base_url": ("REYNA_TEXT_BASE_URL", _url("http", "https")),
    "text_model": ("REYNA_TEXT_MODEL", str),
    "text_window": ("REYNA_TEXT_WINDOW", _whole(1024, 10**7)),
    "text_price": ("REYNA_TEXT_PRICE", _price),
    "openai_api_key": ("OPENAI_API_KEY", str),
    "embed_base_url": ("REYNA_EMBED_BASE_URL", _url("http", "https")),
    "embed_model": ("REYNA_EMBED_MODEL", str),
}
