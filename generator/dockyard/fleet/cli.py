"""The commands `dockyard fleet …`: declares, prints and exits, as `dockyard.cli` does."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dockyard.errors import CannotGoTogether
from dockyard.output import after_the_deed, print_json

if TYPE_CHECKING:
    from dockyard.fleet.roster import Member, Roster
    from dockyard.fleet.status import Aim, Row

_INTERRUPTED = 130

app = typer.Typer(
    help="All services at once: how they stand, one update for all.", no_args_is_help=True
)

_Fleet = Annotated[
    Path,
    typer.Argument(
        metavar="FLEET", help="A fleet file, or a folder: its fleet.toml, else the services in it."
    ),
]
_Group = Annotated[
    list[str] | None, typer.Option(help="Only services of this group; may be given many times.")
]
_To = Annotated[
    str | None,
    typer.Option(metavar="REF", help="The wanted version; without it the newest release."),
]
_Jobs = Annotated[
    int | None,
    typer.Option(min=1, help="Services at a time; without it as many as there are cores."),
]
_InPlace = Annotated[
    bool,
    typer.Option(
        "--in-place/--branch", help="Write to the working trees instead of a branch each."
    ),
]
_PullRequest = Annotated[
    bool,
    typer.Option(
        "--pr", help="Push, and open a pull request with gh or glab; else say where to open it."
    ),
]
_MaxFailures = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="K",
        help="With --verify: begin no further service after more than K failures.",
    ),
]
_Data = Annotated[
    list[str] | None,
    typer.Option(
        metavar="QUESTION=ANSWER",
        help="An answer for every service, also if it has another; may be given many times.",
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of words.")]


@dataclass(frozen=True, slots=True)
class _Found:
    """The rows of a command."""

    rows: "list[Row]"
    is_interrupted: bool
    """Whether Ctrl-C came before all of them were there."""


@app.command()
def status(
    fleet: _Fleet = Path(),
    *,
    group: _Group = None,
    to: _To = None,
    jobs: _Jobs = None,
    json: _Json = False,
) -> None:
    """Version, drift, predicted conflicts and open update branches of every service."""
    whole, members = _chosen(fleet, group)
    found = _surveyed(whole, members, to, jobs)
    _say(
        "status", whole, found, 1 if any(row.needs_somebody for row in found.rows) else 0, json=json
    )


@app.command()
def check(
    fleet: _Fleet = Path(),
    *,
    group: _Group = None,
    to: _To = None,
    jobs: _Jobs = None,
    json: _Json = False,
) -> None:
    """Exit 1 unless every service is current and clean, or keeps the fleet's policy; for CI."""
    whole, members = _chosen(fleet, group)
    found = _surveyed(whole, members, to, jobs)
    is_well = [row.is_well if whole.policy is None else not row.breaches for row in found.rows]
    _say("check", whole, found, 0 if all(is_well) else 1, json=json)


@app.command()
def diff(
    fleet: _Fleet = Path(),
    *,
    group: _Group = None,
    to: _To = None,
    jobs: _Jobs = None,
    json: _Json = False,
) -> None:
    """Show the drift of every service as one patch; with --to, what an update would change."""
    from dockyard.fleet import record, run  # noqa: PLC0415 - nothing heavy before it is used
    from dockyard.programs.tree import shown  # noqa: PLC0415 - as above

    whole, members = _chosen(fleet, group)
    found = []
    for patch in run.patches(members, _aim(whole, to), jobs=_number(jobs)):
        found.append(patch)
        if patch.problem:
            typer.echo(f"dockyard: {shown(patch.name)}: {patch.problem}", err=True)
        if not json:
            # The bytes as they are: a patch of a file in another encoding must still apply.
            typer.get_binary_stream("stdout").write(patch.text)
    code = 1 if any(patch.text or patch.problem for patch in found) else 0
    if json:
        print_json(record.patches(whole, found, exit_code=code))
    raise typer.Exit(code)


