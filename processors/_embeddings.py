"""Embeddings from an OpenAI-compatible endpoint. Owns the client, and how a text is cut for it.

Which failures may pass is `_failures`; what is embedded, and when, is the processors' business.
"""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout

from processors._failures import Failures
from processors._vectors import Embedded, Piece, averaged
from processors._wire import Connection, Deadlines
from reyna.errors import Permanent, Transient

# Characters of a piece: some 450 tokens of English, which fit into the windows of 512 that many
# models have.
PIECE = 2000
# Pieces in one request.
_AT_ONCE = 32
_REASONS = {
    401: "The embeddings' endpoint does not accept the key: check OPENAI_API_KEY.",
    402: "The account behind OPENAI_API_KEY has no credit left.",
    403: "The key in OPENAI_API_KEY may not use this model: check REYNA_EMBED_MODEL.",
    404: (
        "The endpoint or the model was not found: check REYNA_EMBED_BASE_URL, which mostly ends in"
        " /v1, and REYNA_EMBED_MODEL."
    ),
}
_TOO_LONG = f"The model's window is smaller than a piece of {PIECE} characters: choose another."


class _Vector(msgspec.Struct, frozen=True):
    index: int
    embedding: list[float]


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0


class _Answer(msgspec.Struct, frozen=True):
    data: list[_Vector]
    usage: _Usage | None = None


class Endpoint:
    """Embeds by one model of one endpoint."""

    def __init__(self, client: AsyncOpenAI, connection: Connection, deadlines: Deadlines) -> None:
        if connection.model is None:
            raise Permanent("Name the model in REYNA_EMBED_MODEL.")
        self._client = client
        self._model = connection.model
        self._whole = deadlines.whole
        self._failures = Failures(_REASONS, _TOO_LONG, deadlines.whole, connection.api_key)

    async def embed(self, text: str) -> Embedded:
        """The embedding of a text, of all its pieces together. Raises Transient and Permanent."""
        pieces = await asyncio.to_thread(_cut, text)
        found: list[Piece] = []
        tokens = 0
        with self._failures.named():
            async with asyncio.timeout(self._whole):
                for start in range(0, len(pieces), _AT_ONCE):
                    some = pieces[start : start + _AT_ONCE]
                    answer = await self._ask(some)
                    found += _pieces(some, answer)
                    tokens += answer.usage.prompt_tokens if answer.usage else 0
        embedding = await asyncio.to_thread(averaged, self._model, found)
        return Embedded(embedding, tokens or None)

    async def _ask(self, texts: list[str]) -> _Answer:
        # Raw, because the client takes what is not an answer for one; and not in base64, which it
        # asks for unless told, and not every endpoint knows.
        raw = await self._client.embeddings.with_raw_response.create(
            model=self._model, input=texts, encoding_format="float"
        )
        try:
            return msgspec.json.decode(raw.content, type=_Answer)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Transient(f"The model sent what is no embedding: {error}") from error


@asynccontextmanager
async def connected(connection: Connection, deadlines: Deadlines) -> AsyncIterator[Endpoint]:
    """An endpoint for the length of the block; afterwards all its connections are closed."""
    timeout = Timeout(deadlines.silence, connect=deadlines.connect)
    client = AsyncOpenAI(
        base_url=connection.base_url,
        api_key=connection.api_key,
        # Attempts are counted and put off by whoever runs the processor.
        max_retries=0,
        timeout=timeout,
        http_client=DefaultAsyncHttpxClient(timeout=timeout),
    )
    async with client:
        yield Endpoint(client, connection, deadlines)


def _cut(text: str) -> list[str]:
    return textwrap.wrap(text, PIECE, break_on_hyphens=False)


def _pieces(texts: Sequence[str], answer: _Answer) -> list[Piece]:
    found = sorted(answer.data, key=lambda one: one.index)
    if [one.index for one in found] != list(range(len(texts))):
        raise Transient(f"The model answered {len(found)} vectors to {len(texts)} texts.")
    return [Piece(one.embedding, len(text)) for one, text in zip(found, texts, strict=True)]
