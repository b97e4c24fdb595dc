"""One streamed chat completion of an OpenAI-compatible endpoint.

Owns the client: the stream and its end, and which failures may pass (`Transient`) and
which will not (`Permanent`).

What is asked, and what becomes of the answer, is the processors' business.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec
from openai import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    AsyncOpenAI,
    DefaultAsyncHttpxClient,
    Timeout,
)
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from processors._wire import Answer, Connection, Deadlines, TooLong
from reyna.content import Progress
from reyna.errors import Permanent, Transient

# The longest answer that is taken, in characters.
MAX_ANSWER = 400_000

# As OpenAI and as llama.cpp say it.
_TOO_LONG = ("context_length_exceeded", "exceed_context_size_error")
_FILTERED = "content_filter"
# What an operator reads about the server's key, and a user about their own.
_OPERATOR = {
    401: "The model's endpoint does not accept the server's key: check OPENAI_API_KEY.",
    402: "The account behind OPENAI_API_KEY has no credit left.",
    403: "The server's key may not use this model: check OPENAI_API_KEY and REYNA_TEXT_MODEL.",
    404: (
        "The endpoint or the model was not found: check REYNA_TEXT_BASE_URL, which mostly ends in"
        " /v1, and REYNA_TEXT_MODEL."
    ),
}
_USER = {
    401: "The model's endpoint does not accept your own key: set api_key anew in your settings.",
    402: "The account behind your own key has no credit left.",
    403: "Your own key may not use this model: check api_key and model in your settings.",
    404: "Your own key has no such model at this endpoint: check model in your settings.",
}
_NO_CREDIT = 402
_MAY_PASS = {408, 409, 425, 429}
_FIRST_SERVER_ERROR = 500
_LONGEST_WAIT = 3600.0
_QUOTED = 300
# Keys as the big providers make them, whole or with their middle starred out.
_KEY = re.compile(r"\b(?:sk|pk|key)-[^\s\"',;]+")
_SHORTEST_KEY = 8


class Chat:
    """Asks one model of one endpoint."""

    def __init__(
        self,
        client: AsyncOpenAI,
        connection: Connection,
        deadlines: Deadlines,
        turns: asyncio.Semaphore,
        reasons: Mapping[int, str] = _OPERATOR,
    ) -> None:
        self._client = client
        self._connection = connection
        self._model = connection.model
        self._turns = turns
        self._deadlines = deadlines
        self._reasons = reasons

    def with_key(self, api_key: str, model: str | None) -> Chat:
        """The same endpoint, asked with a user's own key, and for another model if one is named.

        Connections and turns are shared, the key is in this one's requests alone.
        """
        connection = msgspec.structs.replace(
            self._connection, api_key=api_key, model=model or self._connection.model
        )
        client = self._client.with_options(api_key=api_key)
        # The operator's account at OpenAI, which the client reads from its own variables.
        client.organization = client.project = None
        return Chat(client, connection, self._deadlines, self._turns, _USER)

    async def ask(
        self,
        messages: Sequence[ChatCompletionMessageParam],
        progress: Progress,
        options: Mapping[str, float] | None = None,
    ) -> Answer:
        """The answer to `messages`; each piece goes to `progress` as it comes.

        Waiting for its turn counts neither for the deadlines nor for the answer's seconds.
        """
        async with self._turns:
            began = time.perf_counter()
            with self._failures_named():
                async with asyncio.timeout(self._deadlines.whole):
                    answer = await self._stream(messages, progress, options or {})
            return msgspec.structs.replace(answer, seconds=round(time.perf_counter() - began, 3))

    async def _stream(
        self,
        messages: Sequence[ChatCompletionMessageParam],
        progress: Progress,
        options: Mapping[str, float],
    ) -> Answer:
        model = await self._name_model()
        stream = await self._client.chat.completions.create(
            model=model,
            messages=messages,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={**self._connection.options, **options},
        )
        async with stream:
            return await self._read(stream, model, progress)

    async def _name_model(self) -> str:
        if self._model is None:
            async for listed in self._client.models.list():
                self._model = listed.id
                break
            else:
                raise Permanent("The endpoint lists no model: name one in REYNA_TEXT_MODEL.")
        return self._model

    async def _read(
        self, stream: AsyncIterator[ChatCompletionChunk], model: str, progress: Progress
    ) -> Answer:
        pieces: list[str] = []
        length = 0
        refusal = ""
        finish: str | None = None
        usage: CompletionUsage | None = None
        async for chunk in stream:
            model = chunk.model or model
            usage = chunk.usage or usage
            for choice in chunk.choices[:1]:
                finish = choice.finish_reason or finish
                refusal += choice.delta.refusal or ""
                piece = choice.delta.content
                if piece:
                    pieces.append(piece)
                    length += len(piece)
                    if length > MAX_ANSWER:
                        raise Permanent("The model came to no end.")
                    await progress(piece)
        self._check_end(finish, refusal)
        return Answer(
            text="".join(pieces),
            model=model,
            cut_short=finish == "length",
            tokens_in=usage.prompt_tokens if usage else None,
            tokens_out=usage.completion_tokens if usage else None,
            cost=_cost(usage),
        )

    def _check_end(self, finish: str | None, refusal: str) -> None:
        if finish is None:
            # A stream that merely stops raises nothing by itself.
            raise Transient("The answer broke off.")
        if finish == _FILTERED or refusal:
            raise self._declined(refusal)

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
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
            limit = self._deadlines.whole
            raise Transient(f"The model did not finish within {limit:g} seconds.") from error

    def _refused(self, error: APIStatusError) -> Transient | Permanent:
        """What an HTTP error means for the run, and what to do about it."""
        status = error.status_code
        if error.code == "insufficient_quota":
            return Permanent(self._reasons[_NO_CREDIT])
        if status in _MAY_PASS or status >= _FIRST_SERVER_ERROR:
            return Transient(f"The model's endpoint answered {status}.", _retry_after(error))
        if error.code in _TOO_LONG or error.type in _TOO_LONG:
            return TooLong(
                "The text is too long for the model: split it, or set REYNA_TEXT_WINDOW to the"
                " model's real window."
            )
        if error.code == _FILTERED:
            return self._declined(error.message)
        if status in self._reasons:
            return Permanent(self._reasons[status])
        quoted = self._quote(error.message)
        return Permanent(f"The model's endpoint refused the request ({status}): {quoted}")

    def _declined(self, reason: str) -> Permanent:
        said = f": {self._quote(reason)}" if reason else "."
        return Permanent(f"The model's provider declined to answer this text{said}")

    def _quote(self, said: str) -> str:
        """What a provider said, without any key in it."""
        key = self._connection.api_key
        if len(key) >= _SHORTEST_KEY:
            said = said.replace(key, "…")
        return _KEY.sub("…", said)[:_QUOTED]


@asynccontextmanager
async def connected(connection: Connection, deadlines: Deadlines) -> AsyncIterator[Chat]:
    """A chat for the length of the block; afterwards all its connections are closed."""
    timeout = Timeout(deadlines.silence, connect=deadlines.connect)
    client = AsyncOpenAI(
        base_url=connection.base_url,
        api_key=connection.api_key,
        # Attempts are counted and put off by whoever runs the processor.
        max_retries=0,
        timeout=timeout,
        http_client=DefaultAsyncHttpxClient(timeout=timeout, trust_env=not connection.direct),
    )
    async with client:
        yield Chat(client, connection, deadlines, asyncio.Semaphore(connection.at_once))


def _cost(usage: CompletionUsage | None) -> float | None:
    """The US dollars that an endpoint says it took; most say nothing."""
    said = (usage.model_extra or {}).get("cost") if usage else None
    if isinstance(said, int | float) and math.isfinite(said) and said >= 0:
        return float(said)
    return None


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
