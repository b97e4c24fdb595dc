"""`reyna replay`: its arguments, its progress bar and what it prints. The work is
`reyna.runtime.replay`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from reyna import content
from reyna import settings as settings_module
from reyna.cli import run
from reyna.cli.folder import data_option, existing_log, views_url
from reyna.content import Projection
from reyna.database import open_engine
from reyna.errors import SetupError
from reyna.log.stream import Log
from reyna.runtime.proof import Proof, TableProof, conclude
from reyna.runtime.replay import Rebuilt, Replay, Report
from reyna.runtime.views import Views
from reyna.settings import Settings

MAX_DIGITS = 18
SHOWN_HASH = 12
SHOWN_USERS = 20


def _moment(_: click.Context, __: click.Parameter, value: str | None) -> int | datetime | None:
    if value is None:
        return None
    if value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS:
        return int(value)
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise click.BadParameter(f"{value!r} is neither a seq nor a time like 2026-01-31T12:00:00Z.")


class Done(msgspec.Struct, frozen=True):
    """What `--json` prints after a rebuild."""

    rebuilt: list[Rebuilt]


@click.command(name="replay")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--to", "moment", callback=_moment, metavar="SEQ|TIME", help="Up to this seq or time, included."
)
@click.option("--verify", is_flag=True, help="Compare with the live views and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@data_option
def command(
    names: tuple[str, ...],
    moment: int | datetime | None,
    verify: bool,
    as_json: bool,
    data: Path | None,
) -> None:
    """Rebuild projections from the log beside the live ones, then swap.

    All of them, or those named. Processors are never run.
    """
    if verify and moment is not None:
        raise click.UsageError("--verify compares at the position of the live views: drop --to.")
    projections = _chosen(names)
    settings = settings_module.load(os.environ)
    if verify:
        proof = conclude(run(_verify(settings, data, projections)))
        click.echo(msgspec.json.encode(proof) if as_json else _report_verified(proof))
        sys.exit(0 if proof.same else 1)
    done = Done(run(_rebuild(settings, data, projections, moment)))
    click.echo(msgspec.json.encode(done) if as_json else _report(done))
    if any(one.set_aside for one in done.rebuilt):
        click.echo("Some records could not be applied: `reyna doctor` lists them.", err=True)


def _chosen(names: Sequence[str]) -> list[Projection]:
    installed = {projection.name: projection for projection in content.projections()}
    unknown = [name for name in names if name not in installed]
    if unknown:
        raise click.UsageError(
            f"There is no projection {unknown[0]!r}; there are {', '.join(installed)}."
        )
    return [installed[name] for name in dict.fromkeys(names or installed)]


@asynccontextmanager
async def _opened(settings: Settings, data: Path | None) -> AsyncIterator[tuple[Log, Views]]:
    """The log and the views' database of a place."""
    url = views_url(settings, data)
    async with existing_log(settings, data) as log:
        engine = open_engine(url, rebuildable=True)
        try:
            yield log, Views(engine, log.epoch)
        finally:
            await engine.dispose()


async def _rebuild(
    settings: Settings,
    data: Path | None,
    projections: Sequence[Projection],
    moment: int | datetime | None,
) -> list[Rebuilt]:
    async with _opened(settings, data) as (log, views):
        to = await _position(log, moment)
        await views.prepare(projections)
        with _bar("rebuilding") as report:
            return await Replay(log, views).rebuild(projections, to, report)


async def _position(log: Log, moment: int | datetime | None) -> int | None:
    if moment is None:
        return None
    if isinstance(moment, datetime):
        return await log.position_at(moment)
    head = await log.head()
    if moment > head:
        raise click.UsageError(f"--to {moment} is beyond the log, which ends at {head}.")
    return moment


async def _verify(
    settings: Settings, data: Path | None, projections: Sequence[Projection]
) -> list[TableProof]:
    async with _opened(settings, data) as (log, views):
        outdated = await views.prepare(projections)
        if outdated:
            names = " ".join(projection.name for projection in outdated)
            raise SetupError(
                f"Built by another version, or from another log: {names}. "
                f"Rebuild with `reyna replay {names}`."
            )
        with _bar("comparing") as report:
            return await Replay(log, views).verify(projections, report)


@contextmanager
def _bar(doing: str) -> Iterator[Report]:
    """A progress bar on a terminal, else nothing."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(doing, total=None)
        yield lambda reached, aim: progress.update(task, completed=reached, total=aim)


def _report(done: Done) -> str:
    rows = [("projection", "position", "events", "set aside")]
    rows += [(r.projection, str(r.position), str(r.events), str(r.set_aside)) for r in done.rebuilt]
    return _table(rows)


def _report_verified(found: Proof) -> str:
    rows = [("projection", "table", "position", "rows", "users", "live", "from the log", "")]
    for proof in found.tables:
        verdict = "same" if proof.same else "DIFFERENT"
        hashes = (proof.live[:SHOWN_HASH], proof.rebuilt[:SHOWN_HASH])
        counts = (str(proof.position), str(proof.rows), str(proof.users or ""))
        rows.append((proof.projection, proof.table, *counts, *hashes, verdict))
    return "\n".join([_table(rows), *(_named(one) for one in found.tables if one.differing)])


def _named(proof: TableProof) -> str:
    """Whose rows of a table differ."""
    shown = ", ".join(one.user_id for one in proof.differing[:SHOWN_USERS])
    more = proof.users_differing - SHOWN_USERS
    return f"{proof.table} differs for {shown}{f' and {more} more' if more > 0 else ''}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
