"""One streamed chat completion of an OpenAI-compatible endpoint.

Owns the client: the stream and its end. Which failures may pass is `_failures`; what is asked, and
what becomes of the answer, is the processors' business.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from processors._failures import FILTERED, Failures
from processors._wire import Answer, Connection, Deadlines
from reyna.content import Progress
from reyna.errors import Permanent, Transient

# The longest answer that is taken, in characters.
MAX_ANSWER = 400_000

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
_TOO_LONG = (
    "The text is too long for the model: split it, or set REYNA_TEXT_WINDOW to the model's real"
    " window."
)


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
        self._failures = Failures(reasons, _TOO_LONG, deadlines.whole, connection.api_key)

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
            with self._failures.named():
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
        if finish == FILTERED or refusal:
            raise self._failures.declined(refusal)


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
