"""Instances: a user's settings of a processor. Owns how they are set, kept and put together.

Settings are valid under the processor's schema when they are set; what a run is given is checked
once more, for the processor may have changed since.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from reyna.commands.boundaries import Boundaries
from reyna.commands.handler import Caller, Decision, Handler, IfMatch, check_match
from reyna.commands.idempotency import Answer
from reyna.commands.requests import PutInstance, check_nesting, merge_patch
from reyna.commands.secrets import CannotOpen, Json, Vault, paths_of, put_in, taken_out
from reyna.domain import instance as instances
from reyna.domain.event import Boundary
from reyna.domain.instance import Instance, InstanceRules, ProcessorInstanceChanged
from reyna.domain.processor import ProcessorRegistered, RunRequest
from reyna.domain.schema import SYSTEM
from reyna.errors import FieldError, Invalid, NotFound
from reyna.judge import drafts
from reyna.log import subjects
from reyna.log.record import decode
from reyna.log.stream import Log

# Bytes of JSON.
MAX_SETTINGS = 16 * 1024
PLACE = "/settings"


class Between(msgspec.Struct, frozen=True):
    """An instance as it was at an event, as it is now, and whether it has been off meanwhile."""

    then: Instance
    now: Instance
    paused: bool


class Instances:
    """Everybody's instances, read from the log."""

    def __init__(self, log: Log, boundaries: Boundaries, vault: Vault) -> None:
        self._log = log
        self._boundaries = boundaries
        self._vault = vault

    async def registered(self, processor_id: str) -> ProcessorRegistered:
        """A processor's last registration. Raises NotFound."""
        for record in await self._boundaries.records(Boundary(SYSTEM, "processor", processor_id)):
            if isinstance(record.event, ProcessorRegistered):
                return record.event
        raise NotFound(f"There is no processor {processor_id}.")

    async def find(self, owner: str, processor_id: str, *, default_active: bool) -> Instance:
        """An owner's instance as it is now."""
        found = Instance(active=default_active)
        for record in await self._boundaries.records(instances.boundary(owner, processor_id)):
            found = instances.fold(found, record.event, record.seq)
        return found

    async def is_known(self, owner: str, processor_id: str) -> bool:
        """Whether an owner ever set a processor up: one quick question."""
        return await self._log.last_seq(subjects.of_instance(owner, processor_id)) > 0

    async def since(
        self, owner: str, processor_id: str, seq: int, *, default_active: bool
    ) -> Between:
        """An owner's instance at the event `seq` and since."""
        now = await self.find(owner, processor_id, default_active=default_active)
        if now.seq <= seq:
            return Between(now, now, paused=False)
        then, paused = Instance(active=default_active), False
        filter_ = subjects.of_instance(owner, processor_id)
        for stored in await self._log.last_of_each(filter_, up_to=seq) or ():
            then = instances.fold(then, decode(stored).event, stored.seq)
        later = await self._log.since(filter_, seq)
        for stored in later or ():
            changed = decode(stored).event
            paused |= isinstance(changed, ProcessorInstanceChanged) and not changed.active
        # Too many changes to be looked at are not an instance that was left on.
        return Between(then, now, paused=paused or later is None)

    def settings(
        self,
        owner: str,
        processor_id: str,
        schema: msgspec.Raw,
        instance: Instance,
        request: RunRequest | None = None,
    ) -> msgspec.Raw:
        """The settings of a run: what was asked for it, else the instance's, else the defaults.

        Raises Invalid where they do not fit the processor's schema, or a secret is lost.
        """
        whole: object = self._opened(owner, processor_id, instance.settings, instance.secrets)
        if request is not None:
            asked = self._opened(owner, processor_id, request.settings, request.secrets)
            whole = merge_patch(whole, asked)
        definition = msgspec.json.decode(schema)
        check(definition, whole)
        return msgspec.Raw(msgspec.json.encode(with_defaults(definition, whole)))

    def sealed(self, owner: str, processor_id: str, secrets: Json) -> dict[str, str]:
        """Secrets by JSON Pointer, sealed for an event."""
        return self._vault.seal(owner, processor_id, secrets)

    def opened(self, owner: str, processor_id: str, sealed: Mapping[str, str]) -> Json:
        """Sealed secrets, opened. Raises Invalid naming one that cannot be."""
        try:
            return self._vault.open(owner, processor_id, sealed)
        except CannotOpen as error:
            errors = [FieldError(PLACE + path, "secret", str(error)) for path in sealed]
            raise Invalid(str(error), errors) from error

    def _opened(
        self, owner: str, processor_id: str, settings: msgspec.Raw, sealed: Mapping[str, str]
    ) -> Json:
        public: Json = msgspec.json.decode(settings)
        return put_in(public, self.opened(owner, processor_id, sealed)) if sealed else public


