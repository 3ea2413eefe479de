"""The commands `dockyard platform …`: declares, prints and exits, as `dockyard.cli` does."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dockyard.output import after_the_deed, print_json, say

if TYPE_CHECKING:
    from dockyard.servers.findings import Report

app = typer.Typer(
    help="What brokers and stores give to services: made, and checked.", no_args_is_help=True
)

_Urls = Annotated[
    list[str],
    typer.Argument(
        metavar="URL…",
        help="Management API of RabbitMQ (http://…:15672/vhost), nats://, redis://, postgresql://.",
    ),
]
_Services = Annotated[
    list[str],
    typer.Option("--service", metavar="NAME", help="A service; may be given many times."),
]
_Retention = Annotated[
    int,
    typer.Option(
        min=60, help="Seconds that handled events are remembered: CHASSIS_RETENTION_SECONDS."
    ),
]
_WEEK = 604_800


@app.command()
def check(
    urls: _Urls,
    service: _Services,
    nodes: Annotated[
        int | None, typer.Option(min=1, help="Nodes that each of them should have.")
    ] = None,
    retention: _Retention = _WEEK,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of words.")
    ] = False,
) -> None:
    """Check brokers and stores against what services need; changes nothing.

    Looks at versions, nodes, copies, policies, rights and clocks. Each finding says what, where,
    and how to mend it. Exit codes: 0 nothing is wrong, 1 a fault, 2 it could not be checked.
    """
    from dockyard.servers import record, work  # noqa: PLC0415 - nothing heavy before it is used

    reports = work.checked(urls, service, nodes=nodes, retention=retention)
    if json:
        print_json(record.of_reports(reports))
    else:
        for report in reports:
            _show(report)
    if not all(report.good for report in reports):
        raise typer.Exit(1)


def _show(report: "Report") -> None:
    judged = "good" if report.good else "not good"
    said = f"{report.component} at {report.address} is {judged}: {', '.join(report.seen)}"
    typer.echo(_harmless(said))
    for finding in report.findings:
        typer.echo(_harmless(f"  {finding.level}: {finding.where}: {finding.what}"))
        typer.echo(_harmless(f"    mend: {finding.mend}"))


def _harmless(text: str) -> str:
    """Names come from servers: no control character reaches the terminal."""
    return "".join(character if character.isprintable() else "�" for character in text)


@app.command()
def bootstrap(
    urls: Annotated[
        list[str] | None, typer.Argument(metavar="URL…", help="As of `check`, as administrator.")
    ] = None,
    *,
    service: _Services,
    passwords: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="Lines `billing-svc=password`. Missing passwords are made and added.",
        ),
    ],
    into: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Also write the same as files for the servers' configuration."
        ),
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes of NATS; up to three copies.")] = 1,
    connections: Annotated[
        int, typer.Option(min=1, help="Most connections of each service.")
    ] = 100,
    every_replica: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help='A service with delivery="every_replica": NATS gives it rights on all consumers.',
        ),
    ] = None,
    event_bytes: Annotated[
        int | None, typer.Option(min=1_048_576, help="NATS: most bytes of events in the stream.")
    ] = None,
    retention: _Retention = _WEEK,
) -> None:
    """Make streams, bucket, users with least rights and quotas; may run again.

    Passwords go into FILE and nowhere else. The users of NATS are configuration: --into writes it.
    Exit codes: 0 done, 2 refused or not reachable.
    """
    from dockyard.servers import work  # noqa: PLC0415 - nothing heavy before it is used
    from dockyard.servers.needs import Quotas  # noqa: PLC0415 - as above

    quotas = Quotas(connections, retention, event_bytes)
    made = work.bootstrapped(
        urls or [],
        service,
        passwords=passwords,
        into=into,
        nodes=nodes,
        quotas=quotas,
        every_replica=every_replica or [],
    )
    with after_the_deed():
        for line in made:
            typer.echo(_harmless(line))
    if passwords.exists():
        say(f"the passwords are in {passwords}", style="dim")
