"""What can be asked: the bodies of commands, as they arrive by HTTP or by socket. Owns their
limits.

A wrong type or an impossible id is refused while decoding; a value that is too long or too many is
a broken rule and is refused by `check_*` with its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from reyna.domain.schema import Compatibility, Status
from reyna.errors import FieldError, Invalid, Malformed, TooLarge
from reyna.log.subjects import END, ID_PATTERN

MAX_NAME = 200
MAX_TITLE = 500
MAX_TAGS = 64
MAX_TAG = 100
MAX_BUCKETS = 100
# Ids in one list; both lists of a request together are one batch of the log.
MAX_FILED = 500
# Levels of arrays and objects in what is passed on as it stands.
MAX_NESTING = 128
# Bytes of JSON; every bucket of a tree is read at once.
MAX_BUCKET_METADATA = 16 * 1024
# No database of ours but SQLite keeps it in text.
NUL = "\0"
NO_NUL = "The character U+0000 is not text."
TYPE_PATTERN = r"^[a-z][a-z0-9-]{0,63}" + END

Id: TypeAlias = Annotated[str, msgspec.Meta(pattern=ID_PATTERN, description="An id.")]
SchemaName: TypeAlias = Annotated[
    str,
    msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,80}" + END, description="For example text-input-v1."),
]
BucketType: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=TYPE_PATTERN, description="For example book, part, chapter.")
]


class CreateBlob(msgspec.Struct, frozen=True, kw_only=True):
    """A new blob: `data` must be valid under `schema_id`."""

    schema_id: SchemaName
    data: object
    bucket_ids: tuple[Id, ...] = ()
    processor_id: Id | None = None
    parent_id: Id | None = None
    title: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, object] = {}


class UpdateBlob(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON Merge Patch (RFC 7396) of a blob's content."""

    data: object | UnsetType = UNSET
    title: str | UnsetType | None = UNSET
    tags: tuple[str, ...] | UnsetType | None = UNSET
    metadata: dict[str, object] | UnsetType | None = UNSET


class UploadMedia(msgspec.Struct, frozen=True, kw_only=True):
    """What may be said of a file with it: the fields of a form beside `file`."""

    bucket_ids: tuple[Id, ...] = ()
    parent_id: Id | None = None
    title: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, object] = {}


class CreateBucket(msgspec.Struct, frozen=True, kw_only=True):
    """A new bucket, last among its parent's children; without a parent, a root. With a `template`
    the buckets that it names are made below it.
    """

    name: str
    type: BucketType
    parent_bucket_id: Id | None = None
    metadata: dict[str, object] = {}
    tags: tuple[str, ...] = ()
    template: str | None = None


