"""Idempotency: the first answer to a keyed request, given again. Owns its table and its 24 hours.

The log is asked first after a crash (`reyna.commands.handler`); this table only has to remember
what was answered. It stands with the accounts, not with the views: it cannot be rebuilt.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from reyna.database import reading, writing
from reyna.errors import Invalid
from reyna.ids import rfc3339

KEEP = timedelta(hours=24)
# Seconds between two clean-ups.
PURGE_EVERY = 3600

metadata = MetaData()
_answers = Table(
    "idempotent_answers",
    metadata,
    Column("user_id", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("entity_id", String(64), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("time", String(32), nullable=False),
    Column("answered_at", Integer, nullable=False),
    Index("idempotent_answers_by_age", "answered_at"),
)


class Answer(msgspec.Struct, frozen=True):
    """What a command came to: the thing, the command's last event's seq, and when. `own_seq` is the
    thing's own, where the last event is another's.
    """

    entity_id: str
    seq: int
    time: str
    own_seq: int | None = None


class Idempotency:
    """Answers by user and key."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._purged_at = 0

    async def prepare(self) -> None:
        """Make the table if it is not there, and forget what is too old."""
        async with writing(self._engine) as connection:
            await connection.run_sync(metadata.create_all)
            await self._purge(connection)

    async def recall(self, user_id: str, key: str, fingerprint: str) -> Answer | None:
        """The first answer to this request, None if there was none.

        Raises Invalid when the key came with another request.
        """
        query = select(_answers).where(
            _answers.c.user_id == user_id,
            _answers.c.key == key,
            _answers.c.answered_at >= _horizon(),
        )
        async with reading(self._engine) as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            return None
        if row.fingerprint != fingerprint:
            raise Invalid("This Idempotency-Key was used before with another request.")
        return Answer(row.entity_id, row.seq, row.time)

    async def remember(self, user_id: str, key: str, fingerprint: str, answer: Answer) -> None:
        """Keep an answer; an older one of the same key is replaced only when it is out of date."""
        insert = sqlite.insert if self._engine.dialect.name == "sqlite" else postgresql.insert
        row = {
            "user_id": user_id,
            "key": key,
            "fingerprint": fingerprint,
            "entity_id": answer.entity_id,
            "seq": answer.seq,
            "time": answer.time,
            "answered_at": int(datetime.now(UTC).timestamp()),
        }
        statement = insert(_answers).values(row)
        statement = statement.on_conflict_do_update(
            index_elements=["user_id", "key"],
            set_={name: statement.excluded[name] for name in row if name not in {"user_id", "key"}},
            where=_answers.c.answered_at < _horizon(),
        )
        async with writing(self._engine) as connection:
            await connection.execute(statement)
            if self._purged_at < _horizon() + KEEP.total_seconds() - PURGE_EVERY:
                await self._purge(connection)

    async def _purge(self, connection: AsyncConnection) -> None:
        """Forget what is too old."""
        await connection.execute(delete(_answers).where(_answers.c.answered_at < _horizon()))
        self._purged_at = int(datetime.now(UTC).timestamp())


def kept_since() -> str:
    """The time, RFC 3339, before which a key is forgotten."""
    return rfc3339(datetime.now(UTC) - KEEP)


def _horizon() -> int:
    return int((datetime.now(UTC) - KEEP).timestamp())
