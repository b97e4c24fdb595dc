"""Filing over HTTP: a blob in its buckets, a bucket with its blobs."""

from __future__ import annotations

import msgspec
from litestar import put
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Response

from reyna.api.requests import Req, caller_of, documents, if_match, read
from reyna.commands.filing import FilingCommands
from reyna.commands.idempotency import Answer
from reyna.commands.requests import FileBlobs, FileInBuckets
from reyna.log.subjects import token


class BlobFiledAnswer(msgspec.Struct, frozen=True):
    """A blob's filing is in the log. `bucket_ids` are the buckets it is in now."""

    blob_id: str
    bucket_ids: tuple[str, ...]
    updated_at: str
    seq: int


class BucketFiledAnswer(msgspec.Struct, frozen=True):
    """A bucket's filling is in the log. `added` and `removed` are the blobs that were not, or were,
    in it before.
    """

    bucket_id: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    updated_at: str
    seq: int


def _headers(answer: Answer) -> dict[str, str]:
    return {"Reyna-Seq": str(answer.seq), "ETag": f'"{answer.seq}"'}


def routes(filing: FilingCommands) -> list[HTTPRouteHandler]:
    """PUT blobs/{blob_id}/buckets and PUT buckets/{bucket_id}/blobs."""

    @put("/blobs/{blob_id:str}/buckets", operation_class=documents(FileInBuckets), tags=["blobs"])
    async def file_blob(request: Req, blob_id: FromPath[str]) -> Response[BlobFiledAnswer]:
        """Put a blob into buckets and take it out of others, all or nothing."""
        asked = await read(request, FileInBuckets)
        caller = await caller_of(request)
        filed = await filing.file_blob(caller, token(blob_id), asked, if_match(request))
        answer = filed.answer
        body = BlobFiledAnswer(answer.entity_id, filed.bucket_ids, answer.time, answer.seq)
        return Response(body, headers=_headers(answer))

    @put("/buckets/{bucket_id:str}/blobs", operation_class=documents(FileBlobs), tags=["buckets"])
    async def fill_bucket(request: Req, bucket_id: FromPath[str]) -> Response[BucketFiledAnswer]:
        """Put blobs into a bucket and take others out of it, all or nothing."""
        asked = await read(request, FileBlobs)
        caller = await caller_of(request)
        filled = await filing.fill_bucket(caller, token(bucket_id), asked, if_match(request))
        answer = filled.answer
        body = BucketFiledAnswer(
            answer.entity_id, filled.added, filled.removed, answer.time, answer.seq
        )
        return Response(body, headers=_headers(answer))

    return [file_blob, fill_bucket]
