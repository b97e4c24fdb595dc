"""Text expansion: a rough text in, the same text written out.

Owns the settings, what is asked for by them and by the text itself, and what is told of the result.
Which model writes is `_models`, how a long text is written `_writing`, the words it is asked with
`_prompts`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from processors._models import Models
from processors._prompts import Task
from processors._wire import Answer, Deadlines
from processors._writing import Author, Desk, begin
from reyna.content import Derived, ProcessorSpec, Progress, Readiness, Source
from reyna.errors import Permanent
from reyna.settings import Settings

MAX_STYLE = 1000
SAME_LANGUAGE = "original"
# Seconds: a text in 200 pieces takes its time. A model that stands still is given up long before.
ATTEMPT_TIMEOUT = 2 * 3600.0


class ExpansionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a user may set, for good or for one run. The settings schema is made of this."""

    style: (
        Annotated[
            str,
            Meta(
                max_length=MAX_STYLE,
                description="How expansions are to sound; a text's own `style` goes before it.",
            ),
        ]
        | UnsetType
    ) = UNSET
    length_factor: Annotated[
        float, Meta(ge=1.5, le=10, description="How many times its length a text is to become.")
    ] = 3.0
    language: Annotated[
        str,
        Meta(
            max_length=35,
            pattern=r"^(original|[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*)$",
            description="The language to write in, a BCP 47 tag, or `original`: that of the text.",
        ),
    ] = SAME_LANGUAGE
    temperature: (
        Annotated[float, Meta(ge=0, le=2, description="How freely the model writes.")] | UnsetType
    ) = UNSET
    api_key: (
        Annotated[
            str,
            Meta(
                min_length=8,
                max_length=500,
                pattern=r"^[!-~]+$",
                description="A key of your own for the model's endpoint; it pays for your texts.",
                extra_json_schema={"writeOnly": True},
            ),
        ]
        | UnsetType
    ) = UNSET
    model: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=200,
                pattern=r"^[!-~]+$",
                description="Another model of the same endpoint, for a key of your own.",
            ),
        ]
        | UnsetType
    ) = UNSET


class TextInput(msgspec.Struct, frozen=True):
    """What is read of `text-input-v1`."""

    content: str
    style: str | None = None


class ExpandedText(msgspec.Struct, frozen=True):
    """`expanded-text-v1`. The ratio is characters of `expanded` for each of `original`."""

    original: str
    expanded: str
    expansion_ratio: float


def settings_schema() -> msgspec.Raw:
    """The JSON Schema of `ExpansionSettings`. Who pays for a model chooses it."""
    _, parts = msgspec.json.schema_components([ExpansionSettings])
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **parts[ExpansionSettings.__name__],
        "dependencies": {"model": ["api_key"]},
    }
    return msgspec.Raw(msgspec.json.encode(schema))


class TextExpansion:
    """The processor. Usable again after its lifespan has ended, but by one lifespan at a time."""

    spec = ProcessorSpec(
        processor_id="text-expansion",
        name="Text expansion",
        description="Writes a rough text out in full, with a language model.",
        version="2",
        input_schema_id="text-input-v1",
        output_schema_id="expanded-text-v1",
        settings_schema=settings_schema(),
        default_active=True,
        attempt_timeout=ATTEMPT_TIMEOUT,
    )

    def __init__(self, deadlines: Deadlines | None = None) -> None:
        self._models = Models(deadlines or Deadlines())
        self._desk = Desk()
        self._max_bytes = Settings().max_blob_bytes

    @asynccontextmanager
    async def lifespan(self, settings: Settings) -> AsyncIterator[None]:
        """Open the model that the settings ask for, or the local one if they ask for none."""
        self._desk, self._max_bytes = Desk(), settings.max_blob_bytes
        try:
            async with self._models.lifespan(settings):
                yield
        finally:
            self._desk = Desk()

    def readiness(self) -> Readiness:
        """Ready with a model; the advice says what to set for one, or for a better one."""
        return self._models.readiness()

    async def run(self, source: Source, progress: Progress) -> Derived:
        """Expand the text of `source`.

        Raises Transient and Permanent as `reyna.content.Processor` says.
        """
        wish = _wish(source)
        text = _text(source)
        task = _task(text, wish)
        self._check_length(task)
        model = self._models.model(wish.api_key or None, wish.model or None)
        options = {} if wish.temperature is UNSET else {"temperature": wish.temperature}
        fresh = await asyncio.to_thread(begin, model, task)
        with self._desk.writing(_key(source, wish), fresh) as manuscript:
            await Author(model, task, options).finish(manuscript, progress)
        answers = [passage.answer for passage in manuscript.passages]
        ratio = round(len(manuscript.text) / len(text.content), 3)
        result = ExpandedText(text.content, manuscript.text, ratio)
        return Derived(
            data=msgspec.Raw(msgspec.json.encode(result)),
            title=source.title,
            model=answers[-1].model,
            prompt_version=model.prompt_version,
            tokens_in=_total([answer.tokens_in for answer in answers]),
            tokens_out=_total([answer.tokens_out for answer in answers]),
            cost=_cost(answers, model.price),
            seconds=round(sum(answer.seconds for answer in answers), 3),
        )

    def _check_length(self, task: Task) -> None:
        """Raise Permanent, before anything is paid, for what could not be kept."""
        size = len(msgspec.json.encode(task.content))
        if size * (1 + task.length_factor) > self._max_bytes:
            raise Permanent(
                f"The text is too long: written out at {task.length_factor:g} times its length, it"
                f" would be over the {self._max_bytes} bytes that a blob may have. Split it into"
                " several texts, or ask for a smaller length factor."
            )


def _text(source: Source) -> TextInput:
    try:
        text = msgspec.json.decode(source.data, type=TextInput)
    except msgspec.MsgspecError as error:
        raise Permanent(f"The source is no text input: {error}") from error
    if not text.content.strip():
        raise Permanent("The text is blank: there is nothing to expand.")
    if text.style and len(text.style) > MAX_STYLE:
        raise Permanent(f"The style is too long: at most {MAX_STYLE} characters.")
    return text


def _wish(source: Source) -> ExpansionSettings:
    try:
        return msgspec.json.decode(source.settings, type=ExpansionSettings)
    except msgspec.MsgspecError as error:
        raise Permanent(f"The settings do not fit this processor: {error}") from error


def _task(text: TextInput, wish: ExpansionSettings) -> Task:
    style = (text.style or "").strip() or (wish.style or "").strip()
    return Task(
        content=text.content,
        length_factor=wish.length_factor,
        style=style or None,
        language=None if wish.language == SAME_LANGUAGE else wish.language,
    )


def _key(source: Source, wish: ExpansionSettings) -> str:
    """What an unfinished text is kept under: its owner asked for the same, whoever paid for it."""
    asked = msgspec.json.encode(msgspec.structs.replace(wish, api_key=UNSET))
    digest = hashlib.sha256()
    for part in (source.owner.encode(), source.blob_id.encode(), source.data, asked):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _total(counts: Sequence[int | None]) -> int | None:
    """The sum, None as soon as one is not known."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _cost(answers: Sequence[Answer], price: tuple[float, float] | None) -> float | None:
    """US dollars: what the endpoint says, else by the price of tokens; None if neither is known."""
    costs = [answer.cost for answer in answers]
    if None not in costs:
        return round(sum(cost for cost in costs if cost is not None), 8)
    read = _total([answer.tokens_in for answer in answers])
    written = _total([answer.tokens_out for answer in answers])
    if price is None or read is None or written is None:
        return None
    return round((read * price[0] + written * price[1]) / 1_000_000, 8)


processor = TextExpansion()
