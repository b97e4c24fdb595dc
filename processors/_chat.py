"""One streamed chat completion of an OpenAI-compatible endpoint.

Owns the client: the stream and its end, and which failures may pass (`Transient`) and
which will not (`Permanent`).

What is asked, and what becomes of the answer, is the processors' business.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence
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
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from processors._wire import Answer, Connection, Deadlines
from reyna.content import Progress
from reyna.errors import Permanent, Transient

# The longest answer that is taken, in characters.
MAX_ANSWER = 400_000

# As OpenAI and as llama.cpp say it.
_TOO_LONG = ("context_length_exceeded", "exceed_context_size_error")
_REASONS = {
    401: "The model's endpoint does not accept the key: check OPENAI_API_KEY.",
    403: "The key in OPENAI_API_KEY may not use this model: check REYNA_TEXT_MODEL.",
    404: (
        "The endpoint or the model was not found: check REYNA_TEXT_BASE_URL, which mostly ends in"
        " /v1, and REYNA_TEXT_MODEL."
    ),
}
_MAY_PASS = {408, 409, 425, 429}
_FIRST_SERVER_ERROR = 500
_LONGEST_WAIT = 3600.0
_QUOTED = 300


class Chat:
    """Asks one model of one endpoint."""

    def __init__(self, client: AsyncOpenAI, connection: Connection, deadlines: Deadlines) -> None:
        self._client = client
        self._model = connection.model
        self._options = connection.options
        self._turns = asyncio.Semaphore(connection.at_once)
        self._deadlines = deadlines

    async def ask(
        self, messages: Sequence[ChatCompletionMessageParam], progress: Progress
    ) -> Answer:
        """The answer to `messages`; each piece goes to `progress` as it comes.

        Waiting for its turn counts neither for the deadlines nor for the answer's seconds.
        """
        async with self._turns:
            began = time.perf_counter()
            with _failures_named(self._deadlines):
                async with asyncio.timeout(self._deadlines.whole):
                    answer = await self._stream(messages, progress)
            return msgspec.structs.replace(answer, seconds=round(time.perf_counter() - began, 3))

    async def _stream(
        self, messages: Sequence[ChatCompletionMessageParam], progress: Progress
    ) -> Answer:
        model = await self._name_model()
        stream = await self._client.chat.completions.create(
            model=model,
            messages=messages,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=self._options,
        )
        async with stream:
            return await _read(stream, model, progress)

    async def _name_model(self) -> str:
        if self._model is None:
            async for listed in self._client.models.list():
                self._model = listed.id
                break
            else:
                raise Permanent("The endpoint lists no model: name one in REYNA_TEXT_MODEL.")
        return self._model


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
        yield Chat(client, connection, deadlines)


@contextmanager
def _failures_named(deadlines: Deadlines) -> Iterator[None]:
    """Turns the client's errors into Transient and Permanent."""
    try:
        yield
    except APIStatusError as error:
        raise _refused(error) from error
    except APITimeoutError as error:
        raise Transient("The model fell silent.") from error
    except APIConnectionError as error:
        raise Transient("The connection to the model failed or was cut.") from error
    except APIError as error:
        raise Transient(f"The model reported an error: {_quote(error)}") from error
    except json.JSONDecodeError as error:
        raise Transient("The model sent what is not JSON.") from error
    except TimeoutError as error:
        limit = deadlines.whole
        raise Transient(f"The model did not finish within {limit:g} seconds.") from error


async def _read(
    stream: AsyncIterator[ChatCompletionChunk], model: str, progress: Progress
) -> Answer:
    pieces: list[str] = []
    length = 0
    refusal = ""
    finish: str | None = None
    tokens_in = tokens_out = None
    async for chunk in stream:
        model = chunk.model or model
        if chunk.usage is not None:
            tokens_in, tokens_out = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
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
    _check_end(finish, refusal)
    return Answer(
        text="".join(pieces),
        model=model,
        cut_short=finish == "length",
        tokens_in=tokens_in,
        tokens_out=tokens_out,
    )


def _check_end(finish: str | None, refusal: str) -> None:
    if finish is None:
        # A stream that merely stops raises nothing by itself.
        raise Transient("The answer broke off.")
    if finish == "content_filter" or refusal:
        reason = f": {refusal[:_QUOTED]}" if refusal else "."
        raise Permanent(f"The model's provider declined to answer this text{reason}")


def _refused(error: APIStatusError) -> Transient | Permanent:
    """What an HTTP error means for the run, and what to do about it."""
    status = error.status_code
    if error.code == "insufficient_quota":
        return Permanent("The account behind OPENAI_API_KEY has no credit left.")
    if status in _MAY_PASS or status >= _FIRST_SERVER_ERROR:
        return Transient(f"The model's endpoint answered {status}.", _retry_after(error))
    if error.code in _TOO_LONG or error.type in _TOO_LONG:
        return Permanent("The text is too long for the model: split it.")
    if status in _REASONS:
        return Permanent(_REASONS[status])
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
    return error.message[:_QUOTED]
