"""A view of how many words each user has counted: GET /api/v1/words."""

from collections.abc import Sequence

import msgspec
from litestar import get
from sqlalchemy import Boolean, Column, Integer, MetaData, String, Table, func, select, update

from reyna.api.views import View
from reyna.content import Projection, Tx
from reyna.domain.blob import BlobDeleted, BlobDerived, BlobRestored
from reyna.log.record import Record

metadata = MetaData()
counted = Table(
    "counted_texts",
    metadata,
    Column("blob_id", String(64), primary_key=True),
    Column("user_id", String(64), nullable=False, index=True),
    Column("words", Integer, nullable=False),
    Column("trashed", Boolean, nullable=False),
)


class Words(msgspec.Struct):
    texts: int
    words: int


@get("/words", tags=["words"])
async def get_words(view: View) -> Words:
    """How many texts of the caller's were counted, and their words."""
    mine = (counted.c.user_id == view.user_id, ~counted.c.trashed)
    total = func.coalesce(func.sum(counted.c.words), 0)
    ((texts, words),) = await view.tuples(select(func.count(), total).where(*mine))
    return Words(texts, words)


class WordTotals(Projection):
    name = "words"
    version = 1
    kinds = frozenset({"blob"})
    tables = metadata
    routes = [get_words]

    async def apply(self, tx: Tx, records: Sequence[Record]) -> None:
        for record in records:
            blob_id, event = record.entity_id, record.event
            if isinstance(event, BlobDerived) and event.schema_id == "word-count-v1":
                words = msgspec.json.decode(event.data)["words"]
                row = {"user_id": record.owner, "words": words, "trashed": False}
                await tx.upsert(counted, [{"blob_id": blob_id, **row}])
            elif isinstance(event, BlobDeleted | BlobRestored):
                at = tx[counted].c.blob_id == blob_id
                trashed = isinstance(event, BlobDeleted)
                await tx.execute(update(tx[counted]).where(at).values(trashed=trashed))


projection = WordTotals()
