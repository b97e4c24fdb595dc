"""What a client may say on the live socket, and what it is told besides events. Owns these shapes
only.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from reyna.api.problems import Problem
from reyna.commands.requests import (
    CreateBlob,
    CreateBucket,
    Id,
    MoveBucket,
    UpdateBlob,
    UpdateBucket,
)

MAX_BUCKETS = 200

Ref: TypeAlias = str | int | None
Buckets: TypeAlias = (
    Literal["*"]
    | Annotated[
        tuple[Annotated[str, msgspec.Meta(pattern=r"^(\*|[A-Za-z0-9_-]{1,64})$")], ...],
        msgspec.Meta(min_length=1, max_length=MAX_BUCKETS),
    ]
)


class Authenticate(msgspec.Struct, frozen=True, tag_field="action", tag="authenticate"):
    """Say, or renew, who is calling."""

    token: str
    ref: Ref = None


class Subscribe(msgspec.Struct, frozen=True, tag_field="action", tag="subscribe"):
    """Hear of some buckets, or of `*`; with `after`, first what happened since that seq."""

    buckets: Buckets
    subtree: bool = False
    after: Annotated[int, msgspec.Meta(ge=0)] | None = None
    epoch: str | None = None
    ref: Ref = None


class Unsubscribe(msgspec.Struct, frozen=True, tag_field="action", tag="unsubscribe"):
    """Hear no more of some buckets, or of `*`."""

    buckets: Buckets
    ref: Ref = None


class Ping(msgspec.Struct, frozen=True, tag_field="action", tag="ping"):
    """Ask for a pong."""

    ref: Ref = None


class CreateBlobFrame(CreateBlob, frozen=True, kw_only=True, tag_field="action", tag="create_blob"):
    """POST blobs."""

    ref: Ref = None


class UpdateBlobFrame(UpdateBlob, frozen=True, kw_only=True, tag_field="action", tag="update_blob"):
    """PATCH blobs/{blob_id}; `if_match` is the seq it must still have."""

    blob_id: Id
    if_match: int | None = None
    ref: Ref = None


class DeleteBlobFrame(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="action", tag="delete_blob"
):
    """DELETE blobs/{blob_id}."""

    blob_id: Id
    if_match: int | None = None
    ref: Ref = None


class CreateBucketFrame(
    CreateBucket, frozen=True, kw_only=True, tag_field="action", tag="create_bucket"
):
    """POST buckets."""

    ref: Ref = None


class UpdateBucketFrame(
    UpdateBucket, frozen=True, kw_only=True, tag_field="action", tag="update_bucket"
):
    """PATCH buckets/{bucket_id}; `if_match` is the seq it must still have."""

    bucket_id: Id
    if_match: int | None = None
    ref: Ref = None


class MoveBucketFrame(MoveBucket, frozen=True, kw_only=True, tag_field="action", tag="move_bucket"):
    """POST buckets/{bucket_id}/move."""

    bucket_id: Id
    ref: Ref = None


CommandFrame: TypeAlias = (
    CreateBlobFrame
    | UpdateBlobFrame
    | DeleteBlobFrame
    | CreateBucketFrame
    | UpdateBucketFrame
    | MoveBucketFrame
)
ClientFrame: TypeAlias = Authenticate | Subscribe | Unsubscribe | Ping | CommandFrame


class JustRef(msgspec.Struct, frozen=True):
    """What can be told of a frame that is not understood."""

    ref: Ref = None


class Ack(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="ack"
):
    """It is done; for a command, `seq` is its event's."""

    ref: Ref = None
    blob_id: str | None = None
    bucket_id: str | None = None
    seq: int | None = None
    user_id: str | None = None
    expires_at: str | None = None


class Subscribed(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="subscribed"):
    """The subscription stands. `recovered` false: the cursor cannot be resumed, read again."""

    epoch: str
    head: int
    recovered: bool
    ref: Ref = None


class Live(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="live"):
    """The catch-up has ended at `seq`; what follows is live."""

    seq: int
    ref: Ref = None


class ErrorFrame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="error"):
    """A frame was refused and changed nothing."""

    problem: Problem
    ref: Ref = None


class Pong(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="pong"):
    """The answer to a ping."""

    ref: Ref = None
