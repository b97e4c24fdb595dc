"""Text indexes: tables that hold the words of texts, in columns, and find rows by them.

Owns how one is declared, made and laid open for comparison: an FTS5 table on SQLite, `tsvector`
columns under one GIN index on PostgreSQL. Which words a row has, and what is asked of them, is the
business of the view that declares it; so is the ranking.
"""

from __future__ import annotations

from functools import reduce
from operator import add

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    column,
    event,
    select,
    table,
)
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.dialects.sqlite.base import SQLiteDDLCompiler
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateTable

_MARK = "text_index"


def text_index(name: str, metadata: MetaData, *columns: str) -> Table:
    """Declare a text index in a view's tables: `rowid`, its key, and `columns` of words.

    What is written into a column is, on SQLite, words with spaces between them; on PostgreSQL the
    text of a `tsvector`. SQLite keeps no text, only the index: its columns read as NULL, and rows
    are added, never changed.
    """
    words = Text().with_variant(TSVECTOR(), "postgresql")
    declared = Table(
        name,
        metadata,
        Column("rowid", BigInteger, primary_key=True, autoincrement=False),
        *(Column(column, words, nullable=False) for column in columns),
        info={_MARK: True},
    )
    # Unlike an Index that is for one dialect alone, this goes along when a table is copied.
    event.listen(declared, "after_create", _index_on_postgresql, propagate=True)
    return declared


def all_words(index: Table) -> ColumnElement[str]:
    """The words of all columns, one after the other: what PostgreSQL's index is on."""
    columns = [column for column in index.columns if not column.primary_key]
    return reduce(add, columns)


def terms_of(connection: Connection, index: Table) -> Select[tuple[str, str, int, int]] | None:
    """A query for what is in a text index beyond what its rows show, in a stable order; None if
    they show all, or it is no text index.

    It is: each word with its column, in how many rows it is and how often. Only good for the
    transaction it was made in.
    """
    if not index.info.get(_MARK) or connection.dialect.name != "sqlite":
        return None
    name = f"{index.name}_terms"
    quote = connection.dialect.identifier_preparer.quote
    # A table that holds nothing itself, and is gone with the transaction.
    connection.exec_driver_sql(
        f"CREATE VIRTUAL TABLE IF NOT EXISTS temp.{quote(name)}"
        f" USING fts5vocab('main', {quote(index.name)}, 'col')"
    )
    terms = table(
        name,
        column("term", Text),
        column("col", Text),
        column("doc", Integer),
        column("cnt", Integer),
        schema="temp",
    )
    return select(terms.c.term, terms.c.col, terms.c.doc, terms.c.cnt).order_by(
        terms.c.term, terms.c.col
    )


def _index_on_postgresql(made: Table, connection: Connection, **_: object) -> None:
    if connection.dialect.name == "postgresql":
        quote = connection.dialect.identifier_preparer.quote
        name, table_name = quote(f"{made.name}_words"), quote(made.name)
        words = all_words(made).compile(dialect=connection.dialect)
        connection.exec_driver_sql(f"CREATE INDEX {name} ON {table_name} USING gin (({words}))")


@compiles(CreateTable, "sqlite")
def _create_on_sqlite(create: CreateTable, compiler: SQLiteDDLCompiler, **options: object) -> str:
    declared = create.element
    if not declared.info.get(_MARK):
        made: str = compiler.visit_create_table(create, **options)  # type: ignore[no-untyped-call]  # SQLAlchemy's compilers are not typed
        return made
    quote = compiler.preparer.quote
    columns = ", ".join(quote(c.name) for c in declared.columns if not c.primary_key)
    # Words come as they are to be found: nothing is left to the tokenizer but to cut at spaces.
    return (
        f"CREATE VIRTUAL TABLE {compiler.preparer.format_table(declared)}"
        f" USING fts5({columns}, content='', tokenize='ascii')"
    )
