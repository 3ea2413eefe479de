"""The commands `dockyard fleet …`. Prints and exits, as `dockyard.cli` does; all work is a call into the core."""

from collections.abc import Iterable, Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dockyard.errors import CannotGoTogether
from dockyard.tree import shown

if TYPE_CHECKING:
    from dockyard.fleet.roster import Member, Roster
    from dockyard.fleet.stand import Aim, Row

app = typer.Typer(help="All services at once: how they stand, one update for all.", no_args_is_help=True)

_Fleet = Annotated[
    Path, typer.Argument(metavar="FLEET", help="A fleet file, or a folder: its fleet.toml, else the services in it.")
]
_Group = Annotated[list[str] | None, typer.Option(help="Only services of this group; may be given many times.")]
_To = Annotated[str | None, typer.Option(metavar="REF", help="The wanted version; without it the newest release.")]
_Jobs = Annotated[int | None, typer.Option(min=1, help="Services at a time; without it as many as there are cores.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of words.")]


@app.command()
def status(
    fleet: _Fleet = Path(), *, group: _Group = None, to: _To = None, jobs: _Jobs = None, json: _Json = False
) -> None:
    """Version, drift, predicted conflicts and open update branches of every service."""
    whole, members = _chosen(fleet, group)
    found = _surveyed(whole, members, to, jobs)
    code = 1 if any(row.needs_somebody for row in found) else 0
    _say("status", whole, found, code, json=json)


@app.command()
def check(
    fleet: _Fleet = Path(), *, group: _Group = None, to: _To = None, jobs: _Jobs = None, json: _Json = False
) -> None:
    """Exit 1 unless every service is current and clean; for CI."""
    whole, members = _chosen(fleet, group)
    found = _surveyed(whole, members, to, jobs)
    _say("check", whole, found, 0 if all(row.is_well for row in found) else 1, json=json)


@app.command()
def diff(fleet: _Fleet = Path(), *, group: _Group = None, to: _To = None, jobs: _Jobs = None) -> None:
    """Show the drift of every service as one patch; with --to, what an update would change."""
    from dockyard.fleet import run  # noqa: PLC0415 - other commands need not wait for it

    whole, members = _chosen(fleet, group)
    code = 0
    for patch in run.patches(members, _aim(whole, to), jobs=_number(jobs)):
        if patch.problem:
            typer.echo(f"dockyard: {shown(patch.name)}: {patch.problem}", err=True)
        # The bytes as they are: a patch of a file in another encoding must still apply.
        typer.get_binary_stream("stdout").write(patch.text)
        code |= 1 if patch.text or patch.problem else 0
    raise typer.Exit(code)


@app.command()
def update(
    fleet: _Fleet = Path(),
    *,
    group: _Group = None,
    to: _To = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing; say what the update would do.")] = False,
    in_place: Annotated[
        bool, typer.Option("--in-place/--branch", help="Write to the working trees instead of a branch each.")
    ] = False,
    push: Annotated[bool, typer.Option("--push", help="Push each branch to origin.")] = False,
    pr: Annotated[
        bool, typer.Option("--pr", help="Push, and open a pull request with gh or glab; else say where to open it.")
    ] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Run each service's own `make test` on the result.")] = False,
    max_failures: Annotated[
        int,
        typer.Option(min=0, metavar="K", help="With --verify: begin no further service after more than K failures."),
    ] = 0,
    canary: Annotated[
        int, typer.Option(min=0, metavar="N", help="N services first; the others only if all is well.")
    ] = 0,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Update N services at most.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for another update of this fleet to end.")] = False,
    jobs: _Jobs = None,
    json: _Json = False,
) -> None:
    """Bring every service to a newer version of its template, each on a branch of its own."""
    from dockyard.fleet import run, show  # noqa: PLC0415 - other commands need not wait for it
    from dockyard.fleet.advance import Wish  # noqa: PLC0415 - as above

    wishes = {"--push": push, "--pr": pr, "--verify": verify}
    for option, why in (("--in-place", "it makes no branch"), ("--dry-run", "it makes nothing")):
        for other, wanted in wishes.items():
            if wanted and (in_place if option == "--in-place" else dry_run):
                raise CannotGoTogether(option, other, why)
    whole, members = _chosen(fleet, group)
    wish = Wish(dry_run=dry_run, in_place=in_place, verify=verify, push=push or pr, offer=pr)
    wave = run.Wave(limit=limit, canary=canary, max_failures=max_failures)
    with run.alone(whole, wait=_waiting if wait else None), show.progress("updating", len(members)) as watch:
        rows = watch.each(run.update(members, _aim(whole, to), wish, wave, jobs=_number(jobs)))
        found = _in_order(members, rows)
    left = any(row.needs_somebody or row.state == "skipped" for row in found)
    _say("update", whole, found, 1 if left else 0, json=json)


@app.command()
def report(
    fleet: _Fleet = Path(),
    *,
    html: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the page.")],
    group: _Group = None,
    to: _To = None,
    jobs: _Jobs = None,
) -> None:
    """Write how the fleet stands as one self-contained page."""
    from dockyard.fleet.report import write  # noqa: PLC0415 - other commands need not wait for it

    whole, members = _chosen(fleet, group)
    found = _surveyed(whole, members, to, jobs)
    write(html, whole, members, found)
    typer.echo(f"{html} is there: {len(found)} services.")


def _chosen(fleet: Path, groups: Iterable[str] | None) -> "tuple[Roster, tuple[Member, ...]]":
    from dockyard.fleet import roster  # noqa: PLC0415 - it needs pydantic, for which other commands need not wait

    whole = roster.read(fleet)
    return whole, whole.chosen(groups or ())


def _surveyed(whole: "Roster", members: "Sequence[Member]", to: str | None, jobs: int | None) -> "list[Row]":
    from dockyard.fleet import run, show  # noqa: PLC0415 - other commands need not wait for it

    with show.progress("looking", len(members)) as watch:
        return _in_order(members, watch.each(run.survey(members, _aim(whole, to), jobs=_number(jobs))))


def _aim(whole: "Roster", to: str | None) -> "Aim":
    from dockyard.fleet.stand import Aim  # noqa: PLC0415 - other commands need not wait for it

    return Aim(whole.template, to, whole.answers)


def _waiting(holder: str) -> None:
    typer.echo(f"waiting for {holder}, which updates this fleet", err=True)


def _in_order(members: "Sequence[Member]", rows: "Iterable[Row]") -> "list[Row]":
    found = {row.name: row for row in rows}
    return [found[member.name] for member in members if member.name in found]


def _number(jobs: int | None) -> int:
    from dockyard.fleet.pool import default_jobs  # noqa: PLC0415 - other commands need not wait for it

    return jobs or default_jobs()


def _say(command: str, whole: "Roster", found: "list[Row]", code: int, *, json: bool) -> None:
    from dockyard.fleet import record, show  # noqa: PLC0415 - other commands need not wait for it

    if json:
        typer.echo(dumps(record.rows(command, whole, found, exit_code=code), indent=2))
    else:
        show.rows(found)
    raise typer.Exit(code)
