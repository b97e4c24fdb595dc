"""Processors tried out: given a source and settings, when run, then what came of it. Owns the same
checks before and after that a worker makes; nothing is stored, and nothing is tried again.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from reyna import content
from reyna.commands.instances import check, with_defaults
from reyna.content import Derived, Processor, Source
from reyna.ids import new_id
from reyna.judge import drafts
from reyna.settings import Settings


class Attempted(msgspec.Struct, frozen=True):
    """What an attempt made. `data` is the JSON of `derived`, decoded; `progress` each piece that
    was told on the way.
    """

    derived: Derived
    data: object
    progress: tuple[str, ...]


async def attempt(
    processor: Processor,
    data: object,
    *,
    schema_id: str | None = None,
    title: str | None = None,
    settings: Mapping[str, object] | None = None,
    server: Settings | None = None,
    schemas: Mapping[str, object] | None = None,
) -> Attempted:
    """One attempt of a processor at a blob that holds `data`.

    `schema_id` is the blob's, by default the processor's input schema. `settings` are the user's,
    secrets among them; `server` the server's. `schemas` are definitions by id for what no installed
    package ships.

    Raises what the processor raises (Permanent, Transient), `reyna.errors.Invalid` for settings
    that do not fit it, and AssertionError when it is not ready, when it does not read the schema,
    and for data, given or made, that is not valid.
    """
    spec = processor.spec
    schema_id = schema_id or spec.input_schema_id
    if schema_id not in spec.reads:
        raise AssertionError(f"{spec.processor_id} does not read {schema_id}.")
    shipped = {one.schema_id: msgspec.json.decode(one.definition) for one in content.schemas()}
    known: dict[str, object] = {**shipped, **(schemas or {})}
    _check(known, schema_id, data)
    wanted = msgspec.json.decode(spec.settings_schema)
    check(wanted, settings or {})
    source = Source(
        owner=new_id(),
        blob_id=new_id(),
        schema_id=schema_id,
        data=msgspec.Raw(msgspec.json.encode(data)),
        title=title,
        settings=msgspec.Raw(msgspec.json.encode(with_defaults(wanted, settings or {}))),
    )
    told: list[str] = []

    async def progress(text: str) -> None:
        told.append(text)

    async with processor.lifespan(server or Settings()):
        readiness = processor.readiness()
        if not readiness.ready:
            raise AssertionError(f"{spec.processor_id} is not ready: {readiness.advice}")
        derived = await processor.run(source, progress)
    made: object = msgspec.json.decode(derived.data)
    _check(known, spec.output_schema_id, made)
    return Attempted(derived, made, tuple(told))


def _check(known: Mapping[str, object], schema_id: str, data: object) -> None:
    if schema_id not in known:
        raise AssertionError(f"No installed package ships {schema_id}: give it in `schemas`.")
    definition = known[schema_id]
    errors = drafts.errors_of(drafts.compiled(definition, {}), data, "")
    if errors:
        said = "; ".join(f"{one.path or '/'} {one.message}" for one in errors)
        raise AssertionError(f"Not valid under {schema_id}: {said}")
