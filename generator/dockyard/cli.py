"""The command line: declares the commands, prints and exits. All work is a call into the core.

Exit codes: 0 done, 1 done and something is left for a person, 2 bad input or cannot, 130
interrupted. A command imports what it needs when it runs: nothing heavy comes before it is used.
"""

import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from dockyard.errors import Defect, DockyardError, NobodyToAsk, Refused
from dockyard.fleet import cli as fleet
from dockyard.output import after_the_deed, prepare, print_json, say, warn
from dockyard.servers import cli as servers

_INTERRUPTED = 130

app = typer.Typer(
    help="Lays down an organisation's event-driven services and keeps them alike.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Rich help costs more time to import than all the rest of the command.
    rich_markup_mode=None,
    context_settings={"max_content_width": 100},
)

app.add_typer(fleet.app, name="fleet")
app.add_typer(servers.app, name="platform")


def main() -> None:
    """The console entry: runs a command; turns an error into its sentence and its exit code."""
    prepare()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is signal.SIG_DFL:
            signal.signal(ending, signal.default_int_handler)
    try:
        app()
    except DockyardError as error:
        _fail(error)
    except OSError as error:
        _fail(Refused(error))
    except Exception as error:  # noqa: BLE001 - what nobody foresaw must not look like drift or conflicts
        _fail(Defect(error))
    except SystemExit as ending:
        if ending.code == _INTERRUPTED:
            say("dockyard: interrupted; what was unfinished is removed.", style="red")
        raise


def _fail(error: DockyardError) -> NoReturn:
    say(f"dockyard: {error}", style="red")
    sys.exit(error.exit_code)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - no other command needs it

        typer.echo(f"dockyard {version('dockyard')}")
        raise typer.Exit


_Service = Annotated[Path, typer.Argument(metavar="PATH", help="The service's folder.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of words.")]
_Template = Annotated[
    str | None,
    typer.Option(metavar="SRC", help="The template: a folder, a git URL or gh:owner/name."),
]


