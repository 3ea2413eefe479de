"""What the demo prints: headings, commands, what they said. Colours on a terminal, plain lines elsewhere."""

import shlex
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text


class Show:
    def __init__(self) -> None:
        self._out = Console(highlight=False, soft_wrap=True)
        self._step = 0
        self.all_good = True
        """False once a checked fact was not as it should be."""

    def step(self, title: str) -> None:
        """Begin a step of the story."""
        self._step += 1
        self._out.print()
        self._out.print(Text(f"{self._step}. {title}", style="bold cyan"))

    def command(self, folder: str, command: Sequence[str]) -> None:
        """A command as somebody would type it in `folder`."""
        self._out.print(
            Text.assemble(
                ("   ", ""), (f"{folder}", "dim"), (" $ ", "green"), (shlex.join(command), "")
            )
        )

    def output(self, text: str, lines: int | None = None) -> None:
        """What a program said; at most `lines` of it."""
        shown = text.rstrip().splitlines()
        for line in shown[:lines]:
            self._out.print(Text(f"     {line}", style="dim"))
        if lines is not None and len(shown) > lines:
            self._out.print(Text(f"     … {len(shown) - lines} more lines", style="dim"))

    def fact(self, text: str, *, good: bool = True) -> None:
        """Something that was checked."""
        self.all_good &= good
        mark, style = ("✓", "green") if good else ("✗", "bold red")
        self._out.print(Text.assemble("   ", (f"{mark} ", style), text))

    def note(self, text: str) -> None:
        self._out.print(Text(f"   {text}", style="dim"))

    def last(self, text: str, *, good: bool) -> None:
        """The sum of it all."""
        self.all_good &= good
        self._out.print()
        self._out.print(Text(text, style="bold green" if good else "bold red"))
