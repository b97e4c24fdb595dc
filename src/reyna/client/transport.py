"""One request: its token, its headers, its tries.

What is asked for belongs to the resources (`blobs`, `buckets`, …), tokens to `session`, what came
back to `answers`.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TypeAlias, TypeVar
from uuid import uuid4

import httpx
import msgspec

from reyna.client.answers import Answer, refusal_of, seq_of, unreachable
from reyna.client.errors import (
    NotFound,
    Refused,
    TooManyRequests,
    Unavailable,
    Unreachable,
)
from reyna.client.model import Tokens
from reyna.client.session import Session

T = TypeVar("T")
# By name: text, numbers, booleans, times; None is left out.
Query: TypeAlias = Mapping[str, object]
# Gives the body anew for each try.
Chunks: TypeAlias = Callable[[], AsyncIterable[bytes]]
# A seq, or a time.
At: TypeAlias = int | str | datetime

PREFIX = "/api/v1"
_SEGMENT = re.compile(r"[A-Za-z0-9_-]{1,128}")


class Retry(msgspec.Struct, frozen=True):
    """How often and how patiently a request is tried. Waits are seconds.

    A server that asks for more than `longest_wait` is not tried again.
    """

    tries: int = 6
    first_wait: float = 0.2
    longest_wait: float = 10.0

    def wait(self, failed: int, asked: float | None) -> float | None:
        """How long to wait after so many failures; None to give up."""
        if failed >= self.tries or (asked or 0.0) > self.longest_wait:
            return None
        spread = min(self.longest_wait, self.first_wait * 2.0 ** (failed - 1))
        # The spread comes on top: all who were told the same moment must not come back in it.
        return (asked or 0.0) + random.uniform(0.0, spread)


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request. `repeatable`: carried out twice it does no more than once."""

    method: str
    path: str
    query: Query = {}
    headers: Mapping[str, str] = {}
    body: bytes | None = None
    chunks: Chunks | None = None
    repeatable: bool = True
    anonymous: bool = False