@app.callback()
def _dockyard(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Options of every command."""


@app.command()
def new(
    name: Annotated[
        str, typer.Argument(help="The service's name in kebab-case, such as billing-svc.")
    ],
    *,
    into: Annotated[Path, typer.Option(help="The folder for the service.")] = Path(),
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="QUESTION=ANSWER", help="An answer; may be given many times."),
    ] = None,
    defaults: Annotated[
        bool, typer.Option("--defaults", help="Ask nothing: take the defaults.")
    ] = False,
    template: _Template = None,
    ref: Annotated[
        str | None,
        typer.Option(
            help="A tag, branch or commit of the template; without it the newest release."
        ),
    ] = None,
) -> None:
    """Lay down a new service: rendered, locked and committed, or nothing at all."""
    from dockyard import new as services  # noqa: PLC0415 - nothing heavy before it is used
    from dockyard.answers import parse_data  # noqa: PLC0415 - as above
    from dockyard.rendering.source import default_source  # noqa: PLC0415 - as above
    from dockyard.rendering.template import open_template  # noqa: PLC0415 - as above

    path = services.place(name, into)
    answers = parse_data(data or [])
    say("reading the template", style="dim")
    opened = open_template(template or default_source(), ref)
    questions = services.open_questions(opened, answers)
    if questions and not defaults and not sys.stdin.isatty():
        raise NobodyToAsk(questions)
    if uncommitted := opened.uncommitted:
        say(
            f"{uncommitted} uncommitted changes in {opened.source.recorded} are not part of the "
            f"service: it is rendered from {opened.version} as committed.",
            style="yellow",
        )
    created = services.create(
        path, opened, answers, ask=not defaults, progress=lambda step: say(step, style="dim")
    )
    with after_the_deed():
        if created.fallback_identity:
            say(
                "git knows no author, so the first commit bears a neutral one; set user.name and "
                "user.email, then make it yours with `git commit --amend --reset-author`.",
                style="yellow",
            )
        _print_next_steps(created.path, name, opened.version, created.branch)


def _print_next_steps(path: Path, name: str, version: str, branch: str) -> None:
    from rich.console import Console  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    out = Console(highlight=False, soft_wrap=True)
    out.print(
        Text.assemble(
            (f"{name} is there", "bold green"),
            f", from {version}, one commit on {branch}. Try next:\n",
        )
    )
    for command in (f"cd {shlex.quote(os.path.relpath(path))}", "make test", "make dev"):
        out.print(Text(f"  {command}", style="bold"))


@app.command()
def update(
    path: _Service = Path(),
    *,
    to: Annotated[
        str | None,
        typer.Option(metavar="REF", help="A tag, branch or commit; without it the newest release."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; say what the update would do.")
    ] = False,
    in_place: Annotated[
        bool,
        typer.Option(
            "--in-place",
            help="Write to the working tree instead of a branch; leaves conflicts there.",
        ),
    ] = False,
    step: Annotated[
        bool, typer.Option("--step", help="Release by release, a commit each.")
    ] = False,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="QUESTION=ANSWER", help="A new answer; may be given many times."),
    ] = None,
    json: _Json = False,
) -> None:
    """Bring a service to a newer version of its template, as a commit on dockyard/VERSION."""
    from dockyard import commands, record, show  # noqa: PLC0415 - nothing heavy before it is used
    from dockyard.answers import parse_data  # noqa: PLC0415 - as above

    answers = parse_data(data or [])
    done = commands.update(
        path, to=to, data=answers, dry_run=dry_run, in_place=in_place, by_release=step
    )
    code = 1 if done.conflicts else 0
    with after_the_deed():
        warn(done.warnings)
        if json:
            print_json(record.updated(done, exit_code=code))
        else:
            show.updated(done)
        if done.committed is not None and done.committed.fallback_identity:
            say(
                "git knows no author, so the commit bears a neutral one; "
                "set user.name and user.email.",
                style="yellow",
            )
    raise typer.Exit(code)


@app.command()
def check(path: _Service = Path(), *, json: _Json = False) -> None:
    """Say whether a service is outdated or has drifted; for CI."""
    from dockyard import commands, record, show  # noqa: PLC0415 - nothing heavy before it is used

    found = commands.check(path)
    code = 0 if found.is_well else 1
    warn(found.warnings)
    if json:
        print_json(record.checked(found, exit_code=code))
    else:
        show.checked(found)
    raise typer.Exit(code)


@app.command()
def diff(
    path: _Service = Path(),
    *,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="REF", help="Show what an update to this version would change instead."
        ),
    ] = None,
    json: _Json = False,
) -> None:
    """Show the drift of a service as a patch: what it has made of its managed files."""
    from dockyard import commands, record  # noqa: PLC0415 - nothing heavy before it is used

    found = commands.diff(path, to, colour=sys.stdout.isatty() and not json)
    code = 1 if found.patch else 0
    warn(found.warnings)
    if json:
        print_json(record.difference(found, exit_code=code))
    else:
        # The bytes as they are: a patch of a file in another encoding must still apply.
        sys.stdout.buffer.write(found.patch)
    raise typer.Exit(code)


@app.command()
def restore(
    path: _Service = Path(),
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILES]...", help="Managed files or folders; without one, all."),
    ] = None,
    *,
    json: _Json = False,
) -> None:
    """Bring managed files back to what the recorded version rendered."""
    from dockyard import commands, record, show  # noqa: PLC0415 - nothing heavy before it is used

    done = commands.restore(path, [os.path.normpath(name) for name in files or ()])
    with after_the_deed():
        warn(done.warnings)
        if json:
            print_json(record.restored(done))
        else:
            show.restored(done)


@app.command()
def adopt(
    path: _Service = Path(),
    *,
    template: _Template = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="QUESTION=ANSWER", help="An answer that is known; may be given many times."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; say what was found.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a valid answers file.")] = False,
    json: _Json = False,
) -> None:
    """Take in a service without an answers file: find the nearest version and answers."""
    from dockyard import record, show  # noqa: PLC0415 - nothing heavy before it is used
    from dockyard.adopting import adopt as services  # noqa: PLC0415 - as above
    from dockyard.answers import parse_data  # noqa: PLC0415 - as above
    from dockyard.rendering.source import default_source  # noqa: PLC0415 - as above

    answers = parse_data(data or [])
    say("comparing versions and answers with the service's files", style="dim")
    found = services.adopt(
        path,
        template or default_source(),
        answers,
        force=force,
        dry_run=dry_run,
        watch=show.comparing,
    )
    with after_the_deed():
        if json:
            print_json(record.adopted(found))
        else:
            show.adopted(found)


@app.command()
def demo(template: _Template = None) -> None:
    """The whole story on this machine: three services, a broker, kills, dead letters, a ledger."""
    from dockyard.demo.story import play  # noqa: PLC0415 - nothing heavy before it is used

    if not play(template):
        raise typer.Exit(1)
