"""What a benchmark says: a table on the terminal, and the same figures as JSON. Owns their form."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import click
import msgspec
from rich.console import Console
from rich.table import Table

T = TypeVar("T")

json_option = click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here as well."
)


class Report(msgspec.Struct, frozen=True):
    """The figures of one run: `rows` hold one value a column."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def show(self, json_file: Path | None) -> None:
        """Print the table; with a file, write the figures and the machine there too."""
        table = Table(title=self.title, title_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        console = Console(width=120)
        console.print(table)
        for note in (*self.notes, machine()):
            console.print(note)
        if json_file is not None:
            figures = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
            body = {"title": self.title, "machine": machine(), "figures": figures}
            json_file.write_bytes(msgspec.json.format(msgspec.json.encode(body), indent=2))


def machine() -> str:
    """What this ran on, and how busy it was: one line."""
    load = " ".join(f"{average:.1f}" for average in os.getloadavg())
    python = platform.python_version()
    return f"{os.cpu_count()} cores, {platform.system()}, Python {python}, load {load}"


def median(samples: Iterable[T], of: Callable[[T], float]) -> float:
    """The median of one figure over several samples."""
    return statistics.median(of(sample) for sample in samples)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value that `percent` of the values, in order, do not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def ratio(value: float, beside: float) -> str:
    """`value` as a multiple of `beside`."""
    return f"{value / beside:.2f}x"