class InstanceCommands:
    """Set a user's instance up."""

    def __init__(self, handler: Handler, boundaries: Boundaries, instances: Instances) -> None:
        self._handler = handler
        self._boundaries = boundaries
        self._instances = instances

    async def put(
        self, caller: Caller, processor_id: str, asked: PutInstance, if_match: IfMatch
    ) -> tuple[Answer, Instance]:
        """Switch an instance on or off, and replace its settings. A secret that is not named stays,
        one that is null goes. Gives the instance as it is then.

        Raises Invalid for settings that do not fit, with every place.
        """
        check_settings(asked.settings)
        registered = await self._instances.registered(processor_id)
        schema = msgspec.json.decode(registered.settings_schema)
        public, given = taken_out(asked.settings, paths_of(schema))
        after = Instance(active=registered.default_active)

        async def attempt(_: str) -> Decision:
            nonlocal after
            current = await self._instances.find(
                caller.user_id, processor_id, default_active=registered.default_active
            )
            check_match(current.seq, if_match)
            rules = InstanceRules(caller.user_id, processor_id, current)
            kept = {p: sealed for p, sealed in current.secrets.items() if p not in given}
            opened = self._instances.opened(caller.user_id, processor_id, kept)
            fresh = {path: value for path, value in given.items() if value is not None}
            check(schema, put_in(public, opened | fresh))
            event = ProcessorInstanceChanged(
                processor_id=processor_id,
                active=asked.active,
                settings=msgspec.Raw(msgspec.json.encode(public)),
                secrets=kept | self._instances.sealed(caller.user_id, processor_id, fresh),
                rerun_on_update=asked.rerun_on_update,
            )
            rules.change(event)
            after = instances.fold(current, event, current.seq)
            return Decision(rules, current.seq)

        boundary = instances.boundary(caller.user_id, processor_id)
        answer = await self._handler.change(caller, boundary, attempt)
        return answer, msgspec.structs.replace(after, seq=answer.seq)


def check_settings(settings: Json) -> None:
    """Raise Malformed or Invalid for settings that are nested too deep or too large."""
    check_nesting(PLACE, settings)
    if len(msgspec.json.encode(settings)) > MAX_SETTINGS:
        sentence = f"Settings have at most {MAX_SETTINGS} bytes of JSON."
        raise Invalid(sentence, [FieldError(PLACE, "maxLength", sentence)])


def check(schema: object, settings: object) -> None:
    """Raise Invalid with every place where settings do not fit a schema; no value is told."""
    errors = drafts.errors_of(drafts.compiled(schema, {}), settings, PLACE)
    if errors:
        raise Invalid("The settings do not fit this processor.", errors)


def with_defaults(schema: object, settings: object) -> object:
    """Settings with what a schema gives for the properties that are not there."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict) or not isinstance(settings, dict):
        return settings
    filled = dict(settings)
    for name, below in properties.items():
        if name in filled:
            filled[name] = with_defaults(below, filled[name])
        elif isinstance(below, dict) and "default" in below:
            filled[name] = below["default"]
    return filled