class UpdateBucket(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON Merge Patch (RFC 7396) of what describes a bucket."""

    name: str | UnsetType = UNSET
    type: BucketType | UnsetType = UNSET
    metadata: dict[str, object] | UnsetType | None = UNSET
    tags: tuple[str, ...] | UnsetType | None = UNSET


class MoveBucket(msgspec.Struct, frozen=True, kw_only=True):
    """A new place: under `parent_bucket_id` (null: a root), at `position` from 0 (none: last)."""

    parent_bucket_id: Id | None
    position: Annotated[int, msgspec.Meta(ge=0)] | None = None


class Revert(msgspec.Struct, frozen=True, kw_only=True):
    """Back to how it was right after the event `to`."""

    to: Annotated[int, msgspec.Meta(ge=1, description="A seq.")]


class FileInBuckets(msgspec.Struct, frozen=True, kw_only=True):
    """Buckets that a blob is to be put into, and others it is to be taken out of."""

    add: tuple[Id, ...] = ()
    remove: tuple[Id, ...] = ()


class FileBlobs(msgspec.Struct, frozen=True, kw_only=True):
    """Blobs to be put into a bucket, and others to be taken out of it."""

    add: tuple[Id, ...] = ()
    remove: tuple[Id, ...] = ()


class RegisterSchema(msgspec.Struct, frozen=True, kw_only=True):
    """The next version of a schema. Without `compatibility` the promise of the version before it
    goes on; the first one's is backward.
    """

    name: str
    definition: object
    processor_id: Id | None = None
    description: str = ""
    examples: tuple[object, ...] = ()
    compatibility: Compatibility | None = None
    status: Status = "active"


class ChangeSchemaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A version's new status."""

    status: Status


class ValidateData(msgspec.Struct, frozen=True, kw_only=True):
    """Data to be held against a schema."""

    data: object


class CompareDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """A definition that might become the next version."""

    definition: object


class PutInstance(msgspec.Struct, frozen=True, kw_only=True):
    """A processor, switched on or off and set up. Secrets that `settings` do not name stay; one
    that is null goes. `rerun_on_update`: run again when a source's data change.
    """

    active: bool
    settings: dict[str, object] = {}
    rerun_on_update: bool = False


class RequestRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run over one blob; or runs over many, a backfill: those in a bucket and below it, or all of
    a schema that the processor reads; of a processor that reads buckets, one run over a bucket.
    `settings` go before the instance's; `per_minute` bounds a backfill.
    """

    blob_id: Id | None = None
    bucket_id: Id | None = None
    schema_id: SchemaName | None = None
    settings: dict[str, object] = {}
    per_minute: Annotated[int, msgspec.Meta(ge=1, le=60_000)] | None = None


def check_blob(title: str | None, tags: Sequence[str], bucket_ids: Sequence[str] = ()) -> None:
    """Raise Invalid if a blob's title, tags or buckets are too long or too many."""
    errors = list(_tag_errors(tags))
    if title is not None and len(title) > MAX_TITLE:
        errors.append(FieldError("/title", "maxLength", f"At most {MAX_TITLE} characters."))
    if title is not None and NUL in title:
        errors.append(FieldError("/title", "pattern", NO_NUL))
    if len(bucket_ids) > MAX_BUCKETS:
        errors.append(FieldError("/bucket_ids", "maxItems", f"At most {MAX_BUCKETS} buckets."))
    _raise(errors)


def check_bucket(name: str, tags: Sequence[str]) -> None:
    """Raise Invalid if a bucket's name is blank or too long, or its tags are too many or
    too long.
    """
    errors = list(_tag_errors(tags))
    if not name.strip():
        errors.append(FieldError("/name", "minLength", "A bucket needs a name."))
    if len(name) > MAX_NAME:
        errors.append(FieldError("/name", "maxLength", f"At most {MAX_NAME} characters."))
    if NUL in name:
        errors.append(FieldError("/name", "pattern", NO_NUL))
    _raise(errors)


def bucket_metadata(value: object) -> msgspec.Raw:
    """A bucket's metadata as JSON. Raises Malformed or TooLarge."""
    check_nesting("/metadata", value)
    encoded = msgspec.json.encode(value)
    if len(encoded) > MAX_BUCKET_METADATA:
        raise TooLarge(
            f"The metadata has {len(encoded)} bytes; at most {MAX_BUCKET_METADATA} are taken."
        )
    return msgspec.Raw(encoded)


def check_filing(add: Sequence[str], remove: Sequence[str]) -> None:
    """Raise Invalid if too much is filed at once, or the same is put in and taken out."""
    errors = [
        FieldError(path, "maxItems", f"At most {MAX_FILED} ids.")
        for path, ids in (("/add", add), ("/remove", remove))
        if len(ids) > MAX_FILED
    ]
    if not errors:
        added = frozenset(add)
        errors = [
            FieldError(f"/remove/{index}", "not", "It is in `add` as well.")
            for index, one in enumerate(remove)
            if one in added
        ]
    _raise(errors)


def check_nesting(path: str, value: object) -> None:
    """Raise Malformed if JSON is nested more than MAX_NESTING deep: all must be able to read it."""
    level: list[object] = [value]
    for _ in range(MAX_NESTING + 1):
        below: list[object] = []
        for container in level:
            if isinstance(container, dict):
                below.extend(v for v in container.values() if isinstance(v, dict | list))
            elif isinstance(container, list):
                below.extend(v for v in container if isinstance(v, dict | list))
        if not below:
            return
        level = below
    raise Malformed(f"{path} is nested more than {MAX_NESTING} levels deep.")


def merge_patch(target: object, patch: object) -> object:
    """`target` with the JSON Merge Patch applied (RFC 7396, section 2)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def _tag_errors(tags: Sequence[str]) -> list[FieldError]:
    errors = [
        FieldError(f"/tags/{index}", "length", f"A tag has 1 to {MAX_TAG} characters.")
        for index, tag in enumerate(tags)
        if not tag.strip() or len(tag) > MAX_TAG
    ]
    errors += [
        FieldError(f"/tags/{index}", "pattern", NO_NUL)
        for index, tag in enumerate(tags)
        if NUL in tag
    ]
    if len(tags) > MAX_TAGS:
        errors.append(FieldError("/tags", "maxItems", f"At most {MAX_TAGS} tags."))
    return errors


def _raise(errors: list[FieldError]) -> None:
    if errors:
        raise Invalid("The request breaks a rule.", errors)
