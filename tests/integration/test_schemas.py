"""Schemas in several processes, and the judges: what is given up, and what stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

import schemas as shipped
from reyna.commands.boundaries import Boundaries
from reyna.commands.handler import Caller, Handler
from reyna.commands.idempotency import Idempotency
from reyna.commands.registry import Registry
from reyna.commands.requests import RegisterSchema
from reyna.commands.schemas import Schemas
from reyna.commands.stored_blobs import StoredBlobs
from reyna.database import open_engine, sqlite_url
from reyna.errors import Invalid, NotFound, SetupError
from reyna.judge.pool import Judges, TooCostly
from reyna.judge.tasks import Check, Compare, Definition, Explain, Sift
from reyna.log.stream import Log

USER = Caller(user_id="u1")


class Program:
    """What one process has."""

    def __init__(self, log: Log, folder: Path, judges: Judges) -> None:
        boundaries = Boundaries(log)
        self.engine = open_engine(sqlite_url(folder / "accounts.db"))
        self.idempotency = Idempotency(self.engine)
        self.schemas = Schemas(log, boundaries, judges)
        handler = Handler(log, boundaries, self.idempotency)
        blobs = StoredBlobs(log, judges)
        self.registry = Registry(handler, boundaries, self.schemas, judges, blobs)


@pytest.fixture
async def judges() -> AsyncIterator[Judges]:
    """Judges of one's own."""
    judges = Judges()
    yield judges
    await judges.close()


@pytest.fixture
async def programs(
    log: Log, tmp_path: Path, judges: Judges
) -> AsyncIterator[tuple[Program, Program]]:
    """Two processes on one log."""
    one, other = Program(log, tmp_path, judges), Program(log, tmp_path, judges)
    await one.idempotency.prepare()
    yield one, other
    await one.engine.dispose()
    await other.engine.dispose()


async def test_two_processes_register_without_gap_or_duplicate(
    programs: tuple[Program, Program],
) -> None:
    """Registrations of one name by two processes at once get contiguous versions."""
    answers = await asyncio.gather(
        *(
            programs[n % 2].registry.register(
                USER, "u1", RegisterSchema(name="note", definition={"title": str(n)})
            )
            for n in range(10)
        )
    )
    assert {one.entity_id for one in answers} == {f"note-v{n}" for n in range(1, 11)}


async def test_what_another_process_registers_is_known_at_once(
    programs: tuple[Program, Program],
) -> None:
    """A check in one process finds what another has just registered, even after a miss, and the
    user's own goes before the system's.
    """
    one, other = programs
    with pytest.raises(NotFound):
        await one.schemas.check("note-v1", 1, user_id="u1")
    await other.registry.register(USER, "u1", RegisterSchema(name="note", definition=True))
    assert await one.schemas.check("note-v1", 1, user_id="u1") == msgspec.Raw(b"1")
    with pytest.raises(NotFound):
        await one.schemas.check("note-v1", 1, user_id="u2")
    asked = RegisterSchema(name="note", definition={"type": "string"})
    await other.registry.register(USER, "system", asked)
    with pytest.raises(Invalid):
        await one.schemas.check("note-v1", 1, user_id="u2")
    assert await one.schemas.check("note-v1", 1, user_id="u1") == msgspec.Raw(b"1")


async def test_several_processes_ship_once(programs: tuple[Program, Program]) -> None:
    """What ships is registered once, whoever starts at the same time; another text is refused."""
    await asyncio.gather(*(program.schemas.ship(shipped.load()) for program in programs))
    state = await programs[0].schemas.load("system")
    assert sorted(state.by_id) == sorted(one.schema_id for one in shipped.load())
    first = shipped.load()[0]
    edited = msgspec.structs.replace(first, definition=b'{"description": "another"}')
    with pytest.raises(SetupError, match=first.schema_id):
        await programs[0].schemas.ship([edited])


async def test_a_judge_that_is_given_up_is_replaced(judges: Judges) -> None:
    """What takes too long or too much memory is refused; the next task finds a judge."""
    fan = {
        f"d{i}": {
            "anyOf": [
                {"allOf": [{"$ref": f"#/definitions/d{i + 1}"}, {"minLength": i + k}]}
                for k in (0, 1)
            ]
        }
        for i in range(40)
    } | {"d40": {"type": "integer"}}
    bomb = msgspec.json.encode({"definitions": fan, "$ref": "#/definitions/d0"})
    for _ in range(3):
        with pytest.raises(TooCostly):
            await judges.ask("u1", Sift(Definition(bomb), (b'"x"',)))
    huge = b'{"items": {"allOf": [' + b",".join([b'{"type": "null"}'] * 500) + b"]}}"
    data = b"[" + b",".join([b"1"] * 200_000) + b"]"
    with pytest.raises(TooCostly):
        await judges.ask("u1", Explain(Definition(huge), data, ""))
    answer = await judges.ask("u1", Sift(Definition(b'{"type": "string"}'), (b'"x"', b"1")))
    assert answer.valid == (True, False)


async def test_a_cancelled_task_leaves_no_judge_at_work(judges: Judges) -> None:
    """A caller that goes away takes its judge along; others find another."""
    pattern = b'{"pattern": "a"}'
    task = asyncio.create_task(judges.ask("u1", Check(Definition(pattern), "")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await judges.ask("u1", Check(Definition(pattern), ""))).errors == ()


async def test_everything_is_judged_in_a_process(judges: Judges) -> None:
    """The four tasks give their answers across the border."""
    text = Definition(b'{"type": "string"}')
    wrong = await judges.ask("u1", Check(Definition(b'{"type": 1}'), "/definition"))
    assert [error.path for error in wrong.errors] == ["/definition/type"]
    found = await judges.ask("u1", Explain(text, b"1", "/data"))
    assert [(e.path, e.keyword) for e in found.errors] == [("/data", "type")]
    compared = await judges.ask("u1", Compare(text, (), "full", "/definition"))
    assert compared.errors == ()
