"""What a studio answers, as frozen structs. Owns shapes only.

Fields that a newer server adds are passed over. Times are RFC 3339. `data` is JSON as it came;
`content` reads it as a type of one's own.
"""

from __future__ import annotations

from typing import Generic, TypeAlias, TypeVar

import msgspec

from reyna.client.errors import FieldError

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list. `next_cursor` leads to the next, None at the end."""

    items: tuple[T, ...]
    next_cursor: str | None = None


class NewBlob(msgspec.Struct, frozen=True):
    """A blob is in the log."""

    blob_id: str
    created_at: str
    seq: int


class NewBucket(msgspec.Struct, frozen=True):
    """A bucket is in the log."""

    bucket_id: str
    created_at: str
    seq: int


class _WithData(msgspec.Struct, frozen=True, kw_only=True):
    data: object

    def content(self, into: type[T]) -> T:
        """`data` as a type. Raises msgspec.ValidationError when it is not of that shape."""
        return msgspec.convert(self.data, into)


class Blob(_WithData, frozen=True, kw_only=True):
    """A blob. `stale`: derived from a source that has changed since. `seq` is its last event's.

    `excerpt`, only in what a search finds, is HTML: escaped text in which `<mark>` shows what was
    found; `similarity`, only in one by meaning, is 1 for the same.
    """

    blob_id: str
    user_id: str
    schema_id: str
    seq: int
    created_at: str
    updated_at: str
    title: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, object] = {}
    bucket_ids: tuple[str, ...] = ()
    parent_id: str | None = None
    processor_id: str | None = None
    derived_ids: tuple[str, ...] = ()
    stale: bool = False
    provenance: dict[str, object] | None = None
    media: dict[str, object] | None = None
    excerpt: str | None = None
    similarity: float | None = None


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket. `position` counts from 0 among brothers and sisters, `depth` is 0 for a root."""

    bucket_id: str
    user_id: str
    name: str
    type: str
    seq: int
    created_at: str
    updated_at: str
    parent_bucket_id: str | None = None
    child_bucket_ids: tuple[str, ...] = ()
    blob_count: int = 0
    metadata: dict[str, object] = {}
    tags: tuple[str, ...] = ()
    position: int = 0
    depth: int = 0


class BucketNode(Bucket, frozen=True, kw_only=True):
    """A bucket with all below it, in order."""

    children: tuple[BucketNode, ...] = ()


class Forest(msgspec.Struct, frozen=True):
    """Trees of buckets, in order."""

    items: tuple[BucketNode, ...]


