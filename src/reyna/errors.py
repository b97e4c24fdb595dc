"""The one exception tree. Owns what can go wrong and how it is put into words.

How an error becomes an HTTP answer or a socket frame belongs to `reyna.api.problems`; how it
becomes a line on a terminal belongs to `reyna.cli`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class FieldError(msgspec.Struct, frozen=True):
    """One thing wrong with one place of the input. `path` is a JSON Pointer (RFC 6901)."""

    path: str
    keyword: str
    message: str


class ReynaError(Exception):
    """Something went wrong in ReYNa Studio."""


class SetupError(ReynaError):
    """The program cannot start as it is set up; the message says what to do."""


class Rejected(ReynaError):
    """A request was refused and changed nothing."""

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)


class Malformed(Rejected):
    """The request cannot be understood."""


class NotAuthenticated(Rejected):
    """Nobody valid is named in the request."""


class Forbidden(Rejected):
    """The caller is known and may not do this."""


class NotFound(Rejected):
    """There is no such thing, or it belongs to somebody else."""


class Conflict(Rejected):
    """The request contradicts the current state."""


class PreconditionFailed(Rejected):
    """The resource has changed since the caller read it."""


class TooLarge(Rejected):
    """The request is larger than the server takes."""


class TooSlow(Rejected):
    """The request comes in slower than the server waits."""


class Invalid(Rejected):
    """The request is well-formed but breaks a schema or a rule."""


class TooManyRequests(Rejected):
    """The caller asks too much; `retry_after` is in seconds."""

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Unavailable(ReynaError):
    """A part the request needs does not answer; trying again later is right."""

    retry_after = 1

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class LogUnavailable(Unavailable):
    """The log (NATS JetStream) cannot be reached."""


class ViewBehind(Unavailable):
    """A view has not reached the position the caller asked for."""


class DatabaseUnavailable(Unavailable):
    """The database cannot be reached."""


class WrongExpectedSeq(ReynaError):
    """A guarded append was refused: the boundary has moved since it was read."""


class CannotApply(ReynaError):
    """A projection cannot make sense of a record."""


class Transient(ReynaError):
    """A processor's attempt failed in a way that may pass. `retry_after` is in seconds,
    if known.
    """

    def __init__(self, detail: str, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after


class Permanent(ReynaError):
    """A processor's attempt failed and would fail again."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
