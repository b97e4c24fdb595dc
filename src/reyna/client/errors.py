"""What can go wrong for a client: one tree, whose branches are the statuses of the server.

How an answer is read belongs to `reyna.client.transport`, close codes to `reyna.client.wire`.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec


class FieldError(msgspec.Struct, frozen=True):
    """One thing wrong with one place of the input. `path` is a JSON Pointer into the body."""

    path: str = ""
    keyword: str = ""
    message: str = ""


class Problem(msgspec.Struct, frozen=True):
    """A problem document (RFC 9457)."""

    status: int
    title: str = ""
    detail: str = ""
    type: str = "about:blank"
    errors: tuple[FieldError, ...] = ()


class StudioError(Exception):
    """A studio could not be reached, or did not do what it was asked."""


class Unreachable(StudioError):
    """No answer: the network, a timeout, a broken connection.

    `arrived` is false when the request surely was not carried out.
    """

    def __init__(self, detail: str, *, arrived: bool = True) -> None:
        super().__init__(detail)
        self.arrived = arrived


class NotUnderstood(StudioError):
    """The other side says what no studio says: a wrong address, or another version."""


class CannotResume(StudioError):
    """A stream cannot go on after `after`: the log was replaced, or never came so far.

    Read again what is shown, then stream anew without `after`. `epoch` and `head` are the log's.
    """

    def __init__(self, after: int, epoch: str, head: int) -> None:
        super().__init__(f"The stream cannot go on after {after}: the log is another one.")
        self.after = after
        self.epoch = epoch
        self.head = head


class Refused(StudioError):
    """The server refused; `problem` says why. `retry_after`, in seconds, when it says so.

    `repeated`: an earlier try of the same request may have been carried out.
    """

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(f"{problem.status} {problem.detail or problem.title}")
        self.problem = problem
        self.retry_after = retry_after
        self.repeated = False

    @property
    def errors(self) -> tuple[FieldError, ...]:
        """What is wrong with which place of the request."""
        return self.problem.errors


class BadRequest(Refused):
    """400: the request cannot be understood."""


class Unauthorized(Refused):
    """401: nobody is signed in, or no longer."""


class Forbidden(Refused):
    """403: known, but not allowed."""


class NotFound(Refused):
    """404: nothing there, or somebody else's."""


class Conflict(Refused):
    """409: it contradicts the current state."""


class PreconditionFailed(Refused):
    """412: changed since it was read."""


class TooLarge(Refused):
    """413: larger than the server takes."""


class Invalid(Refused):
    """422: it breaks a schema or a rule; `errors` has the places."""


class TooManyRequests(Refused):
    """429: too much at once."""


class Unavailable(Refused):
    """502, 503, 504: a part of the studio does not answer now."""


_KINDS: dict[int, type[Refused]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: PreconditionFailed,
    413: TooLarge,
    422: Invalid,
    429: TooManyRequests,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def refusal(problem: Problem, retry_after: float | None = None) -> Refused:
    """The exception of a problem's status."""
    return _KINDS.get(problem.status, Refused)(problem, retry_after)


def refused(status: HTTPStatus, detail: str) -> Refused:
    """The exception of a status for which no problem document came."""
    return refusal(Problem(status=status, title=status.phrase, detail=detail))
