"""The command line. Owns arguments, terminals and exit statuses: 0 done, 1 failed, 2 wrong usage.

Results go to stdout, everything else to stderr. What a command does is done elsewhere.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Coroutine
from importlib import import_module
from typing import TypeVar, cast

import click

from reyna import __version__
from reyna.errors import ReynaError, SetupError

T = TypeVar("T")
_COMMANDS = {
    "up": "Run everything on this machine.",
    "replay": "Rebuild projections from the log.",
    "log": "Print events, one JSON object a line.",
    "doctor": "Check settings, connections, versions and lag.",
}


class _Lazy(click.Group):
    """Imports a command when it is used: `reyna --help` need not load the server."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order a newcomer needs them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command."""
        if cmd_name not in _COMMANDS:
            return None
        return cast(click.Command, import_module(f"reyna.cli.{cmd_name}").command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `reyna --help`, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Lazy)
@click.version_option(__version__, prog_name="reyna")
@click.option("--verbose", is_flag=True, help="Log more.")
def cli(verbose: bool) -> None:
    """ReYNa Studio: an event-sourced studio for people who make things."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )
    for chatty in ("uvicorn", "httpx", "httpx2", "httpcore", "openai", "aiosqlite", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def main() -> None:
    """The entry point: one line for what a person can mend, no traceback."""
    try:
        cli(standalone_mode=True)
    except ReynaError as error:
        click.echo(f"reyna: {error}", err=True)
        sys.exit(1)
    except ExceptionGroup as group:
        expected, rest = group.split((ReynaError, click.ClickException))
        if rest is not None:
            raise rest from None
        assert expected is not None
        first = _first(expected)
        if isinstance(first, click.ClickException):
            first.show()
            sys.exit(first.exit_code)
        click.echo(f"reyna: {first}", err=True)
        sys.exit(1)


def run(main: Coroutine[object, object, T]) -> T:
    """Run a command's coroutine on uvloop and give what comes of it."""
    if sys.platform == "win32":
        raise SetupError("ReYNa Studio runs on Linux and macOS.")
    import uvloop

    result: T = uvloop.run(main)
    return result


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
