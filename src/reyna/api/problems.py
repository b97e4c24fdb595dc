"""Problems: every error as RFC 9457 `application/problem+json`, over HTTP and in socket frames
alike.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.response import Response

from reyna import errors
from reyna.errors import FieldError, Rejected, TooManyRequests, Unavailable

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

_STATUS: dict[type[Exception], int] = {
    errors.Malformed: 400,
    errors.NotAuthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.TooSlow: 408,
    errors.Conflict: 409,
    errors.PreconditionFailed: 412,
    errors.TooLarge: 413,
    errors.Invalid: 422,
    errors.TooManyRequests: 429,
}


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A problem detail (RFC 9457). `errors` lists what is wrong with which place of the input."""

    status: int
    title: str
    detail: str
    type: str = msgspec.field(default="about:blank")
    errors: tuple[FieldError, ...] = ()


def problem_of(error: Exception) -> Problem:
    """What to tell the caller about `error`; what is not the caller's business is not told."""
    if isinstance(error, Rejected):
        status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 400)
        return _problem(status, error.detail, error.errors)
    if isinstance(error, Unavailable):
        return _problem(503, error.detail)
    if isinstance(error, HTTPException) and error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        return _problem(error.status_code, _sentence(error))
    if isinstance(error, RecursionError):
        return _problem(400, "The JSON is nested too deeply.")
    return _problem(500, "Something went wrong here. It has been logged.")


def answer(request: Request[object, str, State], error: Exception) -> Response[bytes]:
    """The HTTP answer to an error; logs the ones that are ours."""
    problem = problem_of(error)
    if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if isinstance(error, TooManyRequests | Unavailable):
        headers["Retry-After"] = str(error.retry_after)
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(
        msgspec.json.encode(problem),
        status_code=problem.status,
        headers=headers,
        media_type=MEDIA_TYPE,
    )


def _problem(status: int, detail: str, found: tuple[FieldError, ...] = ()) -> Problem:
    return Problem(
        status=status,
        title=HTTPStatus(status).phrase,
        detail=detail,
        type=f"urn:reyna:problem:{HTTPStatus(status).name.lower().replace('_', '-')}",
        errors=found,
    )


def _sentence(error: HTTPException) -> str:
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            return "There is nothing here."
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return "This cannot be done here."
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return "The request is larger than the server takes."
    extra = error.extra if isinstance(error.extra, list) else []
    details = "; ".join(
        f"{one.get('key', 'request')}: {one.get('message', 'wrong')}"
        for one in extra
        if isinstance(one, dict)
    )
    return details or error.detail
