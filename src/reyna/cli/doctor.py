"""`reyna doctor`: looks at everything the studio needs, and says what to do about what is wrong.

It changes nothing and appends nothing; a stopped folder's nats-server runs while it is looked at.
What is looked at, one by one, is `reyna.cli.checks`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import msgspec

from reyna import content
from reyna import settings as settings_module
from reyna.cli import checks, run
from reyna.cli.checks import Finding
from reyna.cli.folder import (
    DEFAULT,
    LogServer,
    accounts_url,
    data_option,
    log_server,
    views_url,
)
from reyna.content import Projection
from reyna.database import open_engine
from reyna.errors import ReynaError, SetupError
from reyna.log.connection import Connection
from reyna.log.inspection import inspect


class Report(msgspec.Struct, frozen=True):
    """What `--json` prints. `status` is that of the worst finding."""

    status: checks.Status
    findings: list[Finding]


@click.command(name="doctor")
@data_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(data: Path | None, as_json: bool) -> None:
    """Check settings, connections, versions and lag; say what to do."""
    findings = run(_examine(data, (lambda _: None) if as_json else _tell))
    status = max((finding.status for finding in findings), key=checks.SEVERITY.index)
    if as_json:
        click.echo(msgspec.json.encode(Report(status, findings)))
    sys.exit(1 if status == "FAIL" else 0)


async def _examine(data: Path | None, tell: Callable[[Finding], None]) -> list[Finding]:
    """Look at everything, as far as one finding does not stand in another's way."""
    findings: list[Finding] = []

    def say(*found: Finding) -> None:
        for finding in found:
            findings.append(finding)
            tell(finding)

    say(*checks.installation())
    try:
        settings = settings_module.load(os.environ)
        say(*checks.settings_found(settings))
        projections = content.projections()
        say(*checks.processors(settings, content.processors()))
    except SetupError as error:
        say(Finding("FAIL", str(error)))
        return findings
    if data is not None or settings.nats_url is None:
        folder = data or DEFAULT
        say(await checks.nats_binary(), *checks.folder(folder))
        if not (folder / "nats").is_dir():
            return findings
    try:
        accounts, views = accounts_url(settings, data), views_url(settings, data)
        say(await _accounts(accounts), opened := await _views(views))
        if opened.status != "ok":
            projections = []
        async with log_server(settings, data) as server:
            await _examine_log(server, views, projections, say)
    except* ReynaError as failed:
        say(*(Finding("FAIL", str(one)) for one in _leaves(failed)))
    return findings


async def _accounts(url: str) -> Finding:
    if_missing = "starting the studio makes it; if there was one, restore it from a backup first"
    return await checks.database(
        "accounts", url, if_missing, "restore it from a backup: it cannot be rebuilt"
    )


async def _views(url: str) -> Finding:
    if_damaged = "see that its server runs; a damaged file may be deleted, and is rebuilt"
    return await checks.database(
        "views", url, "starting the studio rebuilds it from the log", if_damaged
    )


async def _examine_log(
    server: LogServer, views: str, projections: Sequence[Projection], say: Callable[..., None]
) -> None:
    """Look at the log, and at how far those projections are that can be looked at."""
    connection = await Connection.open(server.url, server.token)
    engine = open_engine(views, rebuildable=True)
    try:
        found = await inspect(connection)
        say(*checks.stream(found))
        if found is not None and found.log is not None:
            say(*await checks.schemas(found.log))
            if projections:
                epoch = found.log.epoch
                say(*await checks.projections(engine, projections, epoch, found.head))
    finally:
        await engine.dispose()
        await connection.close()


def _leaves(group: BaseExceptionGroup[ReynaError]) -> Iterator[ReynaError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _tell(finding: Finding) -> None:
    advice = f"  \N{EM DASH} {finding.advice}" if finding.advice else ""
    click.echo(f"{finding.status:<4}  {finding.what}{advice}")
