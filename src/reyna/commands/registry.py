"""Commands on schemas: register the next version, change a status; and the two dry runs.

Everything a user's definition can do is judged before anything is appended. An owner's schemas are
one boundary, so versions follow each other without a gap, whoever registers at the same time.
"""

from __future__ import annotations

import re

import msgspec

from reyna.commands.boundaries import Boundaries
from reyna.commands.handler import Caller, Decision, Handler, IfMatch, check_match
from reyna.commands.idempotency import Answer
from reyna.commands.requests import RegisterSchema
from reyna.commands.schemas import Known, Schemas
from reyna.commands.stored_blobs import Sifted, StoredBlobs
from reyna.domain import schema
from reyna.domain.schema import SYSTEM, Compatibility, SchemaRegistered, SchemaRules, Status
from reyna.errors import Conflict, FieldError, Forbidden, Invalid, Malformed
from reyna.judge import definitions
from reyna.judge.compatibility import is_transitive
from reyna.judge.pool import Judges
from reyna.judge.tasks import Check, Compare, Definition, Explain, Older
from reyna.log.subjects import schema_token, token

MAX_DESCRIPTION = 2000
MAX_EXAMPLES = 20
MAX_EXAMPLE_BYTES = 64 * 1024

_ID = re.compile(r".*-v[0-9]+\Z")


class Verdict(msgspec.Struct, frozen=True):
    """What a candidate would break. `seq`: what was known when it was judged."""

    mode: Compatibility
    breaks: tuple[FieldError, ...]
    blobs: Sifted
    seq: int


