"""Typed buckets: a type whose metadata has a schema. Owns which schema that is, and the check.

`bucket-{type}-v1`, the user's own or else the system's, binds the metadata of buckets of that type
for as long as it is active: a draft does not bind yet, a deprecated one no more. The log is asked
each time, in one read for all types of a command: a schema that another process registered a
moment ago binds as well, and no process can know that there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

import msgspec

from reyna.commands.schemas import Known, Schemas
from reyna.domain.bucket import BucketDescription
from reyna.domain.event import Boundary
from reyna.domain.schema import SYSTEM
from reyna.domain.schema import Schemas as Registered
from reyna.errors import FieldError, Invalid, LogUnavailable, Malformed
from reyna.log import subjects
from reyna.log.record import decode
from reyna.log.stream import Log


class BucketTypes:
    """The schemas that bind the metadata of buckets."""

    def __init__(self, log: Log, schemas: Schemas) -> None:
        self._log = log
        self._schemas = schemas

    async def check(
        self,
        user_id: str,
        asked: Sequence[BucketDescription],
        meant: Sequence[BucketDescription] = (),
        place: str = "",
    ) -> None:
        """Raise Invalid with everything that is wrong with the metadata of some buckets.

        That of the ones `asked` for stands in the request; the ones `meant` are only named there,
        at `place`.
        """
        bound = await self._bound(user_id, {one.type for one in (*asked, *meant)})
        errors: list[FieldError] = []
        for one in asked:
            errors += await self._errors(user_id, bound, one)
        for one in meant:
            errors.extend(
                FieldError(place, error.keyword, f"{one.name}{error.path}: {error.message}")
                for error in await self._errors(user_id, bound, one)
            )
        if errors:
            raise Invalid(
                "The metadata is not valid under the schema of the bucket's type.", errors
            )

    async def _errors(
        self, user_id: str, bound: dict[str, Known], bucket: BucketDescription
    ) -> list[FieldError]:
        known = bound.get(bucket.type)
        if known is None:
            return []
        text = bytes(bucket.metadata)
        data = msgspec.json.decode(text)
        return await self._schemas.errors(user_id, known, data, text, "/metadata")

    async def _bound(self, user_id: str, types: Iterable[str]) -> dict[str, Known]:
        """The schemas that bind some types as the log has it now, by type."""
        named = {type_: f"bucket-{type_}-v1" for type_ in types}
        owners = {user_id: Registered(), SYSTEM: Registered()}
        filters: list[str] = []
        for schema_id in named.values():
            # A type may be longer than the name of a schema can be.
            with suppress(Malformed):
                filters += [subjects.guard(Boundary(one, "schema", schema_id)) for one in owners]
        stored = await self._log.last_of_each(*filters) if filters else []
        if stored is None:
            raise LogUnavailable("The schemas of the buckets' types cannot be read.")
        for record in map(decode, stored):
            owners[record.owner].fold(record.entity_id, record.event, record.seq, record.time)
        bound: dict[str, Known] = {}
        for type_, schema_id in named.items():
            owner = next((one for one in owners if schema_id in owners[one].by_id), None)
            if owner is not None and owners[owner].by_id[schema_id].status == "active":
                bound[type_] = await self._schemas.find(owner, schema_id)
        return bound
