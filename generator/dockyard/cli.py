"""The command line: the only room that asks, prints and exits.

Exit codes: 0 done, 2 bad input or cannot, 130 interrupted. Every command's work is a call into the core.
"""

import os
import shlex
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from dockyard.errors import DockyardError, NobodyToAsk

_INTERRUPTED = 130

app = typer.Typer(
    help="Lays down an organisation's event-driven services and keeps them alike.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)


def main() -> None:
    """The console entry: runs a command and turns a DockyardError into its sentence on stderr and its exit code."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is signal.SIG_DFL:
            signal.signal(ending, signal.default_int_handler)
    try:
        app()
    except DockyardError as error:
        _say(f"dockyard: {error}", style="red")
        sys.exit(error.exit_code)
    except SystemExit as ending:
        if ending.code == _INTERRUPTED:
            _say("dockyard: interrupted; what was unfinished is removed.", style="red")
        raise


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dockyard {version('dockyard')}")
        raise typer.Exit


@app.callback()
def _dockyard(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of every command."""


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The service's name in kebab-case, such as billing-svc.")],
    *,
    into: Annotated[Path, typer.Option(help="The folder to put the service in.")] = Path(),
    data: Annotated[
        list[str] | None, typer.Option(metavar="QUESTION=ANSWER", help="An answer; may be given many times.")
    ] = None,
    defaults: Annotated[bool, typer.Option("--defaults", help="Ask nothing: take the defaults.")] = False,
    template: Annotated[
        str | None, typer.Option(metavar="SRC", help="The template: a folder, a git URL or gh:owner/name.")
    ] = None,
    ref: Annotated[
        str | None, typer.Option(help="A tag, branch or commit of the template; without it the newest release.")
    ] = None,
) -> None:
    """Lay down a new service: rendered, locked and committed, or nothing at all."""
    from dockyard import new as services  # noqa: PLC0415 - other commands need not wait for it
    from dockyard.source import default_source  # noqa: PLC0415 - as above
    from dockyard.template import open_template  # noqa: PLC0415 - as above

    path = services.place(name, into)
    answers = services.parse_data(data or [])
    _say("reading the template", style="dim")
    opened = open_template(template or default_source(), ref)
    questions = services.open_questions(opened, answers)
    if questions and not defaults and not sys.stdin.isatty():
        raise NobodyToAsk(questions)
    if opened.uncommitted:
        _say(
            f"{opened.uncommitted} uncommitted changes in {opened.source.recorded} are not part of the service: "
            f"it is rendered from {opened.version} as committed.",
            style="yellow",
        )
    created = services.create(path, opened, answers, ask=not defaults, progress=lambda step: _say(step, style="dim"))
    if created.fallback_identity:
        _say(
            "git knows no author, so the first commit bears a neutral one; set user.name and user.email, "
            "then make it yours with `git commit --amend --reset-author`.",
            style="yellow",
        )
    folder = shlex.quote(os.path.relpath(created.path))
    out = Console(highlight=False, soft_wrap=True)
    out.print(
        Text.assemble(
            (f"{name} is there", "bold green"), f", from {opened.version}, one commit on {created.branch}. Try next:\n"
        )
    )
    for command in (f"cd {folder}", "make test", "make dev"):
        out.print(Text(f"  {command}", style="bold"))


@app.command()
def demo(
    template: Annotated[
        str | None, typer.Option(metavar="SRC", help="The template: a folder, a git URL or gh:owner/name.")
    ] = None,
) -> None:
    """The whole story on this machine: two services, an embedded broker, kills, dead letters, a ledger."""
    from dockyard.demo.story import play  # noqa: PLC0415 - other commands need not wait for it

    if not play(template):
        raise typer.Exit(1)


def _say(sentence: str, style: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(sentence, style=style))
