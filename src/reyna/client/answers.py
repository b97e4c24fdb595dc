"""What came back: a success to be read, or the exception of a refusal or of no answer at all."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx
import msgspec

from reyna.client.errors import NotUnderstood, Problem, Refused, Unreachable, refusal

T = TypeVar("T")


class Answer:
    """A success."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    @property
    def seq(self) -> int:
        """Reyna-Seq: of a command its last event's. Raises NotUnderstood without it."""
        seq = seq_of(self._response)
        if seq is None:
            raise NotUnderstood("The answer has no Reyna-Seq.")
        return seq

    @property
    def server_time(self) -> datetime:
        """When the server answered, by its own clock; without a Date, by ours."""
        return _date(self._response.headers.get("date", "")) or datetime.now(UTC)

    def read(self, into: type[T]) -> T:
        """The body. Raises NotUnderstood when it is something else."""
        try:
            return msgspec.json.decode(self._response.content, type=into)
        except msgspec.MsgspecError as error:
            raise NotUnderstood(f"{self._response.url}: {error}") from error


def unreachable(error: Exception) -> Unreachable:
    """The one network error, for what httpx raises."""
    kinds = httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout
    return Unreachable(str(error) or type(error).__name__, arrived=not isinstance(error, kinds))


def refusal_of(response: httpx.Response) -> Refused:
    """The exception of an answer that is no success."""
    status = response.status_code
    try:
        problem = msgspec.json.decode(response.content, type=Problem)
        problem = msgspec.structs.replace(problem, status=status)
    except msgspec.MsgspecError:
        # Not the studio's words but those of something in between.
        problem = Problem(status=status, title=response.reason_phrase)
    return refusal(problem, _retry_after(response.headers.get("retry-after", "")))


def _retry_after(value: str) -> float | None:
    if value.isascii() and value.isdigit():
        return float(value)
    date = _date(value)
    return None if date is None else max(0.0, (date - datetime.now(UTC)).total_seconds())


def _date(value: str) -> datetime | None:
    try:
        return parsedate_to_datetime(value).astimezone(UTC)
    except ValueError:
        return None


def seq_of(response: httpx.Response) -> int | None:
    """Reyna-Seq, if the answer has one."""
    value = response.headers.get("reyna-seq", "")
    return int(value) if value.isascii() and value.isdigit() else None
