"""Failures of an OpenAI-compatible endpoint: which may pass (`Transient`), which will not
(`Permanent`), and what to do about them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError

from reyna.errors import Permanent, Transient

# As OpenAI and as llama.cpp say it.
_TOO_LONG = ("context_length_exceeded", "exceed_context_size_error")
_REASONS = {
    401: "The model's endpoint does not accept the key: check OPENAI_API_KEY.",
    403: "The key in OPENAI_API_KEY may not use this model: check REYNA_{}_MODEL.",
    404: (
        "The endpoint or the model was not found: check REYNA_{0}_BASE_URL, which mostly ends in"
        " /v1, and REYNA_{0}_MODEL."
    ),
}
_MAY_PASS = {408, 409, 425, 429}
_FIRST_SERVER_ERROR = 500
_LONGEST_WAIT = 3600.0
QUOTED = 300


@contextmanager
def failures_named(settings: str, whole: float) -> Iterator[None]:
    """Turns the client's errors into Transient and Permanent.

    `settings` is the word in the names of the settings to look at, `REYNA_{settings}_MODEL`;
    `whole` how many seconds the request was given.
    """
    try:
        yield
    except APIStatusError as error:
        raise _refused(error, settings) from error
    except APITimeoutError as error:
        raise Transient("The model fell silent.") from error
    except APIConnectionError as error:
        raise Transient("The connection to the model failed or was cut.") from error
    except APIError as error:
        raise Transient(f"The model reported an error: {_quote(error)}") from error
    except json.JSONDecodeError as error:
        raise Transient("The model sent what is not JSON.") from error
    except TimeoutError as error:
        raise Transient(f"The model did not finish within {whole:g} seconds.") from error


def _refused(error: APIStatusError, settings: str) -> Transient | Permanent:
    """What an HTTP error means for the run, and what to do about it."""
    status = error.status_code
    if error.code == "insufficient_quota":
        return Permanent("The account behind OPENAI_API_KEY has no credit left.")
    if status in _MAY_PASS or status >= _FIRST_SERVER_ERROR:
        return Transient(f"The model's endpoint answered {status}.", _retry_after(error))
    if error.code in _TOO_LONG or error.type in _TOO_LONG:
        return Permanent("The text is too long for the model: split it.")
    if status in _REASONS:
        return Permanent(_REASONS[status].format(settings))
    return Permanent(f"The model's endpoint refused the request ({status}): {_quote(error)}")


def _retry_after(error: APIStatusError) -> float | None:
    """The seconds in `Retry-After`, a number or a date; None without a sensible one."""
    header = error.response.headers.get("retry-after", "")
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), _LONGEST_WAIT) if math.isfinite(seconds) else None


def _quote(error: APIError) -> str:
    return error.message[:QUOTED]
