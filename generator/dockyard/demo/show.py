"""Prints the demo: steps, commands, checked facts. In colour on a terminal, plain elsewhere."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from time import monotonic

from rich.console import Console
from rich.live import Live
from rich.text import Text

COLUMNS = 100
"""No line is wider."""


class Show:
    """The demo's voice, and its memory of what went wrong."""

    def __init__(self) -> None:
        self._out = Console(highlight=False, soft_wrap=True)
        self._step = 0
        self.all_good = True
        """False once a checked fact did not hold."""

    def step(self, title: str) -> None:
        """Begin a step of the story."""
        self._step += 1
        self._out.print()
        self._line(Text(f"{self._step}. {title}", style="bold cyan"))

    def command(self, command: Sequence[str], comment: str = "") -> None:
        """A command as a person would type it."""
        remark = (f"  # {comment}", "dim") if comment else ""
        self._line(Text.assemble(("   $ ", "green"), shlex.join(command), remark))

    def output(self, text: str) -> None:
        """What a program said."""
        for line in text.rstrip().splitlines():
            self._line(Text(_whole_columns(f"     {line.rstrip()}"), style="dim"))

    def change(self, before: str, after: str) -> None:
        """A line of code that is replaced by another."""
        self._line(Text(f"     - {before}", style="red"))
        self._line(Text(f"     + {after}", style="green"))

    def fact(self, text: str, *, good: bool = True) -> None:
        """Something that was checked."""
        self.all_good &= good
        mark, style = ("✓", "green") if good else ("✗", "bold red")
        self._line(Text.assemble("   ", (f"{mark} ", style), text))

    def note(self, text: str) -> None:
        """Something the reader needs to know."""
        self._line(Text(f"   {text}", style="dim"))

    def last(self, text: str, *, good: bool) -> None:
        """The sum of it all."""
        self.all_good &= good
        self._out.print()
        self._line(Text(text, style="bold green" if good else "bold red"))

    @contextmanager
    def stages(self) -> Iterator[Callable[[str], None]]:
        """Gives a function to call with the name of each stage of a job when the stage begins."""
        stages = _Stages(self._out)
        with Live(stages, console=self._out) if self._out.is_terminal else nullcontext():
            try:
                yield stages.begin
            finally:
                stages.end()

    def _line(self, text: Text) -> None:
        text.truncate(COLUMNS, overflow="ellipsis")
        self._out.print(text)


def _whole_columns(line: str) -> str:
    """`line` without the columns of a table that do not fit."""
    if len(line) <= COLUMNS:
        return line
    fitting, gap, _ = line[: COLUMNS - 1].rpartition("  ")
    return f"{fitting}{gap}…" if fitting.strip() else line


class _Stages:
    """A line that grows by each stage and its seconds. On a terminal the seconds tick."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._line = ""
        self._began: float | None = None

    def begin(self, stage: str) -> None:
        self._finish()
        self._add(f" · {stage}" if self._line else f"     {stage}")
        self._began = monotonic()

    def end(self) -> None:
        self._finish()
        if not self._out.is_terminal:
            self._out.print()

    def __rich__(self) -> Text:
        return Text(self._line + self._elapsed(), style="dim")

    def _finish(self) -> None:
        self._add(self._elapsed())
        self._began = None

    def _add(self, text: str) -> None:
        self._line += text
        if not self._out.is_terminal:
            self._out.print(Text(text), end="")

    def _elapsed(self) -> str:
        return "" if self._began is None else f" {monotonic() - self._began:.1f} s"
