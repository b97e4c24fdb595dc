"""What the check of a blob's data costs, beside the bare validators called directly.

Ours is the whole of `Schemas.check`: finding the schema, writing the data as JSON, foreseeing the
cost of a user's schema, and the verdict. The first use of a schema also reads it from the log and
compiles it. Everything is called in one process, in turns, without HTTP.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import click
import fastjsonschema
import jsonschema_rs
import msgspec
import uvloop

import schemas as shipped
from bench.report import Report, json_option, median, ratio
from bench.seed import draft
from reyna.commands.boundaries import Boundaries
from reyna.commands.schemas import Schemas
from reyna.domain import schema
from reyna.domain.schema import SchemaRegistered
from reyna.errors import Invalid
from reyna.judge.definitions import Json
from reyna.judge.pool import Judges
from reyna.log import embedded
from reyna.log.connection import Connection
from reyna.log.stream import Guard, Log

OWNER = "bench"
FIRST_USES = 5
_CHAPTER: dict[str, Json] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["title", "scenes"],
    "properties": {
        "title": {"type": "string", "maxLength": 200},
        "status": {"enum": ["draft", "revised", "done"]},
        "words": {"type": "integer", "minimum": 0},
        "scenes": {
            "type": "array",
            "maxItems": 100,
            "items": {
                "type": "object",
                "required": ["text"],
                "properties": {"text": {"type": "string"}, "place": {"type": "string"}},
            },
        },
    },
}
_OUTLINE: dict[str, Json] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["heading"],
    "properties": {
        "heading": {"type": "string"},
        "below": {"type": "array", "items": {"$ref": "#"}},
    },
}


class Case(msgspec.Struct, frozen=True):
    """A schema with data. `calls`: how often each is called in a round."""

    name: str
    schema_id: str
    definition: dict[str, Json]
    data: object
    calls: int


class Sample(msgspec.Struct, frozen=True):
    """Microseconds a call: at the first use, compiling included, and later."""

    first: float
    later: float


def cases() -> list[Case]:
    """What is checked: a schema that ships, and a user's, valid and not, cheap and not."""
    own = {one.schema_id: msgspec.json.decode(one.definition) for one in shipped.load()}
    text = {"content": "It was a quiet morning. " * 12}
    scenes = [{"text": "It was a quiet morning. " * 5, "place": "harbour"}] * 5
    chapter = {"title": "One", "status": "draft", "words": 120, "scenes": scenes}
    wrong = chapter | {"status": "lost", "words": -1}
    outline = {"heading": "a", "below": [{"heading": "b", "below": [{"heading": "c"}]}] * 5}
    return [
        Case("ships", "text-input-v1", own["text-input-v1"], text, 3000),
        Case("a user's", "chapter-v1", _CHAPTER, chapter, 3000),
        Case("a user's, invalid, all errors", "chapter-v1", _CHAPTER, wrong, 500),
        Case("a user's, recursive: judged apart", "outline-v1", _OUTLINE, outline, 100),
    ]


def rust(case: Case) -> Sample:
    """The library jsonschema-rs alone."""
    validator = jsonschema_rs.validator_for(case.definition)
    first = _each(lambda: jsonschema_rs.validator_for(case.definition).is_valid(case.data), 50)
    return Sample(first, _each(lambda: validator.is_valid(case.data), case.calls))


def generated(case: Case) -> Sample:
    """The library fastjsonschema alone."""

    def check(validate: Callable[[object], object]) -> None:
        try:
            validate(case.data)
        except fastjsonschema.JsonSchemaValueException:
            return

    validate = fastjsonschema.compile(case.definition)
    first = _each(lambda: check(fastjsonschema.compile(case.definition)), FIRST_USES)
    return Sample(first, _each(lambda: check(validate), case.calls))


async def ours(case: Case, fresh: Callable[[], Awaitable[Schemas]]) -> Sample:
    """The product's own check. A first use is of a process that has just started."""

    async def check(schemas: Schemas) -> None:
        try:
            await schemas.check(case.schema_id, case.data, user_id=OWNER)
        except Invalid:
            return

    firsts = []
    for _ in range(FIRST_USES):
        schemas = await fresh()
        began = time.perf_counter()
        await check(schemas)
        firsts.append(time.perf_counter() - began)
    schemas = await fresh()
    await check(schemas)
    began = time.perf_counter()
    for _ in range(case.calls):
        await check(schemas)
    later = (time.perf_counter() - began) / case.calls
    return Sample(median(firsts, lambda one: one) * 1e6, later * 1e6)


def _each(call: Callable[[], object], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - began) / calls * 1e6


async def measure(rounds: int) -> list[tuple[Case, list[list[Sample]]]]:
    """Each case with the samples of jsonschema-rs, fastjsonschema and ours, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        async with embedded.running(Path(folder), "interval") as server:
            connection = await Connection.open(server.url, server.token)
            judges = Judges()
            try:
                log = await Log.open(connection)
                await _register(log)

                async def fresh() -> Schemas:
                    made = Schemas(log, Boundaries(log), judges)
                    await made.ship(shipped.load())
                    return made

                found = []
                for case in cases():
                    click.echo(case.name, err=True)
                    turns = [
                        [rust(case), generated(case), await ours(case, fresh)]
                        for _ in range(rounds)
                    ]
                    found.append((case, [list(samples) for samples in zip(*turns, strict=True)]))
                return found
            finally:
                await judges.close()
                await connection.close()


async def _register(log: Log) -> None:
    registered = [
        draft(
            OWNER,
            f"{name}-v1",
            SchemaRegistered(name=name, version=1, definition=_raw(definition), description=""),
        )
        for name, definition in (("chapter", _CHAPTER), ("outline", _OUTLINE))
    ]
    await log.append(registered, Guard(schema.boundary(OWNER), 0))


def _raw(definition: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(definition))


def _rows(case: Case, systems: Sequence[list[Sample]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    bare = median(systems[0], lambda one: one.later)
    for name, samples in zip(("jsonschema-rs", "fastjsonschema", "ours"), systems, strict=True):
        first = median(samples, lambda one: one.first)
        later = median(samples, lambda one: one.later)
        rows.append((case.name, name, f"{first:,.0f}", f"{later:,.2f}", ratio(later, bare)))
    return rows


@click.command()
@click.option("--rounds", default=5, show_default=True, help="How many times each is repeated.")
@json_option
def main(rounds: int, json_file: Path | None) -> None:
    """Measure what the check of a blob's data costs."""
    found = uvloop.run(measure(rounds))
    rows = [row for case, systems in found for row in _rows(case, systems)]
    columns = ("", "by", "first use µs", "later µs", "to jsonschema-rs")
    notes = ("The bare validators say yes or no; they neither write JSON nor list all errors.",)
    Report("The check of one blob", columns, tuple(rows), notes).show(json_file)


if __name__ == "__main__":
    main()