class Registry:
    """The schemas of users, and, for admins, of the system."""

    def __init__(
        self,
        handler: Handler,
        boundaries: Boundaries,
        schemas: Schemas,
        judges: Judges,
        blobs: StoredBlobs,
    ) -> None:
        self._handler = handler
        self._boundaries = boundaries
        self._schemas = schemas
        self._judges = judges
        self._blobs = blobs

    async def register(self, caller: Caller, owner: str, asked: RegisterSchema) -> Answer:
        """Register the next version of a name for `owner`.

        Raises Invalid for what is no schema, Conflict for a taken name or a break of the promised
        compatibility, with every place.
        """
        schema.check_name(asked.name)
        _check_description(asked)
        if asked.processor_id is not None:
            token(asked.processor_id)
        definition = await self._judged(caller.user_id, asked.definition)
        examples = await self._examples(caller.user_id, asked, definition)

        async def attempt(_: str) -> Decision:
            state = await self._schemas.load(owner)
            rules = SchemaRules(owner, state)
            event = SchemaRegistered(
                name=asked.name,
                version=schema.next_version(state, asked.name),
                definition=msgspec.Raw(definition.text),
                status=asked.status,
                description=asked.description,
                compatibility=asked.compatibility or _mode(state, asked.name),
                examples=examples,
                processor_id=asked.processor_id,
            )
            rules.register(event, await self._taken(owner))
            if event.status == "active":
                await self._check_compatible(caller, state, event, definition)
            return Decision(rules, state.seq)

        async with self._boundaries.locked(f"schemas {owner}"):
            return await self._handler.change(caller, schema.boundary(owner), attempt)

    async def change_status(
        self, caller: Caller, owner: str, schema_id: str, status: Status, if_match: IfMatch
    ) -> Answer:
        """Make a version a draft, active or deprecated. What becomes active must keep the promise
        to the active versions before it.

        Raises Forbidden for one of the system's, unless `owner` is the system.
        """

        async def attempt(_: str) -> Decision:
            state = await self._schemas.load(owner)
            if schema_id not in state.by_id and owner != SYSTEM:
                await self._schemas.find(SYSTEM, schema_id)
                raise Forbidden("This schema is the system's; only an admin changes its status.")
            found = state.get(schema_id)
            check_match(found.seq, if_match)
            rules = SchemaRules(owner, state)
            rules.change_status(schema_id, status)
            if found.status == status:
                return Decision(rules, found.seq)
            if status == "active":
                event = found.registered
                text = bytes(event.definition)
                definition = await self._schemas.definition(
                    owner, msgspec.json.decode(text), text, "/definition"
                )
                await self._check_compatible(caller, state, event, definition)
            return Decision(rules, state.seq)

        target = msgspec.structs.replace(schema.boundary(owner), entity_id=schema_token(schema_id))
        async with self._boundaries.locked(f"schemas {owner}"):
            return await self._handler.change(caller, target, attempt)

    async def find(self, user_id: str, reference: str) -> Known:
        """The schema that an id, or a name alone, means to a user. Raises NotFound."""
        if _ID.match(reference):
            return await self._schemas.find(user_id, reference)
        try:
            return await self._schemas.latest(user_id, schema.check_name(reference))
        except Invalid as error:
            raise Malformed(f"{reference[:80]!r} is neither a schema's id nor a name.") from error

    async def validate(
        self, user_id: str, reference: str, data: object
    ) -> tuple[Known, list[FieldError]]:
        """The schema, and everything that is wrong with data under it."""
        known = await self.find(user_id, reference)
        text = msgspec.json.encode(data)
        return known, await self._schemas.errors(user_id, known, data, text, "/data")

    async def dry_run(
        self, user_id: str, reference: str, candidate: object, *, admin: bool
    ) -> Verdict:
        """What the candidate would break as the next version of a name: promises and stored blobs.

        The blobs are the user's own; an admin asks for everybody's of a schema of the system's.
        """
        known = await self.find(user_id, reference)
        definition = await self._judged(user_id, candidate)
        state = await self._schemas.load(known.owner)
        name = known.event.name
        mode = _mode(state, name)
        breaks = await self._breaks(
            user_id, state, name, schema.next_version(state, name), mode, definition
        )
        everybody = admin and known.owner == SYSTEM
        ids = [version.schema_id for version in state.versions(name)]
        sifted = await self._blobs.sift(user_id, None if everybody else user_id, ids, definition)
        return Verdict(mode, breaks, sifted, state.seq)

    async def _judged(self, user_id: str, candidate: object) -> Definition:
        """A definition that may be registered. Raises Invalid naming each place."""
        text = msgspec.json.encode(candidate)
        errors = definitions.oversize(candidate, len(text), "/definition")
        if not errors:
            definition = await self._schemas.definition(user_id, candidate, text, "/definition")
            task = Check(definition, "/definition")
            errors = list((await self._judges.ask(user_id, task)).errors)
            if not errors:
                return definition
        raise Invalid("The definition is not a schema that can be registered.", errors)

    async def _examples(
        self, user_id: str, asked: RegisterSchema, definition: Definition
    ) -> tuple[msgspec.Raw, ...]:
        """The examples as JSON, each of which is valid under the definition."""
        encoded = [msgspec.json.encode(example) for example in asked.examples]
        if len(encoded) > MAX_EXAMPLES or sum(map(len, encoded)) > MAX_EXAMPLE_BYTES:
            sentence = f"At most {MAX_EXAMPLES} examples and {MAX_EXAMPLE_BYTES} bytes of JSON."
            raise Invalid(sentence, [FieldError("/examples", "maxItems", sentence)])
        errors: list[FieldError] = []
        for index, text in enumerate(encoded):
            task = Explain(definition, text, f"/examples/{index}")
            errors.extend((await self._judges.ask(user_id, task)).errors)
        if errors:
            raise Invalid("An example is not valid under the definition.", errors)
        return tuple(map(msgspec.Raw, encoded))

    async def _taken(self, owner: str) -> frozenset[str]:
        """The names that an owner may not use: what ships is nobody's to change."""
        if owner == SYSTEM:
            return self._schemas.shipped_names
        system = await self._schemas.load(SYSTEM)
        return frozenset(one.name for one in system.by_id.values())

    async def _check_compatible(
        self, caller: Caller, state: schema.Schemas, event: SchemaRegistered, text: Definition
    ) -> None:
        breaks = await self._breaks(
            caller.user_id, state, event.name, event.version, event.compatibility, text
        )
        if breaks:
            raise Conflict(f"This breaks the compatibility {event.compatibility}.", breaks)

    async def _breaks(
        self,
        user_id: str,
        state: schema.Schemas,
        name: str,
        version: int,
        mode: Compatibility,
        definition: Definition,
    ) -> tuple[FieldError, ...]:
        older = state.before(name, version, transitive=is_transitive(mode))
        if mode == "none" or not older:
            return ()
        versions = [await self._schemas.find(user_id, one.schema_id) for one in older]
        task = Compare(
            definition,
            tuple(Older(one.schema_id, one.definition) for one in versions),
            mode,
            "/definition",
        )
        return (await self._judges.ask(user_id, task)).errors


def _mode(state: schema.Schemas, name: str) -> Compatibility:
    """The promise of a name: that of its last version."""
    versions = state.versions(name)
    return versions[-1].registered.compatibility if versions else schema.DEFAULT_COMPATIBILITY


def _check_description(asked: RegisterSchema) -> None:
    if len(asked.description) > MAX_DESCRIPTION:
        sentence = f"At most {MAX_DESCRIPTION} characters."
        raise Invalid(sentence, [FieldError("/description", "maxLength", sentence)])
