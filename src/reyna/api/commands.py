"""Writes over HTTP: each route turns a request into a command and its answer into headers and a
body.
"""

from __future__ import annotations

import msgspec
from litestar import delete, patch, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Response

from reyna.api.requests import Req, caller_of, documents, if_match, read
from reyna.commands.blobs import BlobCommands
from reyna.commands.buckets import BucketCommands
from reyna.commands.idempotency import Answer
from reyna.commands.requests import (
    CreateBlob,
    CreateBucket,
    MoveBucket,
    Revert,
    UpdateBlob,
    UpdateBucket,
)
from reyna.commands.revert import Reverts
from reyna.log.subjects import token

PREFIX = "/api/v1"


class BlobCreatedAnswer(msgspec.Struct, frozen=True):
    """A blob is in the log."""

    blob_id: str
    created_at: str
    seq: int


class BlobChangedAnswer(msgspec.Struct, frozen=True):
    """A blob's change is in the log."""

    blob_id: str
    updated_at: str
    seq: int


class BucketCreatedAnswer(msgspec.Struct, frozen=True):
    """A bucket is in the log."""

    bucket_id: str
    created_at: str
    seq: int


class BucketChangedAnswer(msgspec.Struct, frozen=True):
    """A bucket's change is in the log."""

    bucket_id: str
    updated_at: str
    seq: int


def routes(
    blobs: BlobCommands, buckets: BucketCommands, reverts: Reverts
) -> list[HTTPRouteHandler]:
    """The routes that write."""
    return [*_blob_routes(blobs), *_bucket_routes(buckets), *_revert_routes(reverts)]


def _headers(answer: Answer) -> dict[str, str]:
    own_seq = answer.seq if answer.own_seq is None else answer.own_seq
    return {"Reyna-Seq": str(answer.seq), "ETag": f'"{own_seq}"'}


def _blob_routes(blobs: BlobCommands) -> list[HTTPRouteHandler]:
    def changed(answer: Answer) -> Response[BlobChangedAnswer]:
        body = BlobChangedAnswer(answer.entity_id, answer.time, answer.seq)
        return Response(body, headers=_headers(answer))

    @post("/blobs", operation_class=documents(CreateBlob), tags=["blobs"])
    async def create_blob(request: Req) -> Response[BlobCreatedAnswer]:
        """Drop a blob."""
        answer = await blobs.create(await caller_of(request), await read(request, CreateBlob))
        body = BlobCreatedAnswer(answer.entity_id, answer.time, answer.seq)
        location = f"{PREFIX}/blobs/{answer.entity_id}"
        return Response(body, status_code=201, headers={**_headers(answer), "Location": location})

    @patch("/blobs/{blob_id:str}", operation_class=documents(UpdateBlob), tags=["blobs"])
    async def update_blob(request: Req, blob_id: FromPath[str]) -> Response[BlobChangedAnswer]:
        """Change a blob by a JSON Merge Patch."""
        asked = await read(request, UpdateBlob)
        caller = await caller_of(request)
        return changed(await blobs.update(caller, token(blob_id), asked, if_match(request)))

    @delete("/blobs/{blob_id:str}", status_code=204, tags=["blobs"])
    async def delete_blob(request: Req, blob_id: FromPath[str]) -> Response[None]:
        """Put a blob into the trash."""
        caller = await caller_of(request)
        answer = await blobs.delete(caller, token(blob_id), if_match(request))
        return Response(None, status_code=204, headers=_headers(answer))

    @post("/blobs/{blob_id:str}/restore", status_code=200, tags=["blobs"])
    async def restore_blob(request: Req, blob_id: FromPath[str]) -> Response[BlobChangedAnswer]:
        """Take a blob out of the trash."""
        return changed(await blobs.restore(await caller_of(request), token(blob_id)))

    return [create_blob, update_blob, delete_blob, restore_blob]


