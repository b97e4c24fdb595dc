"""Full-text search on SQLite and PostgreSQL: who finds what, in which order, in rebuilds too."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Column, MetaData, String, Table, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from projections.content import search
from projections.content.words import MAX_QUESTION, parse
from reyna.content import Projection, Tables, Tx
from reyna.database import open_engine, reading, writing
from reyna.domain.blob import BlobContent
from reyna.errors import CannotApply, Invalid
from reyna.log import embedded
from reyna.log.record import Record
from reyna.log.stream import Log
from reyna.runtime.projector import Projector
from reyna.runtime.replay import MARK, Replay
from reyna.runtime.views import Views
from tests.events import append_blob, blob_updated, draft, of_blob

ROOT = Path(__file__).parents[2]
ANN, BOB = "ann", "bob"

metadata = MetaData()
versions = Table(
    "versions",
    metadata,
    Column("since", BigInteger, primary_key=True, autoincrement=False),
    Column("user_id", String(64), nullable=False),
    Column("blob_id", String(64), nullable=False),
)
texts = search.declare(metadata)


class Versions(Projection):
    """Every version of every blob, to be searched. A rebuild says so when it is midway."""

    name = "versions"
    version = 1
    kinds = frozenset({"blob"})
    tables = metadata

    def __init__(self, *, poison: str | None = None, hangs: bool = False) -> None:
        self._poison = poison
        self._hangs = hangs

    async def apply(self, tx: Tx, records: Sequence[Record]) -> None:
        """Fold a batch; raises CannotApply for the poison, after it was written."""
        made = [
            search.Version(
                record.seq,
                record.owner,
                search.text_of(bytes(event.data), event.title, event.tags),
            )
            for record in records
            if isinstance(event := record.event, BlobContent)
        ]
        await tx.upsert(
            versions,
            [{"since": r.seq, "user_id": r.owner, "blob_id": r.entity_id} for r in records],
        )
        await search.add(tx, texts, made)
        if self._poison in {version.text.body for version in made}:
            raise CannotApply(f"no {self._poison}")
        if self._hangs and tx[texts].name != texts.name:
            print("midway", flush=True)  # noqa: T201 - another process waits for it
            await asyncio.Event().wait()


@pytest.fixture
async def engine(any_database: str) -> AsyncIterator[AsyncEngine]:
    """An empty database, of either kind."""
    engine = open_engine(any_database)
    yield engine
    await engine.dispose()


@pytest.fixture
async def made(engine: AsyncEngine) -> AsyncEngine:
    """A database with the view's tables."""
    async with writing(engine) as connection:
        await connection.run_sync(metadata.create_all)
    return engine


async def keep(engine: AsyncEngine, user_id: str, *written: str | tuple[str, str]) -> None:
    """Add versions of a user's, each a body, or a title and a body; `since` goes up by one."""
    async with writing(engine) as connection:
        tx = Tx(connection, Tables(metadata))
        start = len((await connection.execute(select(versions))).all()) + 1
        both = [("", entry) if isinstance(entry, str) else entry for entry in written]
        await tx.upsert(
            versions,
            [
                {"since": since, "user_id": user_id, "blob_id": f"b{since}"}
                for since in range(start, start + len(both))
            ],
        )
        await search.add(
            tx,
            texts,
            [
                search.Version(since, user_id, search.Text(title, body))
                for since, (title, body) in enumerate(both, start)
            ],
        )


async def found(engine: AsyncEngine, asked: str, user_id: str = ANN, at: int = 1000) -> list[int]:
    """The versions that a user finds, best first, as the view of blobs asks for them."""
    hits = search.matches(texts, engine.dialect.name, user_id, parse(asked))
    query = (
        select(versions.c.since)
        .join(hits, hits.c.since == versions.c.since)
        .where(versions.c.user_id == user_id, versions.c.since <= at)
        .order_by(hits.c.score.desc(), versions.c.since.desc())
    )
    async with reading(engine) as connection:
        return list((await connection.execute(query)).scalars())


async def test_the_better_answer_comes_first(made: AsyncEngine) -> None:
    """A title counts more than a body, more often more than once; equals come newest first."""
    rest = "and some other things that are told here"
    await keep(
        made,
        ANN,
        f"one fox {rest}",
        f"fox fox fox {rest}",
        ("A fox", f"no more of it {rest}"),
        f"a hen {rest}",
        f"one fox {rest}",
    )
    assert await found(made, "fox") == [3, 2, 5, 1]


async def test_all_words_must_occur_in_title_or_body(made: AsyncEngine) -> None:
    """Words may be spread over title and body, a phrase may not."""
    await keep(made, ANN, ("brown", "fox"), ("", "fox brown"), ("", "brown fox"), ("", "fox"))
    assert sorted(await found(made, "brown fox")) == [1, 2, 3]
    assert await found(made, '"brown fox"') == [3]
    assert await found(made, "brown-fox") == [3]


