"""Blobs: their events, their state and their rules. Schemas are checked before a rule is asked.

An update carries the whole new value, not the difference: the last message of each of a blob's
subjects is then enough to know the blob (docs/decisions/0003).
"""

from __future__ import annotations

from typing import ClassVar

import msgspec
from msgspec import UNSET, UnsetType

from reyna.domain.event import Boundary, Event, Opaque, Rules
from reyna.errors import Conflict, FieldError, Invalid, NotFound

NO_METADATA = msgspec.Raw(b"{}")
# Blobs of this schema have a file beside their data, and no others have.
MEDIA_SCHEMA = "media-v1"


def _no_metadata() -> msgspec.Raw:
    return NO_METADATA


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """How a derived blob came to be. `seconds` is the provider's time; tokens are the provider's
    count. What was made from a bucket has no source blob, but `source_bucket_id`; `source_seq` is
    then the last event that it knew of.
    """

    processor_version: str
    source_blob_id: str | None = None
    source_bucket_id: str | UnsetType = UNSET
    source_seq: int
    run_id: str
    model: str | None = None
    prompt_version: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    seconds: float | None = None
    generated_at: str | None = None


class Media(msgspec.Struct, frozen=True, kw_only=True):
    """The file of a media blob: what its `data` says as well, but never changes. `sha256` is in
    hexadecimal digits, `content_type` what the bytes were found to be.
    """

    file_name: str
    content_type: str
    bytes: int
    sha256: str


class BlobEvent(Event, frozen=True, kw_only=True):
    """What all blob events say: the blob's schema, and the buckets it was in at that moment."""

    KIND: ClassVar[str] = "blob"
    QUALIFIER: ClassVar[str | None] = "schema_id"

    schema_id: str
    bucket_ids: tuple[str, ...] = ()


class BlobContent(BlobEvent, frozen=True, kw_only=True):
    """A blob's whole content. `media` is left out of the JSON of blobs without a file."""

    data: msgspec.Raw
    title: str | None = None
    tags: tuple[str, ...] = ()
    metadata: msgspec.Raw = msgspec.field(default_factory=_no_metadata)
    media: Media | UnsetType = UNSET


class BlobCreated(BlobContent, frozen=True, kw_only=True):
    """A person dropped something new."""

    VERB: ClassVar[str] = "created"
    TOPIC: ClassVar[str] = "blob.created"

    parent_id: str | None = None
    processor_id: str | None = None


class BlobDerived(BlobContent, frozen=True, kw_only=True):
    """A processor made a blob from `parent_id`, or from a bucket: then without a parent."""

    VERB: ClassVar[str] = "derived"
    TOPIC: ClassVar[str] = "blob.derived"

    parent_id: str | None = None
    processor_id: str
    provenance: Provenance


class BlobUpdated(BlobContent, frozen=True, kw_only=True):
    """The blob's content was replaced; `changed` names the fields that differ from before,
    `reverted_to` the seq whose content it has again.
    """

    VERB: ClassVar[str] = "updated"
    TOPIC: ClassVar[str] = "blob.updated"

    changed: tuple[str, ...]
    reverted_to: int | UnsetType = UNSET


class BlobDeleted(BlobEvent, frozen=True, kw_only=True):
    """The blob went to the trash."""

    VERB: ClassVar[str] = "deleted"
    TOPIC: ClassVar[str] = "blob.deleted"


class BlobRestored(BlobEvent, frozen=True, kw_only=True):
    """The blob came back from the trash."""

    VERB: ClassVar[str] = "restored"
    TOPIC: ClassVar[str] = "blob.restored"


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """A blob as its events leave it.

    `seq` is its last event's, filing it included; `boundary_seq` the last one's in the boundary
    that guards it, where filing is none; `content_seq` that of the last one that said what it
    holds.
    """

    blob_id: str
    schema_id: str
    data: msgspec.Raw
    title: str | None
    tags: tuple[str, ...]
    metadata: msgspec.Raw
    bucket_ids: tuple[str, ...]
    parent_id: str | None
    created_at: str
    seq: int
    boundary_seq: int
    content_seq: int
    deleted: bool = False
    media: Media | UnsetType = UNSET


