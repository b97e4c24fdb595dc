"""A processor that counts the words of each text."""

from contextlib import nullcontext

import msgspec

from reyna.content import Derived, ProcessorSpec, Progress, Readiness, Source
from reyna.errors import Permanent
from reyna.settings import Settings

SETTINGS = {"properties": {"shortest": {"type": "integer", "minimum": 1, "default": 1}}}


class WordCount:
    spec = ProcessorSpec(
        processor_id="word-count",
        name="Word count",
        description="Counts the words of a text that have enough letters.",
        version="1",
        input_schema_id="text-input-v1",
        output_schema_id="word-count-v1",
        settings_schema=msgspec.Raw(msgspec.json.encode(SETTINGS)),
    )

    def lifespan(self, settings: Settings) -> nullcontext[None]:
        return nullcontext()

    def readiness(self) -> Readiness:
        return Readiness(ready=True)

    async def run(self, source: Source, progress: Progress) -> Derived:
        text, wish = (msgspec.json.decode(raw) for raw in (source.data, source.settings))
        words = [word for word in text["content"].split() if len(word) >= wish["shortest"]]
        if not words:
            raise Permanent("There is no word to count.")
        return Derived(data=msgspec.Raw(msgspec.json.encode({"words": len(words)})))


processor = WordCount()