async def test_beginnings_and_exclusions(made: AsyncEngine) -> None:
    """A star finds what begins so, a minus leaves out words, phrases and beginnings."""
    await keep(made, ANN, "expansion of text", "expand this text", "text alone", "text-expander")
    assert sorted(await found(made, "expan*")) == [1, 2, 4]
    assert await found(made, "expan") == []
    assert sorted(await found(made, '"text expan*" text')) == []
    assert await found(made, "text-expan*") == [4]
    assert await found(made, "text -expan*") == [3]
    assert sorted(await found(made, 'text -expansion -"this text"')) == [3, 4]


async def test_case_accents_and_scripts(made: AsyncEngine) -> None:
    """However it is written, it is found; letters of a script without spaces are a phrase."""
    await keep(
        made, ANN, "Une CRÈME brûlée", "東京タワーに行く", "京東", "हिन्दी", "naïve cafe\u0301"
    )
    assert await found(made, "creme BRULEE") == [1]
    assert await found(made, "Café") == [5]
    assert await found(made, "東京") == [2]
    assert await found(made, "हिन्दी") == [4]
    assert await found(made, "हिन") == []


async def test_another_users_texts_are_never_found(made: AsyncEngine) -> None:
    """The same words find each user's own versions, also without a join that says whose."""
    await keep(made, ANN, "secret fox")
    await keep(made, BOB, "another secret fox", "and a secret hen")
    assert await found(made, "secret") == [1]
    assert sorted(await found(made, "secret", BOB)) == [2, 3]
    async with reading(made) as connection:
        for user_id, own in ((ANN, {1}), (BOB, {2, 3}), ("bo", set()), ("", set())):
            for asked in ("secret", "se*", "secret -cow"):
                hits = search.matches(texts, made.dialect.name, user_id, parse(asked))
                assert set((await connection.execute(select(hits.c.since))).scalars()) == own


async def test_another_users_texts_do_not_change_a_ranking(made: AsyncEngine) -> None:
    """What is a rare word for a user stays so, however common it is elsewhere."""
    await keep(made, ANN, "fox fox hen", "fox hen hen hen", "fox", "fox", "fox cow", "fox cow")
    before = await found(made, "fox hen")
    await keep(made, BOB, *["hen hen hen hen"] * 50)
    assert await found(made, "fox hen") == before


async def test_versions_are_restricted_by_the_table_they_are_joined_with(
    made: AsyncEngine,
) -> None:
    """What held at a moment is found by its words then, and not by later ones."""
    await keep(made, ANN, "draft", "final")
    assert await found(made, "draft", at=1) == [1]
    assert await found(made, "final", at=1) == []
    assert await found(made, "final", at=2) == [2]


async def test_a_text_too_long_for_one_vector_is_searched_in_part(made: AsyncEngine) -> None:
    """A long text of ever new words is kept, and found by its first ones."""
    long = " ".join(f"{n:x}é" for n in range(60_000))[: search.MAX_TEXT]
    await keep(made, ANN, (long, long))
    assert await found(made, '"1e 2e 3e"') == [1]


async def test_any_question_is_answered_or_refused(made: AsyncEngine) -> None:
    """No string of a stranger's is an error of the database's."""
    await keep(made, ANN, "a b c", "東京 ' \" * \\ & | ! : ( )")
    loop = asyncio.get_running_loop()

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.text(max_size=MAX_QUESTION) | st.text(alphabet="abc東 \"'*-\\&|!:()<>\x00", max_size=30)
    )
    def ask(asked: str) -> None:
        try:
            asyncio.run_coroutine_threadsafe(found(made, asked), loop).result(30)
        except Invalid:
            return

    await asyncio.to_thread(ask)


async def test_excerpts_of_a_page() -> None:
    """From the body; from the title if only it has the words; else what the body begins with."""
    page = [
        search.Found(b'{"content":"a fox & a hen"}', "fox", ()),
        search.Found(b'{"content":"nothing"}', "The <fox>", ()),
        search.Found(b'{"content":"no such thing"}', None, ()),
    ]
    assert await search.excerpts(parse("fox"), page) == [
        "a <mark>fox</mark> &amp; a hen",
        "The &lt;<mark>fox</mark>&gt;",
        "no such thing",
    ]


async def test_a_failed_attempt_leaves_no_words(made: AsyncEngine) -> None:
    """Words are rolled back with the rows, to a savepoint and altogether."""
    tables = Tables(metadata)
    async with writing(made) as connection:
        tx = Tx(connection, tables)
        await search.add(tx, texts, [search.Version(1, ANN, search.Text("", "kept"))])
        await tx.upsert(versions, [{"since": 1, "user_id": ANN, "blob_id": "b1"}])
        await connection.exec_driver_sql("SAVEPOINT attempt")
        await search.add(tx, texts, [search.Version(2, ANN, search.Text("", "lost"))])
        await connection.exec_driver_sql("ROLLBACK TO SAVEPOINT attempt")
    async with made.connect() as connection:
        # As `writing` begins, but with no commit at the end.
        if made.dialect.name == "sqlite":
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
        tx = Tx(connection, tables)
        await search.add(tx, texts, [search.Version(3, ANN, search.Text("", "lost"))])
        await connection.rollback()
    async with reading(made) as connection:
        assert list((await connection.execute(select(texts.c.rowid))).scalars()) == [1]
    assert await found(made, "kept") == [1]
    assert await found(made, "lost") == []