class Transport:
    """Sends calls. `last_seq` is the last seq of its own commands, which queries wait for."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None,
        refresh_token: str | None,
        read_your_writes: bool,
        timeout: float,
        retry: Retry,
    ) -> None:
        self.url = url.rstrip("/")
        self.session = Session(self._renew, token, refresh_token)
        self.last_seq = 0
        self._read_your_writes = read_your_writes
        self._timeout = timeout
        self._retry = retry
        self._http = httpx.AsyncClient(base_url=f"{self.url}{PREFIX}", timeout=timeout)

    async def close(self) -> None:
        """Close all connections."""
        await self.session.settle()
        await self._http.aclose()

    def forget(self) -> None:
        """Wait for no earlier command any more: the log is another one."""
        self.last_seq = 0

    async def get(
        self, path: str, into: type[T], query: Query | None = None, min_seq: int | None = None
    ) -> T:
        """Ask a query; its view waits for `min_seq`, or for this client's own last command."""
        headers = self.min_seq(min_seq)
        call = Call(method="GET", path=path, query=query or {}, headers=headers)
        return (await self.send(call)).read(into)

    async def post(
        self, path: str, body: msgspec.Struct | None = None, key: str | None = None
    ) -> Answer:
        """Send a command under an Idempotency-Key, a new one unless one is given."""
        headers = {"Idempotency-Key": key or uuid4().hex}
        return await self.send(Call(method="POST", path=path, headers=headers, body=encode(body)))

    async def change(
        self, method: str, path: str, body: msgspec.Struct | None, if_match: int | None
    ) -> Answer:
        """PATCH, PUT or DELETE; with `if_match` only if that is still the thing's seq."""
        headers = {} if if_match is None else {"If-Match": f'"{if_match}"'}
        # Of two conditional tries the second would fail by what the first has done.
        repeatable = if_match is None
        call = Call(
            method=method, path=path, headers=headers, body=encode(body), repeatable=repeatable
        )
        return await self.send(call)

    def min_seq(self, seq: int | None = None) -> dict[str, str]:
        """The header that makes a query wait for a seq, by default for one's own last."""
        if seq is None:
            seq = self.last_seq if self._read_your_writes else 0
        return {"Reyna-Min-Seq": str(seq)} if seq else {}

    async def delete(self, path: str, if_match: int | None) -> None:
        """DELETE; done also when an earlier try has done it and only its answer was lost."""
        try:
            await self.change("DELETE", path, None, if_match)
        except NotFound as error:
            if not error.repeated:
                raise

    async def send(self, call: Call) -> Answer:
        """The answer to a call, tried again as its `Retry` says.

        Raises Refused of the answer's kind, Unreachable without one.
        """
        return Answer(await self._tried(call, stream=False))

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[httpx.Response]:
        """The response to a call, its body still to be read. Raises as `send` does."""
        response = await self._tried(call, stream=True)
        try:
            yield response
        except httpx.RequestError as error:
            raise unreachable(error) from error
        finally:
            await response.aclose()

    async def _tried(self, call: Call, *, stream: bool) -> httpx.Response:
        failed = 0
        repeated = False
        while True:
            try:
                return await self._authorized(call, stream=stream)
            except (Refused, Unreachable) as error:
                wait = self._retry.wait(failed + 1, getattr(error, "retry_after", None))
                if wait is None or not _may_repeat(call, error):
                    if isinstance(error, Refused):
                        error.repeated = repeated
                    raise
                failed += 1
                repeated = repeated or not _surely_not_done(error)
            await asyncio.sleep(wait)

    async def _authorized(self, call: Call, *, stream: bool) -> httpx.Response:
        token = None if call.anonymous else await self.session.access()
        response = await self._exchange(call, token, stream=stream)
        if (
            response.status_code == HTTPStatus.UNAUTHORIZED
            and not call.anonymous
            and self.session.refresh_token is not None
            and (call.chunks is None or call.repeatable)
        ):
            token = await self.session.access(refused=token)
            response = await self._exchange(call, token, stream=stream)
        if not response.is_success:
            raise refusal_of(response)
        if call.method != "GET":
            self.last_seq = max(self.last_seq, seq_of(response) or 0)
        return response

    async def _exchange(self, call: Call, token: str | None, *, stream: bool) -> httpx.Response:
        headers = dict(call.headers)
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        content: bytes | AsyncIterable[bytes] | None = None
        if call.chunks is not None:
            content = call.chunks()
        elif call.body is not None:
            content = call.body
            headers["Content-Type"] = "application/json"
        request = self._http.build_request(
            call.method, call.path, params=_params(call.query), headers=headers, content=content
        )
        try:
            # A body of any size takes any time; httpx still minds each piece of it.
            async with asyncio.timeout(None if call.chunks else self._timeout):
                response = await self._http.send(request, stream=stream)
                if stream and not response.is_success:
                    await response.aread()
        except (httpx.RequestError, TimeoutError) as error:
            raise unreachable(error) from error
        return response

    async def _renew(self, refresh_token: str) -> tuple[Tokens, datetime]:
        """Spend a refresh token. After a lost answer nothing is left but to try it again."""
        call = Call(
            method="POST",
            path="/auth/refresh",
            body=encode(RefreshToken(refresh_token)),
            anonymous=True,
        )
        answer = await self.send(call)
        return answer.read(Tokens), answer.server_time


class RefreshToken(msgspec.Struct, frozen=True):
    """The body of `auth/refresh` and `auth/logout`."""

    refresh_token: str


def encode(body: msgspec.Struct | None) -> bytes | None:
    """A body as JSON; encoded once, so that each try of a request says the same."""
    return None if body is None else msgspec.json.encode(body)


def segment(entity_id: str) -> str:
    """An id as a part of a path. Raises ValueError for what cannot be an id."""
    if _SEGMENT.fullmatch(entity_id) is None:
        raise ValueError(f"{entity_id!r} cannot be an id.")
    return entity_id


def _may_repeat(call: Call, error: Refused | Unreachable) -> bool:
    if isinstance(error, Refused) and not isinstance(error, TooManyRequests | Unavailable):
        return False
    return call.repeatable or (_surely_not_done(error) and call.chunks is None)


def _surely_not_done(error: Refused | Unreachable) -> bool:
    if isinstance(error, Unreachable):
        return not error.arrived
    return isinstance(error, TooManyRequests)


def _params(query: Query) -> dict[str, str]:
    return {name: _text(value) for name, value in query.items() if value is not None}


def _text(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.astimezone(UTC).isoformat()
    return str(value)
