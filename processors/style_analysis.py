"""Style analysis: how a text is written, in figures, without a model.

Owns which text is looked at, and that looking at it never holds up anybody else: texts are counted
in processes of their own, which end when their time is up. What is counted is `_style`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_process
import msgspec

from processors import _style
from reyna.content import Derived, ProcessorSpec, Progress, Readiness, Source
from reyna.errors import Permanent, Transient
from reyna.settings import Settings

EXPANDED = "expanded-text-v1"
# Seconds. A mebibyte of prose takes eight.
DEADLINE = 60.0
NOT_OPEN = "The style analysis is not running."

_SETTINGS = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        "language": {
            "enum": list(_style.LANGUAGES),
            "default": "en",
            "description": "The language of the texts. The tone is told of English ones alone.",
        }
    },
    "additionalProperties": False,
}


class Chosen(msgspec.Struct, frozen=True):
    """The settings."""

    language: str


class Written(msgspec.Struct, frozen=True):
    """What is read of `text-input-v1`."""

    content: str


class WrittenOut(msgspec.Struct, frozen=True):
    """What is read of `expanded-text-v1`."""

    expanded: str


class StyleAnalysis:
    """The processor."""

    spec = ProcessorSpec(
        processor_id="style-analysis",
        name="Style analysis",
        description="Tells how a text is written: readability, sentences, words, tone.",
        version="1",
        input_schema_id="text-input-v1",
        also_reads=(EXPANDED,),
        output_schema_id="style-analysis-v1",
        settings_schema=msgspec.Raw(msgspec.json.encode(_SETTINGS)),
    )

    def __init__(self, deadline: float = DEADLINE) -> None:
        self._deadline = deadline
        self._places: anyio.CapacityLimiter | None = None

    @asynccontextmanager
    async def lifespan(self, settings: Settings) -> AsyncIterator[None]:
        """Processes start with the first texts, at most one for each run at once."""
        self._places = anyio.CapacityLimiter(settings.runs_at_once)
        try:
            yield
        finally:
            self._places = None

    def readiness(self) -> Readiness:
        """Ready as long as it is open."""
        is_open = self._places is not None
        return Readiness(is_open, None if is_open else NOT_OPEN)

    async def run(self, source: Source, progress: Progress) -> Derived:
        """Count the text of `source`. Raises Permanent for one without a word, or that takes too
        long.
        """
        if self._places is None:
            raise Transient(NOT_OPEN)
        language = msgspec.json.decode(source.settings, type=Chosen).language
        began = time.perf_counter()
        try:
            with anyio.fail_after(self._deadline):
                style = await anyio.to_process.run_sync(
                    _style.style_of,
                    _text_of(source),
                    language,
                    cancellable=True,
                    limiter=self._places,
                )
        except TimeoutError:
            raise Permanent(f"The text cannot be counted in {self._deadline:g} s.") from None
        except anyio.BrokenWorkerProcess as error:
            raise Transient("The process that counts was lost.") from error
        if style is None:
            raise Permanent(f"There is no word of the language {language} in the text.")
        seconds = round(time.perf_counter() - began, 3)
        return Derived(data=msgspec.Raw(style), title=source.title, seconds=seconds)


def _text_of(source: Source) -> str:
    try:
        if source.schema_id == EXPANDED:
            return msgspec.json.decode(source.data, type=WrittenOut).expanded
        return msgspec.json.decode(source.data, type=Written).content
    except msgspec.MsgspecError as error:
        raise Permanent(f"The source is no text: {error}") from error


processor = StyleAnalysis()