# ------------------------------------------------------------------ in a replay


@pytest.fixture
async def views(engine: AsyncEngine, log: Log) -> Views:
    """The views' database, for this log."""
    return Views(engine, log.epoch)


def quiet(_: int, __: int) -> None:
    """Report nothing."""


async def tables_of(engine: AsyncEngine) -> set[str]:
    """The names of all tables, those behind a text index included."""
    async with reading(engine) as connection:
        return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))


async def live(log: Log, views: Views, part: Projection) -> None:
    """Fold what is in the log as the projector does."""
    await views.prepare([part])
    projector = asyncio.create_task(Projector(log.connection, views, [part]).run())
    try:
        await views.reached(part, await log.head())
    finally:
        projector.cancel()
        await asyncio.gather(projector, return_exceptions=True)


async def write(log: Log) -> None:
    """Two blobs of Ann's, one of them changed, and one of Bob's."""
    seq = await append_blob(log, ANN, "b1", "a quick fox")
    await append_blob(log, ANN, "b2", "a fox and a hen")
    await append_blob(log, BOB, "b3", "my own fox")
    changed = draft(ANN, "b1", blob_updated("a slow turtle"))
    await log.append([changed], of_blob(seq, ANN, "b1"))


async def test_a_rebuilt_index_equals_the_live_one(
    log: Log, views: Views, engine: AsyncEngine
) -> None:
    """It is verified, rebuilt under another name, put in place, found in and written to again."""
    part = Versions()
    await write(log)
    await live(log, views, part)
    before, names = await found(engine, "fox"), await tables_of(engine)
    assert sorted(before) == [1, 2]
    proofs = await Replay(log, views).verify([part], quiet)
    assert [(p.table, p.rows, p.same) for p in proofs] == [
        ("blob_texts", 4, True),
        ("versions", 4, True),
    ]
    for _ in range(2):
        await Replay(log, views).rebuild([part], None, quiet)
        assert await found(engine, "fox") == before
        assert await tables_of(engine) == names
        assert await Replay(log, views).verify([part], quiet) == proofs
    await append_blob(log, ANN, "b4", "one more fox")
    await live(log, views, part)
    assert sorted(await found(engine, "fox")) == [1, 2, 5]


async def test_verify_notices_forged_words(log: Log, views: Views, engine: AsyncEngine) -> None:
    """A row whose words are not those of the log is found, though it has the right key."""
    part = Versions()
    await write(log)
    await live(log, views, part)
    await append_blob(log, ANN, "b4", "true")
    await views.prepare([part])
    async with writing(engine) as connection:
        tx = Tx(connection, Tables(metadata))
        await tx.upsert(versions, [{"since": 5, "user_id": ANN, "blob_id": "b4"}])
        await search.add(tx, texts, [search.Version(5, ANN, search.Text("", "forged"))])
        await connection.execute(text("UPDATE checkpoints SET position = 5"))
    proofs = await Replay(log, views).verify([part], quiet)
    assert [(p.table, p.same) for p in proofs] == [("blob_texts", False), ("versions", True)]


async def test_a_version_set_aside_in_a_rebuild_leaves_no_words(
    log: Log, views: Views, engine: AsyncEngine
) -> None:
    """One bad record takes its own words away, and no others."""
    part = Versions(poison="my own fox")
    await write(log)
    await views.prepare([part])
    (done,) = await Replay(log, views).rebuild([part], None, quiet)
    assert done.set_aside == 1
    assert await found(engine, "fox", BOB) == []
    assert sorted(await found(engine, "fox")) == [1, 2]
    async with reading(engine) as connection:
        rows = (await connection.execute(select(texts.c.rowid))).scalars()
        assert sorted(rows) == [1, 2, 4]


KILLED = """
import asyncio, sys
from reyna.database import open_engine
from reyna.log.connection import Connection
from reyna.log.stream import Log
from reyna.runtime.replay import Replay
from reyna.runtime.views import Views
from tests.integration.test_search import Versions, quiet

async def main(nats, token, database):
    log = await Log.open(await Connection.open(nats, token))
    views = Views(open_engine(database), log.epoch)
    await Replay(log, views).rebuild([Versions(hangs=True)], None, quiet)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_what_a_killed_rebuild_leaves_is_dropped(
    nats: embedded.Server, log: Log, views: Views, engine: AsyncEngine, any_database: str
) -> None:
    """The tables behind a text index do not stand in the way of the next rebuild."""
    part = Versions()
    await write(log)
    await live(log, views, part)
    before, names = await found(engine, "fox"), await tables_of(engine)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KILLED, nats.url, nats.token, any_database),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"midway\n"
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    left = await tables_of(engine) - names
    assert any(name.startswith(f"blob_texts{MARK}") for name in left)
    await Replay(log, views).rebuild([part], None, quiet)
    assert await tables_of(engine) == names
    assert await found(engine, "fox") == before
