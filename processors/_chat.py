"""One streamed chat completion of an OpenAI-compatible endpoint.

Owns the client: the stream and its end. Which failures may pass is `_failures`; what is asked, and
what becomes of the answer, is the processors' business.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from processors._failures import QUOTED, failures_named
from processors._wire import Answer, Connection, Deadlines
from reyna.content import Progress
from reyna.errors import Permanent, Transient

# The longest answer that is taken, in characters.
MAX_ANSWER = 400_000


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
            with failures_named("TEXT", self._deadlines.whole):
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
        reason = f": {refusal[:QUOTED]}" if refusal else "."
        raise Permanent(f"The model's provider declined to answer this text{reason}")