def boundary(owner: str, blob_id: str) -> Boundary:
    """The boundary that guards one blob."""
    return Boundary(owner, "blob", blob_id)


def fold(
    blob: Blob | None, blob_id: str, event: Event | Opaque, seq: int, time: str
) -> Blob | None:
    """The blob after `event`. Events come in the order of `seq`; a gap of older updates is
    harmless.
    """
    if isinstance(event, BlobCreated | BlobDerived):
        return Blob(
            blob_id=blob_id,
            schema_id=event.schema_id,
            data=event.data,
            title=event.title,
            tags=event.tags,
            metadata=event.metadata,
            bucket_ids=event.bucket_ids,
            parent_id=event.parent_id,
            created_at=time,
            seq=seq,
            boundary_seq=seq,
            content_seq=seq,
            media=event.media,
        )
    if blob is None:
        return None
    blob = msgspec.structs.replace(blob, seq=seq, boundary_seq=seq)
    if isinstance(event, BlobUpdated):
        return msgspec.structs.replace(
            blob,
            data=event.data,
            title=event.title,
            tags=event.tags,
            metadata=event.metadata,
            content_seq=seq,
        )
    if isinstance(event, BlobDeleted):
        return msgspec.structs.replace(blob, deleted=True)
    if isinstance(event, BlobRestored):
        return msgspec.structs.replace(blob, deleted=False)
    return blob


class _Choices(msgspec.Struct):
    chosen: dict[str, str] = {}


def chosen_variant(metadata: msgspec.Raw, schema_id: str) -> str | None:
    """The blob of a schema that a source's metadata choose among what was made of it, if any."""
    try:
        return msgspec.json.decode(metadata, type=_Choices).chosen.get(schema_id)
    except msgspec.MsgspecError:
        return None


class BlobRules(Rules):
    """What may happen to one blob."""

    def __init__(self, owner: str, blob_id: str, blob: Blob | None) -> None:
        self.boundary = boundary(owner, blob_id)
        self.blob_id = blob_id
        self.blob = blob

    def create(self, event: BlobCreated | BlobDerived) -> None:
        """Bring the blob into being; Conflict if it is there already."""
        if self.blob is not None:
            raise Conflict(f"Blob {self.blob_id} exists already.")
        self.decide(self.blob_id, event)

    def update(self, content: BlobContent, reverted_to: int | UnsetType = UNSET) -> None:
        """Replace the content; nothing is decided when nothing would change. `reverted_to`: the
        seq after which it was so before.

        Raises Invalid for other data of a media blob: they say what its file is.
        """
        blob = self.present()
        if blob.media is not UNSET and content.data != blob.data:
            sentence = "What a file is cannot be changed: upload another."
            raise Invalid(sentence, [FieldError("/data", "media", sentence)])
        changed = tuple(
            name
            for name in ("data", "title", "tags", "metadata")
            if getattr(content, name) != getattr(blob, name)
        )
        if changed:
            self.decide(
                self.blob_id,
                BlobUpdated(
                    schema_id=blob.schema_id,
                    bucket_ids=blob.bucket_ids,
                    data=content.data,
                    title=content.title,
                    tags=content.tags,
                    metadata=content.metadata,
                    media=blob.media,
                    changed=changed,
                    reverted_to=reverted_to,
                ),
            )

    def delete(self) -> None:
        """Put the blob into the trash."""
        blob = self.present()
        self.decide(self.blob_id, BlobDeleted(schema_id=blob.schema_id, bucket_ids=blob.bucket_ids))

    def restore(self) -> None:
        """Take the blob out of the trash; Conflict if it is not there."""
        if self.blob is None:
            raise NotFound(f"There is no blob {self.blob_id}.")
        if not self.blob.deleted:
            raise Conflict(f"Blob {self.blob_id} is not in the trash.")
        self.decide(
            self.blob_id,
            BlobRestored(schema_id=self.blob.schema_id, bucket_ids=self.blob.bucket_ids),
        )

    def present(self) -> Blob:
        """The blob, or NotFound if it never was or is in the trash."""
        if self.blob is None or self.blob.deleted:
            raise NotFound(f"There is no blob {self.blob_id}.")
        return self.blob
