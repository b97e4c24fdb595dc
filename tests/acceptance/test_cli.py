"""The commands beside `reyna up`: what they print and how they end, on a folder in use or not."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
import pytest
from nats.js import api

from reyna.log import embedded
from reyna.log.connection import Connection
from reyna.log.stream import STREAM
from tests import program
from tests.program import REYNA, Program, environment
from tests.support import (
    DEADLINE,
    Json,
    User,
    events_of,
    eventually,
    make_blob,
    make_bucket,
    read,
)

# A model that is never asked: starting the local one would take what the tests need.
SETTINGS = {"REYNA_SYNC": "interval", "REYNA_TEXT_BASE_URL": "http://127.0.0.1:9/v1"}
VIEWS = {"content", "processors", "runs", "schemas"}


class Ended(msgspec.Struct, frozen=True):
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    def lines(self) -> list[Json]:
        """What it printed, a JSON object a line."""
        return [msgspec.json.decode(line) for line in self.out.splitlines()]


@asynccontextmanager
async def started(
    *arguments: str | Path, settings: Mapping[str, str] | None = None, cwd: Path | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`reyna …` as a child process, which is gone after the block."""
    process = await asyncio.create_subprocess_exec(
        str(REYNA),
        *(str(argument) for argument in arguments),
        env=environment(SETTINGS | dict(settings or {})),
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def reyna(
    *arguments: str | Path, settings: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Ended:
    """`reyna …`, waited for."""
    async with started(*arguments, settings=settings, cwd=cwd) as process:
        return await ended(process)


async def ended(process: asyncio.subprocess.Process) -> Ended:
    """How a command ends; it must do so by itself."""
    async with asyncio.timeout(DEADLINE):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


def is_one_line(failed: Ended, *words: str) -> None:
    """Check that a command failed in one line of its own that has these words."""
    assert (failed.status, failed.out) == (1, "")
    (line,) = failed.err.splitlines()
    assert line.startswith("reyna: ")
    for word in words:
        assert word in line


async def write(running: Program) -> tuple[User, list[Json]]:
    """A new user with a bucket and three blobs; gives their events once all views have them."""
    user = await running.door.register()
    async with running.door.client(user.token) as client:
        bucket = (await make_bucket(client))["bucket_id"]
        for said in ("one", "two", "three"):
            data = {"content": said, "sender_id": "ada"}
            await make_blob(client, schema_id="message-v1", data=data, bucket_ids=[bucket])
        events = await events_of(client)
        for path in ("/blobs", "/buckets", "/processors"):
            await read(client, path, events[-1]["seq"])
    return user, events


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that a stopped `reyna up` has left, with some events; nothing changes it."""
    path = tmp_path_factory.mktemp("left") / ".reyna"

    async def fill() -> None:
        async with program.up(path, SETTINGS) as running:
            await write(running)

    asyncio.run(fill())
    return path


@pytest.fixture
def folder(left: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    return Path(shutil.copytree(left, tmp_path / "data"))


def change(folder: Path, statement: str) -> None:
    """Change the views' database behind the studio's back."""
    with closing(sqlite3.connect(folder / "views.db")) as connection:
        connection.execute(statement)
        connection.commit()


def spoil(folder: Path) -> None:
    """Do to a folder what the doctor must find."""
    change(folder, "UPDATE checkpoints SET position = 99999 WHERE projection = 'content'")
    change(folder, "UPDATE checkpoints SET version = 99 WHERE projection = 'schemas'")
    change(folder, "DROP TABLE runs")
    change(folder, "INSERT INTO checkpoints SELECT 'old', 1, epoch, 0 FROM checkpoints LIMIT 1")
    change(folder, "INSERT INTO set_aside VALUES ('content', 7, 'blob.created', 'a bug', '')")
    folder.chmod(0o755)


def delete_views(folder: Path) -> None:
    """Throw the views away."""
    for file in folder.glob("views.db*"):
        file.unlink()


async def test_the_log_reads_the_same_running_and_stopped(tmp_path: Path) -> None:
    """`reyna log` prints what GET events answers, filtered as asked, and needs no studio."""
    data = tmp_path / "data"
    async with program.up(data, SETTINGS) as running:
        _, events = await write(running)
        user_id = events[0]["user_id"]
        own = await reyna("log", "--user", user_id, "--data", data)
        assert (own.status, own.err) == (0, "")
        assert own.lines() == events
        everything = await reyna("log", "--data", data)
    stopped = await reyna("log", "--data", data)
    assert (stopped.status, stopped.out, stopped.err) == (0, everything.out, "")
    seqs = [frame["seq"] for frame in stopped.lines()]
    assert seqs == sorted(seqs)
    late = await reyna("log", "--after", str(seqs[-2]), "--data", data)
    assert late.lines() == events[-1:]
    some = await reyna(
        *("log", "--type", "bucket.created,schema.registered", "--type", "blob.updated"),
        *("--data", data),
    )
    kinds = {"bucket.created", "schema.registered"}
    assert some.lines() == [frame for frame in everything.lines() if frame["type"] in kinds]
    nobody = await reyna("log", "--user", "nobody", "--data", data)
    assert (nobody.status, nobody.out) == (0, "")


async def test_following_the_log_prints_what_comes_and_ends_quietly(tmp_path: Path) -> None:
    """`--follow` goes on with new events until Ctrl-C, which is no failure."""
    async with program.up(tmp_path / "data", SETTINGS) as running:
        user, events = await write(running)
        after = str(events[-1]["seq"])
        follow = ("log", "--follow", "--after", after, "--data", tmp_path / "data")
        async with started(*follow) as following, running.door.client(user.token) as client:
            made = await make_bucket(client, "new")
            assert following.stdout is not None
            async with asyncio.timeout(DEADLINE):
                line = await following.stdout.readline()
            assert msgspec.json.decode(line)["bucket_id"] == made["bucket_id"]
            following.send_signal(signal.SIGINT)
            assert await ended(following) == Ended(0, "", "")


async def test_a_reader_that_leaves_ends_the_log_quietly(folder: Path) -> None:
    """`reyna log | head` is no failure and no complaint, also under --follow."""
    for options in ("", "--follow"):
        script = f'"{REYNA}" log {options} --data "{folder}" | true; exit "${{PIPESTATUS[0]}}"'
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", script),
            env=environment(SETTINGS),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert await ended(process) == Ended(0, "", "")


async def test_replay_and_verify_while_the_studio_runs(tmp_path: Path) -> None:
    """Both work beside a running studio, which goes on; nothing is printed but their result."""
    data = tmp_path / "data"
    async with program.up(data, SETTINGS) as running:
        user, events = await write(running)
        head = events[-1]["seq"]
        rebuilt = await reyna("replay", "--json", "--data", data)
        assert (rebuilt.status, rebuilt.err) == (0, "")
        (done,) = rebuilt.lines()
        assert {one["projection"]: one["position"] for one in done["rebuilt"]} == (
            dict.fromkeys(VIEWS, head)
        )
        verified = await reyna("replay", "--verify", "--json", "--data", data)
        (found,) = verified.lines()
        assert (verified.status, found["same"], found["different"]) == (0, True, [])
        assert {table["projection"] for table in found["tables"]} == VIEWS
        back = await reyna("replay", "content", "--to", str(head - 1), "--data", data)
        assert back.status == 0
        async with running.door.client(user.token) as client:
            blobs = await read(client, "/blobs", head)
            assert len(blobs["items"]) == 3
        assert (await reyna("replay", "--verify", "--data", data)).status == 0


async def test_a_forged_row_is_found_and_mended(folder: Path) -> None:
    """--verify ends with 1 and names the table, changing nothing; a replay mends it."""
    change(folder, "UPDATE blob_versions SET title = 'forged'")
    verified = await reyna("replay", "--verify", "--data", folder)
    assert (verified.status, verified.err) == (1, "")
    different = [line for line in verified.out.splitlines() if "DIFFERENT" in line]
    assert [line.split()[1] for line in different] == ["blob_versions"]
    replayed = await reyna("replay", "content", "--data", folder)
    assert (replayed.status, replayed.err) == (0, "")
    assert "content" in replayed.out
    assert (await reyna("replay", "--verify", "--data", folder)).status == 0


async def test_a_view_as_of_a_time(folder: Path) -> None:
    """--to takes the time of an event as well as its seq, and includes that event."""
    frames = (await reyna("log", "--data", folder)).lines()
    first = next(frame for frame in frames if frame["type"] == "blob.created")
    for moment in (first["time"], str(first["seq"])):
        done = await reyna("replay", "content", "--to", moment, "--json", "--data", folder)
        assert [one["position"] for one in done.lines()[0]["rebuilt"]] == [first["seq"]]
        with closing(sqlite3.connect(folder / "views.db")) as connection:
            assert connection.execute("SELECT count(*) FROM blob_versions").fetchone() == (1,)


async def test_views_that_were_deleted_come_back(tmp_path: Path) -> None:
    """Without views.db a replay makes it again, and so does the next start."""
    data = tmp_path / "data"
    async with program.up(data, SETTINGS) as running:
        user, events = await write(running)
        async with running.door.client(user.token) as client:
            before = await read(client, "/blobs", events[-1]["seq"])
    delete_views(data)
    assert (await reyna("replay", "--data", data)).status == 0
    assert (await reyna("replay", "--verify", "--data", data)).status == 0
    delete_views(data)
    async with program.up(data, SETTINGS) as running, running.door.client(user.token) as client:
        assert await read(client, "/blobs", events[-1]["seq"]) == before
        assert (await reyna("replay", "--verify", "--data", data)).status == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["replay", "nothing"], "content, processors, runs, schemas"),
        (["replay", "--to", "yesterday"], "2026-01-31T12:00:00Z"),
        (["replay", "--to", "2026-01-31T12:00:00"], "2026-01-31T12:00:00Z"),
        (["replay", "--to", "-1"], "-1"),
        (["replay", "--to", "999999"], "beyond the log"),
        (["replay", "--verify", "--to", "3"], "--to"),
        (["log", "--after", "-1"], "--after"),
        (["log", "--type", "blob.*"], "blob.created"),
        (["log", "--user", "a.>"], "not an id"),
        (["doctor", "--fast"], "--fast"),
        (["dance"], "dance"),
    ],
)
async def test_wrong_usage(arguments: list[str], words: str, left: Path) -> None:
    """What cannot be meant ends with 2 and says what could be."""
    wrong = await reyna(*arguments, cwd=left.parent)
    assert (wrong.status, wrong.out) == (2, "")
    assert words in wrong.err
    assert "Traceback" not in wrong.err


async def test_what_is_in_the_way_is_told_in_one_line(folder: Path, tmp_path: Path) -> None:
    """A folder in use, a taken port, a file where a folder should be: one line, what to do, 1."""
    async with program.up(folder, SETTINGS):
        is_one_line(await reyna("up", "--port", "0", "--data", folder), "--data")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        other = tmp_path / "other"
        is_one_line(await reyna("up", "--port", port, "--data", other), port, "--port")
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "data"):
        is_one_line(await reyna("up", "--port", "0", "--data", path), str(path), "--data")


async def test_what_is_missing_is_told_in_one_line(tmp_path: Path) -> None:
    """No log in a folder, no server at an address, a wrong setting: one line, what to do, 1."""
    for command in ("log", "replay"):
        is_one_line(await reyna(command, "--data", tmp_path / "nothing"), "no log", "--data")
    is_one_line(await reyna("log", settings={"REYNA_MAX_DEPTH": "deep"}), "REYNA_MAX_DEPTH")
    elsewhere = {"REYNA_NATS_URL": "nats://127.0.0.1:9"}
    is_one_line(await reyna("log", settings=elsewhere), "127.0.0.1:9", "REYNA_NATS_URL")
    is_one_line(await reyna("replay", settings=elsewhere), "REYNA_DATABASE_URL")


async def test_a_damaged_file_of_views_is_told(folder: Path) -> None:
    """Neither `up` nor `replay` starts on it; both say that it may be deleted."""
    (folder / "views.db").write_bytes(b"no database" * 1000)
    is_one_line(await reyna("replay", "--data", folder), "views.db", "deleted")
    up = await reyna("up", "--port", "0", "--data", folder)
    assert up.status == 1
    assert up.err.splitlines()[-1].startswith("reyna: The views cannot be opened.")
    assert "Traceback" not in up.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_everything_in_order(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and a service manager's stop end with 0, and the nats-server is gone with the rest."""
    async with program.up(tmp_path / "data", SETTINGS) as running:
        address = embedded.read_address(tmp_path / "data" / "nats")
        assert address is not None
        running.process.send_signal(number)
        assert await running.process.wait() == 0
    assert "has stopped" in running.said[-1]
    with pytest.raises(ProcessLookupError):
        os.kill(address.pid, 0)
    assert embedded.read_address(tmp_path / "data" / "nats") is None


async def test_a_signal_while_starting_is_clean(tmp_path: Path) -> None:
    """Stopped before it is ready, it ends with 0 too, and leaves no nats-server."""
    nats = tmp_path / "data" / "nats"
    async with started("up", "--port", "0", "--data", tmp_path / "data") as process:

        async def has_begun() -> bool:
            return (nats / "address.json").exists()

        await eventually(has_begun)
        process.send_signal(signal.SIGTERM)
        stopped = await ended(process)
    assert stopped.status == 0
    assert "Traceback" not in stopped.err
    assert embedded.read_address(nats) is None


async def doctor(*arguments: str | Path, settings: Mapping[str, str] | None = None) -> list[Json]:
    """The doctor's findings; its exit status must be 1 if, and only if, one of them is FAIL."""
    looked = await reyna("doctor", "--json", *arguments, settings=settings)
    assert looked.err == ""
    (report,) = looked.lines()
    findings: list[Json] = report["findings"]
    failed = any(finding["status"] == "FAIL" for finding in findings)
    assert looked.status == (1 if failed else 0)
    assert all(finding["advice"] for finding in findings if finding["status"] == "warn")
    return findings


def told(findings: list[Json], status: str) -> str:
    """What the findings of a status say, and advise."""
    return "\n".join(
        f"{finding['what']} -> {finding['advice']}"
        for finding in findings
        if finding["status"] == status
    )


async def test_the_doctor_finds_a_healthy_folder_healthy(tmp_path: Path) -> None:
    """Running or stopped, all is ok, and the log is as long as before."""
    data = tmp_path / "data"
    settings = {"REYNA_SYNC": "always"}
    async with program.up(data, SETTINGS) as running:
        _, events = await write(running)
        healthy = await doctor("--data", data, settings=settings)
        assert {finding["status"] for finding in healthy} <= {"ok", "warn"}
        assert "runs on it" in told(healthy, "ok")
        for view in VIEWS:
            assert f"the view {view} is at {events[-1]['seq']}, 0 events behind" in (
                told(healthy, "ok")
            )
    stopped = await reyna("doctor", "--data", data, settings=settings)
    assert (stopped.status, stopped.err) == (0, "")
    assert "no `reyna up` runs on it" in stopped.out
    assert f"ends at {events[-1]['seq']}" in stopped.out
    assert {line[:4].strip() for line in stopped.out.splitlines()} <= {"ok", "warn"}


async def test_the_doctor_says_what_is_missing_or_wrong(folder: Path, tmp_path: Path) -> None:
    """Each trouble is named with what to do; what is merely not there yet is no failure."""
    assert "REYNA_MAX_DEPTH" in told(await doctor(settings={"REYNA_MAX_DEPTH": "deep"}), "FAIL")
    fresh = await doctor("--data", tmp_path / "nothing")
    assert told(fresh, "FAIL") == ""
    assert "`reyna up` makes it" in told(fresh, "warn")
    assert not (tmp_path / "nothing").exists()

    spoil(folder)
    ill = await doctor("--data", folder)
    for words in ("content is at 99999, beyond", "has lost the table runs", "`reyna replay runs`"):
        assert words in told(ill, "FAIL")
    for words in (
        "schemas was built by another version",
        "seq 7: a bug",
        "view old is kept",
        "chmod 700",
    ):
        assert words in told(ill, "warn")

    delete_views(folder)
    assert "rebuilds it from the log" in told(await doctor("--data", folder), "warn")
    (folder / "views.db").write_bytes(b"no database" * 1000)
    assert "views.db does not open" in told(await doctor("--data", folder), "FAIL")


async def test_the_doctor_sees_a_stream_that_was_changed(folder: Path) -> None:
    """Events that would be forgotten, or no longer be republished, are a failure."""
    async with embedded.running(folder / "nats", "interval") as server:
        connection = await Connection.open(server.url, server.token)
        manager = connection.client.jetstream()
        found = (await manager.stream_info(STREAM)).config
        changed: api.StreamConfig = found.evolve(republish=None, max_msgs=10_000)
        await manager.update_stream(changed)
        await connection.close()
    failures = told(await doctor("--data", folder), "FAIL")
    assert "republish" in failures
    assert "max_msgs is 10000" in failures
