"""Instances: one user's settings of one processor, on or off; and which events then ask for a run.

Secrets stand in the event sealed; who seals and opens them is `reyna.commands.secrets`. Whether
settings fit the processor is asked before a rule is.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

import msgspec

from reyna.domain.blob import BlobContent, BlobUpdated
from reyna.domain.bucket import BUCKET_SCHEMA
from reyna.domain.event import Boundary, Event, Opaque, Rules

NO_SETTINGS = msgspec.Raw(b"{}")


def _no_settings() -> msgspec.Raw:
    return NO_SETTINGS


class ProcessorInstanceChanged(Event, frozen=True, kw_only=True):
    """A user switched a processor on or off, or set it up anew. `secrets` are the sealed ones among
    the settings, by JSON Pointer.
    """

    KIND: ClassVar[str] = "processor"
    VERB: ClassVar[str] = "instance.changed"
    TOPIC: ClassVar[str] = "processor.instance.changed"

    processor_id: str
    active: bool
    settings: msgspec.Raw = msgspec.field(default_factory=_no_settings)
    secrets: dict[str, str] = msgspec.field(default_factory=dict)
    rerun_on_update: bool = False


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """An instance as its events leave it. `seq` is the last one's, 0 if there is none."""

    active: bool
    settings: msgspec.Raw = msgspec.field(default_factory=_no_settings)
    secrets: dict[str, str] = msgspec.field(default_factory=dict)
    rerun_on_update: bool = False
    seq: int = 0


class InstanceRules(Rules):
    """What may happen to an instance: anything that its processor's schema allows."""

    def __init__(self, owner: str, processor_id: str, instance: Instance) -> None:
        self.boundary = boundary(owner, processor_id)
        self.processor_id = processor_id
        self.instance = instance

    def change(self, event: ProcessorInstanceChanged) -> None:
        """Set the instance up; nothing is decided when nothing would change."""
        if fold(self.instance, event, self.instance.seq) != self.instance:
            self.decide(self.processor_id, event)


def boundary(owner: str, processor_id: str) -> Boundary:
    """The boundary that guards one instance."""
    return Boundary(owner, "processor", processor_id)


def fold(instance: Instance, event: Event | Opaque, seq: int) -> Instance:
    """The instance after `event`."""
    if not isinstance(event, ProcessorInstanceChanged):
        return instance
    return Instance(
        active=event.active,
        settings=event.settings,
        secrets=event.secrets,
        rerun_on_update=event.rerun_on_update,
        seq=seq,
    )


def asks(
    instance: Instance,
    subscribed: Collection[str],
    reads: Collection[str],
    type_: str,
    event: BlobContent,
) -> bool:
    """Whether an event of type `type_` asks for a run of a processor that reads these schemas, by
    an instance that was like this when it happened. For buckets people alone ask.
    """
    if not instance.active or event.schema_id not in reads or event.schema_id == BUCKET_SCHEMA:
        return False
    if type_ in subscribed:
        return True
    return instance.rerun_on_update and isinstance(event, BlobUpdated) and "data" in event.changed
