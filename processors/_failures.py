"""Failures of an OpenAI-compatible endpoint: which may pass (`Transient`), which will not
(`Permanent`), and what is said about them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError

from processors._wire import TooLong
from reyna.errors import Permanent, Transient

FILTERED = "content_filter"

# As OpenAI and as llama.cpp say it.
_TOO_LONG = ("context_length_exceeded", "exceed_context_size_error")
_NO_CREDIT = 402
_MAY_PASS = {408, 409, 425, 429}
_FIRST_SERVER_ERROR = 500
_LONGEST_WAIT = 3600.0
_QUOTED = 300
# Keys as the big providers make them, whole or with their middle starred out.
_KEY = re.compile(r"\b(?:sk|pk|key)-[^\s\"',;]+")
_SHORTEST_KEY = 8


class Failures:
    """What an endpoint's failures mean. `reasons` says what to do about a status, that of 402 also
    when the account is empty; `whole` is how many seconds a request is given; `api_key` is never
    quoted.
    """

    def __init__(
        self, reasons: Mapping[int, str], too_long: str, whole: float, api_key: str
    ) -> None:
        self._reasons = reasons
        self._too_long = too_long
        self._whole = whole
        self._api_key = api_key

    @contextmanager
    def named(self) -> Iterator[None]:
        """Turns the client's errors into Transient and Permanent."""
        try:
            yield
        except APIStatusError as error:
            raise self._refused(error) from error
        except APITimeoutError as error:
            raise Transient("The model fell silent.") from error
        except APIConnectionError as error:
            raise Transient("The connection to the model failed or was cut.") from error
        except APIError as error:
            raise Transient(f"The model reported an error: {self._quote(error.message)}") from error
        except json.JSONDecodeError as error:
            raise Transient("The model sent what is not JSON.") from error
        except TimeoutError as error:
            raise Transient(f"The model did not finish within {self._whole:g} seconds.") from error

    def declined(self, reason: str) -> Permanent:
        """The provider would not answer, and perhaps said why."""
        said = f": {self._quote(reason)}" if reason else "."
        return Permanent(f"The model's provider declined to answer this text{said}")

    def _refused(self, error: APIStatusError) -> Transient | Permanent:
        """What an HTTP error means for the run, and what to do about it."""
        status = error.status_code
        if error.code == "insufficient_quota":
            return Permanent(self._reasons[_NO_CREDIT])
        if status in _MAY_PASS or status >= _FIRST_SERVER_ERROR:
            return Transient(f"The model's endpoint answered {status}.", _retry_after(error))
        if error.code in _TOO_LONG or error.type in _TOO_LONG:
            return TooLong(self._too_long)
        if error.code == FILTERED:
            return self.declined(error.message)
        if status in self._reasons:
            return Permanent(self._reasons[status])
        quoted = self._quote(error.message)
        return Permanent(f"The model's endpoint refused the request ({status}): {quoted}")

    def _quote(self, said: str) -> str:
        """What a provider said, without any key in it."""
        if len(self._api_key) >= _SHORTEST_KEY:
            said = said.replace(self._api_key, "…")
        return _KEY.sub("…", said)[:_QUOTED]


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
