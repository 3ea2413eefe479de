"""A fleet's rows in words: a table on a terminal, plain lines elsewhere. Decides nothing."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dockyard.fleet.policy import days, oldest_drift
from dockyard.fleet.scan import LeftOut
from dockyard.fleet.status import Row, State
from dockyard.programs.tree import shown

STYLE = {
    State.CURRENT: "green",
    State.UPDATED: "bold green",
    State.OUTDATED: "yellow",
    State.SKIPPED: "dim",
    State.WAITING: "dim",
    State.BLOCKED: "bold red",
    State.FAILED: "bold red",
    State.FOREIGN: "magenta",
    State.ERROR: "bold red",
}


_MOST_LEFT_OUT = 20


@contextmanager
def progress(what: str, total: int) -> Iterator["Watch"]:
    """A bar on a terminal, elsewhere a line for each service that is done; on standard error."""
    console = Console(stderr=True)
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[at]}"),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        yield Watch(bar, what, total)


class Watch:
    """Shows each service that is done."""

    def __init__(self, bar: Progress, what: str, total: int) -> None:
        self._bar, self._what, self._total = bar, what, total
        self._task = bar.add_task("", total=total, at="")

    def each(self, rows: Iterable[Row]) -> Iterator[Row]:
        for number, row in enumerate(rows, start=1):
            # If nobody reads this, which rich says by an exit, the work goes on.
            with suppress(OSError, SystemExit):
                self._tell(row, number)
            yield row

    def _tell(self, row: Row, number: int) -> None:
        self._bar.update(self._task, advance=1, at=shown(row.name))
        if not self._bar.console.is_terminal:
            line = f"{self._what} {number}/{self._total}: {shown(row.name)} {row.state}"
            self._bar.console.print(Text(line), soft_wrap=True)


def left_out(found: Sequence[LeftOut]) -> None:
    """Folders that are no service of the fleet, on standard error."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    for each in found[:_MOST_LEFT_OUT]:
        console.print(Text(f"left out: {shown(str(each.path))}: {shown(each.why)}", style="dim"))
    if len(found) > _MOST_LEFT_OUT:
        console.print(
            Text(f"left out: {len(found) - _MOST_LEFT_OUT} more, see --json", style="dim")
        )


def rows(found: Sequence[Row]) -> None:
    """The matrix, the remarks, and the sum."""
    out = Console(file=sys.stdout, highlight=False, soft_wrap=not sys.stdout.isatty())
    if out.is_terminal:
        table = Table(
            "service",
            "state",
            "has",
            "wanted",
            "behind",
            "drift",
            "conflicts",
            "branch",
            box=box.SIMPLE_HEAD,
        )
        for row in found:
            table.add_row(*(Text(cell) for cell in _cells(row)), style=STYLE[row.state])
        out.print(table)
    else:
        for row in found:
            out.print(Text("  ".join(cell or "-" for cell in _cells(row))))
    for row in found:
        for line in _remarks(row):
            out.print(
                Text(
                    f"{shown(row.name)}: {line}",
                    style=STYLE[row.state] if row.needs_somebody else "",
                )
            )
    out.print(Text(summary(found), style="bold"))


def summary(found: Sequence[Row]) -> str:
    """How many services are in which state."""
    counts = Counter(row.state for row in found)
    drifted = sum(1 for row in found if row.drift)
    parts = [f"{counts[state]} {state}" for state in State if counts[state]]
    parts += [f"{drifted} with drift"] if drifted else []
    return f"{len(found)} {'service' if len(found) == 1 else 'services'}" + (
        f": {', '.join(parts)}" if parts else ""
    )


def _cells(row: Row) -> tuple[str, ...]:
    cells = (
        row.name,
        row.state,
        row.recorded,
        row.target,
        _aged(row.behind, row.lacking_since),
        _aged(len(row.drift), oldest_drift(row)),
        str(len(row.conflicts) or ""),
        ", ".join(row.branches),
    )
    return tuple(map(shown, cells))


def _aged(count: int, since: datetime | None) -> str:
    """How many, and for how many days if it is not of today."""
    age = days(since, datetime.now(UTC))
    return f"{count} ({age} d)" if count and age else str(count or "")


def _remarks(row: Row) -> Iterator[str]:
    if row.message:
        yield shown(row.message)
    yield from (shown(each) for each in (*row.breaches, *row.waived))
    for path, kind in row.conflicts:
        yield f"conflict in {path} ({kind})"
    for question in row.new_questions:
        yield f"new question {question.name} = {shown(repr(question.answer))}"
    if row.url:
        yield row.url