@app.command()
def update(
    fleet: _Fleet = Path(),
    *,
    group: _Group = None,
    to: _To = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; say what the update would do.")
    ] = False,
    in_place: _InPlace = False,
    push: Annotated[bool, typer.Option("--push", help="Push each branch to origin.")] = False,
    pr: _PullRequest = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Run each service's own `make test` on the result.")
    ] = False,
    max_failures: _MaxFailures = 0,
    data: _Data = None,
    canary: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="N services first; the others only if all is well."),
    ] = 0,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Update N services at most, others each time."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for another update of this fleet to end.")
    ] = False,
    jobs: _Jobs = None,
    json: _Json = False,
) -> None:
    """Bring every service to a newer version of its template, each on a branch of its own."""
    from dockyard.answers import parse_data  # noqa: PLC0415 - nothing heavy before it is used
    from dockyard.fleet import run, show  # noqa: PLC0415 - as above
    from dockyard.fleet.update import Wish  # noqa: PLC0415 - as above
    from dockyard.fleet.waves import Wave  # noqa: PLC0415 - as above

    wishes = {"--push": push, "--pr": pr, "--verify": verify}
    _refuse_together("--in-place", in_place, wishes, "it makes no branch")
    _refuse_together("--dry-run", dry_run, wishes, "it makes nothing")
    whole, members = _chosen(fleet, group)
    wish = Wish(dry_run=dry_run, in_place=in_place, verify=verify, push=push or pr, pull_request=pr)
    wave = Wave(limit, canary, max_failures, whole.stages)
    with (
        run.exclusively(whole, wait=_waiting if wait else None),
        show.progress("updating", len(members)) as watch,
    ):
        aim = _aim(whole, to, parse_data(data or ()))
        updates = run.update(members, aim, wish, wave, jobs=_number(jobs))
        rows = watch.each(updates)
        found = _collected(members, rows)
    left = any(row.needs_somebody or row.state == "skipped" for row in found.rows)
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
    from dockyard.fleet.report import write  # noqa: PLC0415 - nothing heavy before it is used

    whole, members = _chosen(fleet, group)
    found = _surveyed(whole, members, to, jobs)
    if found.is_interrupted:
        raise typer.Exit(_INTERRUPTED)
    write(html, whole, members, found.rows)
    typer.echo(f"{html} is there: {len(found.rows)} services.")


class _Format(StrEnum):
    """What `export` writes."""

    PROMETHEUS = "prometheus"
    CSV = "csv"


@app.command()
def export(
    fleet: _Fleet = Path(),
    *,
    format_: Annotated[
        _Format, typer.Option("--format", help="Metrics in the text format, or a table.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write it, whole or not at all; else printed."),
    ] = None,
    group: _Group = None,
    to: _To = None,
    jobs: _Jobs = None,
) -> None:
    """Write version, lag and drift of every service, with their age, for other programs."""
    from dockyard.fleet.export import as_csv, as_prometheus  # noqa: PLC0415 - nothing heavy before it is used
    from dockyard.fleet.report import written  # noqa: PLC0415 - as above

    whole, members = _chosen(fleet, group)
    found = _surveyed(whole, members, to, jobs)
    if found.is_interrupted:
        raise typer.Exit(_INTERRUPTED)
    is_csv = format_ is _Format.CSV
    text = as_csv(found.rows) if is_csv else as_prometheus(found.rows, datetime.now(UTC))
    if output is None:
        typer.echo(text, nl=False)
    else:
        written(output, text, "--output")


def _refuse_together(option: str, is_given: bool, others: Mapping[str, bool], why: str) -> None:
    """Raises CannotGoTogether if `option` is given, and one of the `others` is."""
    for other in (other for other, wanted in others.items() if is_given and wanted):
        raise CannotGoTogether(option, other, why)


def _chosen(fleet: Path, groups: Iterable[str] | None) -> "tuple[Roster, tuple[Member, ...]]":
    from dockyard.fleet import roster, show  # noqa: PLC0415 - nothing heavy before it is used

    whole = roster.read(fleet)
    show.left_out(whole.left_out)
    return whole, whole.chosen(groups or ())


def _surveyed(
    whole: "Roster", members: "Sequence[Member]", to: str | None, jobs: int | None
) -> "_Found":
    from dockyard.fleet import run, show  # noqa: PLC0415 - nothing heavy before it is used
    from dockyard.fleet.policy import judged, policy_of  # noqa: PLC0415 - as above

    with show.progress("looking", len(members)) as watch:
        rows = watch.each(run.survey(members, _aim(whole, to), jobs=_number(jobs)))
        found = _collected(members, rows)
    if whole.policy is None:
        return found
    policy, now = policy_of(whole.policy), datetime.now(UTC)
    return _Found([judged(row, policy, now) for row in found.rows], found.is_interrupted)


def _aim(whole: "Roster", to: str | None, data: Mapping[str, str] | None = None) -> "Aim":
    from dockyard.fleet.status import Aim  # noqa: PLC0415 - nothing heavy before it is used

    return Aim(whole.template, to, data or {})


def _waiting(holder: str) -> None:
    typer.echo(f"waiting for {holder}, which updates this fleet", err=True)


def _collected(members: "Sequence[Member]", rows: "Iterable[Row]") -> _Found:
    """The rows in the fleet's order, as many as there are until Ctrl-C."""
    found: dict[str, Row] = {}
    is_interrupted = False
    try:
        for row in rows:
            found[row.name] = row
    except KeyboardInterrupt:
        is_interrupted = True
    return _Found(
        [found[member.name] for member in members if member.name in found], is_interrupted
    )


def _number(jobs: int | None) -> int:
    from dockyard.fleet.pool import default_jobs  # noqa: PLC0415 - nothing heavy before it is used

    return jobs or default_jobs()


def _say(command: str, whole: "Roster", found: _Found, code: int, *, json: bool) -> None:
    from dockyard.fleet import record, show  # noqa: PLC0415 - nothing heavy before it is used

    code = _INTERRUPTED if found.is_interrupted else code
    with after_the_deed():
        if json:
            print_json(record.rows(command, whole, found.rows, exit_code=code))
        else:
            show.rows(found.rows)
    raise typer.Exit(code)
