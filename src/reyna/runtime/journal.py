"""What a run writes into the log: that it started, what it made, how it ended. Owns the run's place
in its boundary, and the ids that make writing twice impossible.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from reyna.commands.boundaries import Boundaries
from reyna.commands.media import keep_file
from reyna.content import Derived, DerivedFile, ProcessorSpec
from reyna.domain import blob, processor
from reyna.domain.blob import MEDIA_SCHEMA, BlobContent, BlobDerived, Provenance
from reyna.domain.event import Boundary, Event, Meta, type_of
from reyna.domain.processor import (
    ProcessorCompleted,
    ProcessorFailed,
    ProcessorStarted,
    Run,
    RunRequest,
    derived_id_of,
    file_id_of,
)
from reyna.errors import LogUnavailable, Permanent, WrongExpectedSeq
from reyna.ids import id_of, now
from reyna.log.media import MediaStore
from reyna.log.progress import Progress
from reyna.log.record import Record
from reyna.log.stream import Draft, Guard, Log

logger = logging.getLogger(__name__)

MAX_ERROR = 2000
# Files that one run may make beside its blob, and their bytes together.
MAX_FILES = 16
MAX_FILE_BYTES = 128 * 1024 * 1024


class Journal:
    """The run `run_id` of a processor, which the event in `record` asked for."""

    def __init__(
        self,
        log: Log,
        boundaries: Boundaries,
        store: MediaStore,
        spec: ProcessorSpec,
        record: Record,
        run_id: str,
    ) -> None:
        self._log = log
        self._boundaries = boundaries
        self._store = store
        self._spec = spec
        self._record = record
        self._owner = record.owner
        self.run_id = run_id
        self.derived_id = derived_id_of(run_id, spec.version)
        self.attempts = 0
        self._seq = 0
        event = record.event
        asked = event if isinstance(event, BlobContent | RunRequest) else None
        self._bucket_ids = asked.bucket_ids if asked else ()
        self._blob_id = asked.blob_id if isinstance(asked, RunRequest) else record.entity_id
        self._bucket_id: str | UnsetType = UNSET
        self._source_seq = record.seq

    def resume(self, run: Run | None) -> None:
        """Go on where the log says that the run is."""
        self._seq, self.attempts = (run.seq, run.attempts) if run else (0, 0)

    def reads(self, blob_id: str, seq: int) -> None:
        """The content that is read is that of the event `seq`."""
        self._blob_id, self._source_seq = blob_id, seq

    def reads_bucket(self, bucket_id: str, seq: int) -> None:
        """What is read is a bucket with all below it, as it is right after the event `seq`."""
        self._bucket_id, self._source_seq = bucket_id, seq

    async def started(self) -> None:
        """An attempt begins."""
        self.attempts += 1
        event = ProcessorStarted(
            run_id=self.run_id,
            processor_id=self._spec.processor_id,
            blob_id=self._blob_id,
            bucket_ids=self._bucket_ids,
            attempt=self.attempts,
            source_seq=self._source_seq,
        )
        self._seq = await self._append_to_run(event, f"started {self.attempts}")

    async def keep(self, derived: Derived) -> None:
        """Append the derived blob and its files', filed where the source is by now; a lost log is
        waited for, so that the answer is not paid for twice.

        The files are stored first. Their blobs appear under the guard that the derived one does not
        exist, in one batch with it: all of them once, or none.
        """
        guard = Guard(blob.boundary(self._owner, self.derived_id), 0)
        event = self._derived(derived)
        while True:
            try:
                event = replace(event, bucket_ids=await self._places())
                files = [await self._file(file, event) for file in derived.files]
                await self._log.append(self._drafts(event, files), guard)
            except LogUnavailable as error:
                logger.info("what %s made waits for the log: %s", self._spec.processor_id, error)
                await asyncio.sleep(0.5)
            except WrongExpectedSeq:
                logger.info("blob %s was derived by another worker", self.derived_id)
                return
            else:
                return

    async def completed(self, derived: Derived | Provenance) -> None:
        """The blob is there. An earlier attempt's is known by its provenance, but for its cost."""
        event = ProcessorCompleted(
            run_id=self.run_id,
            processor_id=self._spec.processor_id,
            blob_id=self._blob_id,
            bucket_ids=self._bucket_ids,
            derived_id=self.derived_id,
            attempts=max(self.attempts, 1),
            tokens_in=derived.tokens_in,
            tokens_out=derived.tokens_out,
            cost=derived.cost if isinstance(derived, Derived) else None,
            seconds=derived.seconds,
        )
        await self._append_to_run(event, f"completed {self._seq}")

    async def failed(self, error: str, *, permanent: bool) -> None:
        """The run is given up."""
        event = ProcessorFailed(
            run_id=self.run_id,
            processor_id=self._spec.processor_id,
            blob_id=self._blob_id,
            bucket_ids=self._bucket_ids,
            attempts=self.attempts,
            error=error[:MAX_ERROR],
            permanent=permanent,
        )
        await self._append_to_run(event, "failed")

    def progress(self) -> Progress:
        """What all progress of the attempt says."""
        return Progress(
            run_id=self.run_id,
            processor_id=self._spec.processor_id,
            blob_id=self._blob_id or "",
            offset=0,
            text="",
            bucket_ids=self._bucket_ids,
        )

    def _derived(self, derived: Derived) -> BlobDerived:
        return BlobDerived(
            schema_id=self._spec.output_schema_id,
            data=derived.data,
            title=derived.title,
            parent_id=self._blob_id,
            processor_id=self._spec.processor_id,
            provenance=Provenance(
                processor_version=self._spec.version,
                source_blob_id=self._blob_id,
                source_bucket_id=self._bucket_id,
                source_seq=self._source_seq,
                run_id=self.run_id,
                model=derived.model,
                prompt_version=derived.prompt_version,
                tokens_in=derived.tokens_in,
                tokens_out=derived.tokens_out,
                seconds=derived.seconds,
                generated_at=now(),
            ),
        )

    async def _file(self, file: DerivedFile, event: BlobDerived) -> tuple[str, BlobDerived]:
        """Store a file; its blob is below that of `event`."""
        media = await keep_file(
            *(self._store, self._boundaries, self._owner),
            *(file.file_name, file.content_type, file.content),
        )
        blob_id = file_id_of(self.derived_id, file.key)
        return blob_id, replace(
            event,
            schema_id=MEDIA_SCHEMA,
            data=msgspec.Raw(msgspec.json.encode(media)),
            media=media,
            parent_id=self.derived_id,
            # It was made together with its parent, of what that was made of.
            provenance=replace(event.provenance, source_blob_id=None),
        )

    async def _places(self) -> tuple[str, ...]:
        """Where to file what was made: the buckets that the source is in by now, or the one that
        it is; nowhere if the processor wants it so.
        """
        if not self._spec.filed:
            return ()
        if self._bucket_id is not UNSET:
            tree = await self._boundaries.tree(self._owner, fresh=True)
            return (self._bucket_id,) if tree.is_live(self._bucket_id) else ()
        assert self._blob_id is not None
        source = await self._boundaries.blob(self._owner, self._blob_id)
        return source.bucket_ids if source else ()

    def _drafts(self, event: BlobDerived, files: Sequence[tuple[str, BlobDerived]]) -> list[Draft]:
        meta = replace(self._meta_of_blob(event, "derived"), batch=1 + len(files))
        return [
            Draft(self._owner, self.derived_id, event, meta),
            *(
                Draft(self._owner, blob_id, file, self._meta_of_blob(file, f"derived {blob_id}"))
                for blob_id, file in files
            ),
        ]

    async def _append_to_run(self, event: Event, step: str) -> int:
        boundary = processor.boundary(self._owner, self.run_id)
        return await self._append(boundary, self._seq, self.run_id, event, self._meta(event, step))

    async def _append(
        self, boundary: Boundary, seq: int, entity_id: str, event: Event, meta: Meta
    ) -> int:
        draft = Draft(self._owner, entity_id, event, meta)
        return await self._log.append([draft], Guard(boundary, seq))

    def _meta(self, event: Event, step: str) -> Meta:
        source = self._record.meta
        return Meta(
            # A run that is tried again by hand answers another event.
            id=id_of(self.run_id, source.id, step),
            time=now(),
            type=type_of(event),
            actor=f"processor:{self._spec.processor_id}",
            cause=source.id,
            correlation=source.correlation or source.id,
            hops=source.hops,
            lineage=source.lineage,
            via=source.via,
        )

    def _meta_of_blob(self, event: BlobDerived, step: str) -> Meta:
        source = self._record.meta
        above = (self._blob_id, event.parent_id)
        return Meta(
            id=id_of(self.run_id, source.id, step),
            time=now(),
            type=type_of(event),
            actor=f"processor:{self._spec.processor_id}",
            cause=source.id,
            correlation=source.correlation or source.id,
            hops=source.hops + 1,
            lineage=(*source.lineage, *dict.fromkeys(one for one in above if one)),
            via=(*source.via, self._spec.processor_id),
        )


def check_files(derived: Derived) -> None:
    """Raise Permanent for files that are too many or too large, or have the same key."""
    if len({file.key for file in derived.files}) < len(derived.files):
        raise Permanent("Two of the files that it made have the same key.")
    size = sum(len(file.content) for file in derived.files)
    if len(derived.files) > MAX_FILES or size > MAX_FILE_BYTES:
        raise Permanent(
            f"It made {len(derived.files)} files of {size} bytes; at most {MAX_FILES} with"
            f" {MAX_FILE_BYTES} bytes together are kept."
        )