def _bucket_routes(buckets: BucketCommands) -> list[HTTPRouteHandler]:
    def changed(answer: Answer) -> Response[BucketChangedAnswer]:
        body = BucketChangedAnswer(answer.entity_id, answer.time, answer.seq)
        return Response(body, headers=_headers(answer))

    @post("/buckets", operation_class=documents(CreateBucket), tags=["buckets"])
    async def create_bucket(request: Req) -> Response[BucketCreatedAnswer]:
        """Make a bucket."""
        answer = await buckets.create(await caller_of(request), await read(request, CreateBucket))
        body = BucketCreatedAnswer(answer.entity_id, answer.time, answer.seq)
        location = f"{PREFIX}/buckets/{answer.entity_id}"
        return Response(body, status_code=201, headers={**_headers(answer), "Location": location})

    @patch("/buckets/{bucket_id:str}", operation_class=documents(UpdateBucket), tags=["buckets"])
    async def update_bucket(
        request: Req, bucket_id: FromPath[str]
    ) -> Response[BucketChangedAnswer]:
        """Rename or describe a bucket by a JSON Merge Patch."""
        asked = await read(request, UpdateBucket)
        caller = await caller_of(request)
        return changed(await buckets.describe(caller, token(bucket_id), asked, if_match(request)))

    @post(
        "/buckets/{bucket_id:str}/move",
        status_code=200,
        operation_class=documents(MoveBucket),
        tags=["buckets"],
    )
    async def move_bucket(request: Req, bucket_id: FromPath[str]) -> Response[BucketChangedAnswer]:
        """Move a bucket with all below it."""
        asked = await read(request, MoveBucket)
        caller = await caller_of(request)
        return changed(await buckets.move(caller, token(bucket_id), asked, if_match(request)))

    @delete("/buckets/{bucket_id:str}", status_code=204, tags=["buckets"])
    async def delete_bucket(request: Req, bucket_id: FromPath[str]) -> Response[None]:
        """Put a bucket and all below it into the trash."""
        caller = await caller_of(request)
        answer = await buckets.delete(caller, token(bucket_id), if_match(request))
        return Response(None, status_code=204, headers=_headers(answer))

    @post("/buckets/{bucket_id:str}/restore", status_code=200, tags=["buckets"])
    async def restore_bucket(
        request: Req, bucket_id: FromPath[str]
    ) -> Response[BucketChangedAnswer]:
        """Bring a bucket back to where it was."""
        return changed(await buckets.restore(await caller_of(request), token(bucket_id)))

    return [create_bucket, update_bucket, move_bucket, delete_bucket, restore_bucket]


def _revert_routes(reverts: Reverts) -> list[HTTPRouteHandler]:
    @post(
        "/blobs/{blob_id:str}/revert",
        status_code=200,
        operation_class=documents(Revert),
        tags=["blobs"],
    )
    async def revert_blob(request: Req, blob_id: FromPath[str]) -> Response[BlobChangedAnswer]:
        """Give a blob the content that it had right after an event."""
        to = (await read(request, Revert)).to
        caller = await caller_of(request)
        answer = await reverts.blob(caller, token(blob_id), to, if_match(request))
        body = BlobChangedAnswer(answer.entity_id, answer.time, answer.seq)
        return Response(body, headers=_headers(answer))

    @post(
        "/buckets/{bucket_id:str}/revert",
        status_code=200,
        operation_class=documents(Revert),
        tags=["buckets"],
    )
    async def revert_bucket(
        request: Req, bucket_id: FromPath[str]
    ) -> Response[BucketChangedAnswer]:
        """Describe and place a bucket as it was right after an event."""
        to = (await read(request, Revert)).to
        caller = await caller_of(request)
        answer = await reverts.bucket(caller, token(bucket_id), to, if_match(request))
        body = BucketChangedAnswer(answer.entity_id, answer.time, answer.seq)
        return Response(body, headers=_headers(answer))

    return [revert_blob, revert_bucket]