class TemplateNode(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket that a template makes, with those below it, in order."""

    name: str
    type: str
    metadata: dict[str, object] = {}
    tags: tuple[str, ...] = ()
    children: tuple[TemplateNode, ...] = ()


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """A small tree that `buckets.create` can make at once; `type` is what its root should be."""

    name: str
    description: str
    type: str
    children: tuple[TemplateNode, ...] = ()


class LineageNode(msgspec.Struct, frozen=True, kw_only=True):
    """A blob in a lineage; a trashed one is named because others came from it."""

    blob_id: str
    schema_id: str
    processor_id: str | None = None
    title: str | None = None
    stale: bool = False
    trashed: bool = False
    created_at: str


class LineageLink(msgspec.Struct, frozen=True, kw_only=True):
    """`child_id` came from `parent_id`: by a processor, or with None by hand."""

    parent_id: str
    child_id: str
    processor_id: str | None = None


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """What a blob was derived from and what came of it; not `complete` if that is too much."""

    blob_id: str
    nodes: tuple[LineageNode, ...]
    links: tuple[LineageLink, ...]
    complete: bool = True


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a schema. Its definition never changes."""

    schema_id: str
    name: str
    version: int
    definition: object
    status: str
    compatibility: str
    created_at: str
    processor_id: str | None = None
    description: str = ""
    examples: tuple[object, ...] = ()


class Validity(msgspec.Struct, frozen=True):
    """Whether data is valid, and everything that is wrong with it."""

    valid: bool
    errors: tuple[FieldError, ...] = ()


class CompatibilityReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate would break: of the promise `mode`, and among the stored blobs."""

    compatible: bool
    mode: str
    breaks: tuple[FieldError, ...] = ()
    blobs_checked: int = 0
    blobs_broken: int = 0
    broken_blob_ids: tuple[str, ...] = ()


class Processor(msgspec.Struct, frozen=True, kw_only=True):
    """A registered processor. It takes blobs of `input_schema_id` and of those in `also_reads`.
    `status` is healthy, degraded or down.
    """

    processor_id: str
    name: str
    description: str
    input_schema_id: str
    output_schema_id: str
    subscribe_events: tuple[str, ...]
    settings_schema: object
    version: str
    status: str
    also_reads: tuple[str, ...] = ()
    last_seen_at: str | None = None
    advice: str | None = None


class ProcessorHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How a processor does now, for all its users together.

    `resting`: its provider failed again and again and is left alone for a while. Run times are
    seconds.
    """

    status: str
    last_seen_at: str | None = None
    advice: str | None = None
    resting: bool = False
    queued: int = 0
    running: int = 0
    oldest_queued_at: str | None = None
    completed_last_hour: int = 0
    failed_last_hour: int = 0
    p50_seconds: float | None = None
    p99_seconds: float | None = None


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """The caller's settings of a processor, on or off.

    Secrets are not among the settings; `secrets` are the places of those that are set.
    `rerun_on_update`: it runs again when a source's data change.
    """

    active: bool
    settings: dict[str, object] = {}
    secrets: tuple[str, ...] = ()
    rerun_on_update: bool = False
    seq: int = 0


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A processor's work on one blob, or a backfill's on many.

    `status` is queued, running, completed, failed or cancelled. `cost` is in US dollars, `seconds`
    the provider's time, `detail` what a queued run waits for. A backfill has a `total`, and how
    many of its runs are `done` or `failed`; its runs name it in `backfill_id`.
    """

    run_id: str
    processor_id: str
    status: str
    seq: int
    created_at: str
    blob_id: str | None = None
    bucket_ids: tuple[str, ...] = ()
    attempts: int = 0
    error: str | None = None
    permanent: bool | None = None
    derived_id: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None
    seconds: float | None = None
    detail: str | None = None
    backfill_id: str | None = None
    total: int | None = None
    done: int | None = None
    failed: int | None = None
    source_seq: int | None = None
    started_at: str | None = None
    finished_at: str | None = None


class Event(_WithData, frozen=True, kw_only=True):
    """An event of the log. `data` are its own fields; `bucket_ids` where it happened."""

    type: str
    seq: int
    time: str
    user_id: str
    bucket_id: str | None = None
    bucket_ids: tuple[str, ...] = ()
    blob_id: str | None = None
    schema_id: str | None = None
    parent_id: str | None = None
    run_id: str | None = None
    processor_id: str | None = None
    data: dict[str, object]


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """The next piece of a text while it is written. Not in the log: what is missed is gone.

    `offset` is where it begins in the whole, in characters; 0 begins a new attempt. `blob_id` is
    the source's.
    """

    run_id: str
    blob_id: str
    text: str
    offset: int = 0
    processor_id: str | None = None
    bucket_ids: tuple[str, ...] = ()


class Live(msgspec.Struct, frozen=True):
    """A stream has caught up: every event up to `seq` was told, what follows is live."""

    seq: int


Item: TypeAlias = Event | Progress | Live


class Tokens(msgspec.Struct, frozen=True):
    """A sign-in. `expires_at` is the access token's; the refresh token is good once."""

    user_id: str
    access_token: str
    refresh_token: str
    expires_at: str


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The caller's account."""

    user_id: str
    email: str | None = None
    phone: str | None = None
    name: str | None = None
    roles: tuple[str, ...] = ()
    created_at: str | None = None


class TokenStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Whom the access token speaks for, and until when."""

    user_id: str
    roles: tuple[str, ...] = ()
    expires_at: str
