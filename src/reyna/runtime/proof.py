"""What is compared to prove a view: the hashes of its tables, whole and of each user's rows.

Both come from one pass over the rows in the order of the primary key. Memory grows with the users
that have rows, some hundred bytes each, never with the rows. Rebuilding what is compared with is
the business of `reyna.runtime.replay`.

A text index is compared as a whole: SQLite shows of it only which words occur how often.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence

import msgspec
from sqlalchemy import ColumnElement, Row, Select, String, Table, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from reyna.content import OWNER, USER, Tables
from reyna.text_index import terms_of

ROWS = 100
# Users that a proof of a table names, so that a forged view has no endless answer.
NAMED = 1000


class Digest(msgspec.Struct, frozen=True):
    """The SHA-256 over a table's rows, how many they are, and the SHA-256 over each user's."""

    whole: str
    rows: int
    users: dict[str, bytes]


class UserProof(msgspec.Struct, frozen=True):
    """The hashes of one user's rows in one table, live and rebuilt; None without any row."""

    user_id: str
    live: str | None
    rebuilt: str | None


class TableProof(msgspec.Struct, frozen=True):
    """The hashes of one table, live and rebuilt from the log up to the same seq.

    `users` have rows in it; those of `users_differing` of them differ, and the first NAMED, by id,
    are in `differing`.
    """

    projection: str
    table: str
    position: int
    rows: int
    live: str
    rebuilt: str
    users: int
    users_differing: int
    differing: list[UserProof]

    @property
    def same(self) -> bool:
        """Whether the live table is exactly what the log says."""
        return self.live == self.rebuilt


class Proof(msgspec.Struct, frozen=True):
    """Whether live views are what the log says: all events up to `position` are in all of them.

    `different` are the tables that are not, `users_differing` the users whose rows are not, as far
    as the tables name them.
    """

    same: bool
    position: int
    different: list[str]
    users_differing: list[str]
    tables: list[TableProof]


def conclude(tables: list[TableProof]) -> Proof:
    """What the proofs of tables come to."""
    different = [one.table for one in tables if not one.same]
    users = {user.user_id for one in tables for user in one.differing}
    position = min((one.position for one in tables), default=0)
    return Proof(not different, position, different, sorted(users), tables)


def compare(
    projection: str, table: str, position: int, live: Digest, rebuilt: Digest
) -> TableProof:
    """The proof of a table."""
    users = live.users.keys() | rebuilt.users.keys()
    differing = sorted(one for one in users if live.users.get(one) != rebuilt.users.get(one))
    return TableProof(
        projection=projection,
        table=table,
        position=position,
        rows=rebuilt.rows,
        live=live.whole,
        rebuilt=rebuilt.whole,
        users=len(users),
        users_differing=len(differing),
        differing=[
            UserProof(one, _hex(live.users.get(one)), _hex(rebuilt.users.get(one)))
            for one in differing[:NAMED]
        ],
    )


async def digest(connection: AsyncConnection, tables: Tables, declared: Table) -> Digest:
    """The hashes of the table that stands for a declared one."""
    table = tables[declared]
    whole = hashlib.sha256()
    users: dict[str, bytes] = {}
    rows = 0
    query = select(table, _owner(tables, declared)).order_by(*table.primary_key.columns)
    async for some in _partitions(connection, query):
        lines = [_line(row[:-1]) for row in some]
        whole.update(b"".join(lines))
        rows += len(lines)
        for row, line in zip(some, lines, strict=True):
            if isinstance(user_id := row[-1], str):
                # A chain, because a hash object for each user would be ten times as large.
                users[user_id] = hashlib.sha256(users.get(user_id, b"") + line).digest()
    terms = await connection.run_sync(terms_of, table)
    if terms is not None:
        async for some in _partitions(connection, terms):
            whole.update(b"".join([_line(tuple(row)) for row in some]))
    return Digest(whole.hexdigest(), rows, users)


def _owner(tables: Tables, declared: Table) -> ColumnElement[str | None]:
    """Whose a row is; null where it is nobody's alone."""
    table = tables[declared]
    if USER in table.c:
        return table.c[USER]
    if OWNER not in declared.info:
        return literal_column("NULL", String)
    through, key = declared.info[OWNER]
    other = tables[declared.metadata.tables[through]]
    return (
        select(other.c[USER])
        .where(other.c[key] == table.c[key])
        .order_by(*other.primary_key.columns)
        .limit(1)
        .scalar_subquery()
    )


async def _partitions(
    connection: AsyncConnection, query: Select[*tuple[object, ...]]
) -> AsyncIterator[Sequence[Row[*tuple[object, ...]]]]:
    result = await connection.stream(query.execution_options(yield_per=ROWS))
    # Many at a time: one by one each row would cost a switch of contexts.
    async for rows in result.partitions(ROWS):
        yield rows


def _line(row: tuple[object, ...]) -> bytes:
    return msgspec.json.encode(row) + b"\n"


def _hex(digest: bytes | None) -> str | None:
    return None if digest is None else digest.hex()
