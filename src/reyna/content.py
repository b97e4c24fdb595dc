"""What a projection and a processor are, and how they and their schemas are found. Owns the
extension points.

All are found by entry points (`reyna.projections`, `reyna.processors`, `reyna.schemas`), ours as
everybody's. Who runs them is the runtime's business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from importlib.metadata import entry_points
from types import ModuleType
from typing import Protocol, runtime_checkable

import msgspec
from litestar.handlers import HTTPRouteHandler
from sqlalchemy import Index, MetaData, Table
from sqlalchemy.engine import CursorResult, Dialect
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import Executable, quoted_name

import schemas as shipped
from reyna.database import Writer
from reyna.domain.processor import file_id_of
from reyna.domain.subtree import Contents
from reyna.errors import SetupError
from reyna.log.record import Record
from reyna.settings import Settings

Row = Mapping[str, object]
LATE = {"late": True}
"""The `info` of an index that queries need and the fold does not: a rebuild makes it at its end."""

USER = "user_id"
"""The column that says whose a row is."""
OWNER = "owner"
"""In the `info` of a table without that column: `(table, key)`, the name of another of the view's
tables that has it, and the column by which both know a row. Proofs are made for each user by it.
"""


class Tables:
    """A projection's tables under the names they have now, or under those of a rebuild
    beside them. `late` are the indexes that the latter are still without.
    """

    def __init__(self, declared: MetaData, suffix: str = "") -> None:
        self.metadata = MetaData()
        self._writers: dict[tuple[str, tuple[str, ...], bool], Writer] = {}
        self._by_name = {
            table.name: table.to_metadata(self.metadata, name=table.name + suffix)
            for table in declared.sorted_tables
        }
        self.late: list[Index] = []
        if suffix:
            for table in declared.sorted_tables:
                self._set_apart(table, suffix)

    def __getitem__(self, declared: Table) -> Table:
        """The table that stands for the declared one."""
        return self._by_name[declared.name]

    def writer(
        self, dialect: Dialect, declared: Table, names: tuple[str, ...], upsert: bool
    ) -> Writer:
        """What writes rows with columns of these names, made once."""
        key = (declared.name, names, upsert)
        if key not in self._writers:
            self._writers[key] = Writer.prepare(dialect, self[declared], names, upsert)
        return self._writers[key]

    def _set_apart(self, declared: Table, suffix: str) -> None:
        """Give the indexes of a table names of their own, and put the late ones off."""
        late = {index.name for index in declared.indexes if index.info == LATE}
        table = self[declared]
        for index in list(table.indexes):
            if index.name in late:
                table.indexes.remove(index)
                self.late.append(index)
            index.name = quoted_name(f"{index.name}{suffix}", quote=None)


class Tx:
    """The transaction in which one batch is applied: rows and checkpoint stand or fall together."""

    def __init__(self, connection: AsyncConnection, tables: Tables) -> None:
        self.connection = connection
        self.tables = tables

    def __getitem__(self, declared: Table) -> Table:
        """The table to write for the declared one; always go through this, a rebuild has
        its own.
        """
        return self.tables[declared]

    async def execute(
        self, statement: Executable, rows: Sequence[Row] | None = None
    ) -> CursorResult[tuple[object, ...]]:
        """Run a statement once, or once for each row."""
        result: CursorResult[tuple[object, ...]] = await self.connection.execute(statement, rows)
        return result

    async def insert(self, declared: Table, rows: Sequence[Row]) -> None:
        """Insert rows, all with the same columns; SQLAlchemy's own defaults are not filled in."""
        await self._write(declared, rows, upsert=False)

    async def upsert(self, declared: Table, rows: Sequence[Row]) -> None:
        """Insert rows by primary key; what is there already is replaced in the columns given."""
        await self._write(declared, rows, upsert=True)

    async def _write(self, declared: Table, rows: Sequence[Row], *, upsert: bool) -> None:
        if rows:
            names = tuple(rows[0])
            writer = self.tables.writer(self.connection.dialect, declared, names, upsert)
            await self.connection.exec_driver_sql(writer.sql, writer.parameters(rows))


class Projection(ABC):
    """A view folded from the log: its tables, its fold, and the GET routes that read it.

    `version` goes up when the tables or the fold change; the view is then rebuilt by itself.
    `kinds` are the kinds of event it wants (`blob`, `bucket`, …); it is given no others. The routes
    of a `temporal` one take `at`, and must answer as things were then.
    """

    name: str
    version: int
    kinds: frozenset[str]
    tables: MetaData
    routes: Sequence[HTTPRouteHandler] = ()
    temporal: bool = False

    @abstractmethod
    async def apply(self, tx: Tx, records: Sequence[Record]) -> None:
        """Fold records, in order, into the tables. Must depend on nothing but records and
        tables.
        """


class ProcessorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a processor declares of itself.

    One that reads `bucket-v1` is given a bucket with all below it, and is run by hand alone.
    `also_reads`: schemas whose blobs it takes beside those of `input_schema_id`; `Source.schema_id`
    says which one it was given. `default_active`: on for everybody until switched off. A property
    of the settings schema with `"writeOnly": true` or `"format": "password"` is a secret.
    `attempt_timeout`: seconds after which an attempt is given up. `filed`: what it makes is put
    into the buckets that its source is in.
    """

    processor_id: str
    name: str
    description: str
    version: str
    input_schema_id: str
    output_schema_id: str
    also_reads: tuple[str, ...] = ()
    filed: bool = True
    subscribe_events: tuple[str, ...] = ("blob.created", "blob.derived")
    settings_schema: msgspec.Raw = msgspec.Raw(b"{}")
    default_active: bool = False
    attempt_timeout: float = 600.0

    @property
    def reads(self) -> tuple[str, ...]:
        """All schemas whose blobs it takes."""
        return (self.input_schema_id, *self.also_reads)


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The blob that a processor is given. `data` is JSON that is valid under `schema_id`, which is
    one that the processor reads; `settings` JSON that is valid under the settings schema, its
    defaults filled in and its secrets readable. `derived_id` is the id that the derived blob will
    have.

    A processor that reads `bucket-v1` is given a bucket: `data` says what it is, `contents` what is
    in it, and there is no `blob_id`.
    """

    owner: str
    blob_id: str = ""
    schema_id: str
    data: msgspec.Raw
    title: str | None = None
    settings: msgspec.Raw = msgspec.Raw(b"{}")
    derived_id: str = ""
    bucket_id: str | None = None
    contents: Contents | None = None

    def file_id(self, key: str) -> str:
        """The id of the blob that the derived file `key` will become."""
        return file_id_of(self.derived_id, key)


class DerivedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a processor made beside its derived blob: it becomes a blob of `media-v1` below
    that one. `key` names it among the files of its run; `content_type` is believed.
    """

    key: str
    file_name: str
    content_type: str
    content: bytes


class Derived(msgspec.Struct, frozen=True, kw_only=True):
    """What a processor made. `data` is JSON that must be valid under the output schema; `cost` is
    in US dollars. The blob and all `files` appear together or not at all.
    """

    data: msgspec.Raw
    files: tuple[DerivedFile, ...] = ()
    title: str | None = None
    model: str | None = None
    prompt_version: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None
    seconds: float | None = None


class Readiness(msgspec.Struct, frozen=True):
    """Whether a processor can work, and what to tell the operator and the writer, if anything.

    `resting`: its provider failed again and again and is left alone for a while. `last_seen_at` is
    when a worker of it was last heard of, RFC 3339. Both are the runtime's to fill in.
    """

    ready: bool
    advice: str | None = None
    resting: bool = False
    last_seen_at: str | None = None


class Progress(Protocol):
    """Takes each new piece of text while it is written; it reaches the owner's open sockets."""

    async def __call__(self, text: str) -> None:
        """Pass on one piece."""


@runtime_checkable
class Processor(Protocol):
    """A derivation: a blob of a schema that it reads in, a blob of another out.

    `run` raises `reyna.errors.Transient` for what may pass and `Permanent` for what will not; any
    other exception counts as transient. It must be cancellable at every await.
    """

    spec: ProcessorSpec

    def lifespan(self, settings: Settings) -> AbstractAsyncContextManager[None]:
        """Open what the processor needs (clients, models) and close it at the end."""

    def readiness(self) -> Readiness:
        """Whether runs can be taken now; while they cannot, they wait as `queued`."""

    async def run(self, source: Source, progress: Progress) -> Derived:
        """Make the derived content."""


class Embedding(msgspec.Struct, frozen=True):
    """Where a text stands in the space of `model`: `vector` is 32-bit floats, little-endian, of
    length 1 together.
    """

    model: str
    vector: bytes


@runtime_checkable
class Embedder(Protocol):
    """A processor that embeds texts, and can do so with a question in the meantime."""

    async def embed(self, question: str) -> Embedding:
        """The embedding of a question, within seconds. Raises Transient and Permanent."""


class Asked(msgspec.Struct, frozen=True):
    """What asked for a run: the event `seq`, of a processor."""

    processor_id: str
    seq: int


@runtime_checkable
class RunIndex(Protocol):
    """A projection that knows which event asked for a run before the run has written anything."""

    async def asked(self, connection: AsyncConnection, user_id: str, run_id: str) -> Asked | None:
        """What asked for a user's run, None if nothing is known of it."""


def projections() -> list[Projection]:
    """All installed projections, by name. Raises SetupError for one that does not load."""
    found: list[Projection] = []
    for part in _load("reyna.projections"):
        if not isinstance(part, Projection):
            raise SetupError(f"The installed projection {part!r} is not a reyna Projection.")
        found.append(part)
    return sorted(found, key=lambda projection: projection.name)


def processors() -> list[Processor]:
    """All installed processors, by id. Raises SetupError for one that does not load."""
    found: list[Processor] = []
    for part in _load("reyna.processors"):
        if not isinstance(part, Processor):
            raise SetupError(f"The installed processor {part!r} is not a reyna Processor.")
        found.append(part)
    return sorted(found, key=lambda processor: processor.spec.processor_id)


def schemas() -> list[shipped.Shipped]:
    """The schemas of all installed packages, by id. Raises SetupError for a package that does not
    load, and for an id that two of them have.
    """
    found: dict[str, shipped.Shipped] = {}
    for part in _load("reyna.schemas"):
        if not isinstance(part, ModuleType):
            raise SetupError(f"reyna.schemas: {part!r} is no package of JSON Schemas.")
        try:
            theirs = shipped.load(part.__name__)
        except (ValueError, OSError, msgspec.MsgspecError) as error:
            raise SetupError(f"reyna.schemas: {error}") from error
        for one in theirs:
            if one.schema_id in found:
                raise SetupError(f"Two installed packages ship a schema {one.schema_id}.")
            found[one.schema_id] = one
    return sorted(found.values(), key=lambda one: one.schema_id)


def _load(group: str) -> list[object]:
    loaded: list[object] = []
    for point in entry_points(group=group):
        try:
            loaded.append(point.load())
        except Exception as error:
            raise SetupError(
                f"{group}: {point.name} ({point.value}) does not load: {error}"
            ) from error
    return loaded
