"""What a processor and the client of its model tell each other. Owns these types alone.

They stand apart from the client because that takes a second to import, which nothing but an answer
has to wait for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from reyna.content import Progress
from reyna.errors import Permanent

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam


class Deadlines(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds to wait: for a connection, for the next piece of the answer, for all of it."""

    connect: float = 10.0
    silence: float = 120.0
    whole: float = 600.0


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint, and how it is used.

    `model` None means the first that it lists. `at_once` is how many requests may be under way,
    `options` goes into each of them, and `direct` means never by way of a proxy.
    """

    base_url: str
    api_key: str
    model: str | None = None
    at_once: int = 16
    options: dict[str, float] = msgspec.field(default_factory=dict)
    direct: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the model wrote. `cut_short` says that it ran out of room.

    Model, tokens and cost (US dollars) are as the endpoint reports them, None where it does not;
    `seconds` is from request to end.
    """

    text: str
    model: str
    cut_short: bool
    tokens_in: int | None
    tokens_out: int | None
    cost: float | None = None
    seconds: float = 0.0


class TooLong(Permanent):
    """The model has no room for what it was asked; nothing of an answer was written."""


class Chat(Protocol):
    """One model of one endpoint, ready to be asked."""

    async def ask(
        self,
        messages: Sequence[ChatCompletionMessageParam],
        progress: Progress,
        options: Mapping[str, float] | None = None,
    ) -> Answer:
        """The answer to `messages`; each piece goes to `progress` as it comes. `options` go before
        the connection's.

        Raises Transient, Permanent, and of the latter TooLong where shorter messages would do.
        """

    def with_key(self, api_key: str, model: str | None) -> Chat:
        """The same endpoint, asked with a user's own key, and for another model if one is named."""
