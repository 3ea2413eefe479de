"""How commands print. Nothing leaves a command in another way, so nothing leaves it unescaped."""

import sys
from collections.abc import Sequence
from itertools import zip_longest

import typer

from chassis.telemetry.text import harmless, harmless_line


def say(text: str, *, err: bool = False) -> None:
    """Print `text`; what a terminal would act on is escaped."""
    typer.echo(harmless(text), err=err)


def in_a_terminal() -> bool:
    """Whether somebody looks at the output, so that width matters; else a program reads it."""
    return sys.stdout.isatty()


def table(
    rows: Sequence[Sequence[str]], headings: Sequence[str] = (), *, in_one_piece: Sequence[str] = ()
) -> None:
    """Print `rows` in columns: as wide as the terminal, with whole values where there is none.

    In a terminal, values fold within their column, except below the headings `in_one_piece`.
    """
    cells = [[harmless_line(cell) for cell in row] for row in rows]
    if in_a_terminal():
        _fitted(cells, headings, in_one_piece)
        return
    lines = [list(headings), *cells] if headings else cells
    widths = [max(map(len, column)) for column in zip_longest(*lines, fillvalue="")]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=False))
        say("  ".join(padded).rstrip())


def _fitted(
    cells: Sequence[Sequence[str]], headings: Sequence[str], in_one_piece: Sequence[str]
) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=bool(headings))
    for heading in headings:
        table.add_column(heading, no_wrap=heading in in_one_piece, overflow="fold")
    for row in cells:
        table.add_row(*row)
    Console(highlight=False, markup=False, emoji=False).print(table)
